"""Each paper's headline claims at laptop scale, beside the paper's figures."""

from collections.abc import Callable

from feller.reproduce.claims import Claim
from feller.reproduce.flow_matching_guide import flow_matching_guide

PAPERS: dict[str, Callable[[bool, Callable[[str], None]], list[Claim]]] = {"flow-matching-guide": flow_matching_guide}
"""Name -> (quick, what hears each finished claim) -> claims."""
