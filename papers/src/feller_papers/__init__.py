"""Each paper's headline claims at laptop scale, beside the paper's figures."""

import pathlib
from collections.abc import Callable, Iterator

from feller_papers.adjoint_matching import adjoint_matching
from feller_papers.claims import Claim
from feller_papers.cm3leon import cm3leon
from feller_papers.d_flow import d_flow
from feller_papers.flow_matching_guide import flow_matching_guide
from feller_papers.generator_matching import generator_matching
from feller_papers.gsbm import gsbm
from feller_papers.kinetic_optimal import kinetic_optimal
from feller_papers.private_tables import private_tables
from feller_papers.reconstruction_bounds import reconstruction_bounds
from feller_papers.voicebox import voicebox

Reproduction = Callable[[bool, pathlib.Path | None, str], Iterator[Claim]]
"""(quick, folder of larger data, part of the names of tests) -> claims, each as it is tested."""
PAPERS: dict[str, Reproduction] = {
    "flow-matching-guide": flow_matching_guide,
    "kinetic-optimal": kinetic_optimal,
    "generator-matching": generator_matching,
    "adjoint-matching": adjoint_matching,
    "d-flow": d_flow,
    "gsbm": gsbm,
    "cm3leon": cm3leon,
    "voicebox": voicebox,
    "private-tables": private_tables,
    "reconstruction-bounds": reconstruction_bounds,
}
