"""Reproductions: each paper's headline claims at laptop scale, beside the paper's figures."""

import pathlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass

from feller_papers.claims import Claim


@dataclass(frozen=True)
class Paper:
    """A paper whose claims are tested."""

    title: str
    arxiv: str
    """Number on arXiv; empty for claims that are not from a paper."""
    tests: str
    """module:function that yields the claims; imported when they are tested, so that a list of papers takes no time."""

    def claims(self, quick: bool, data: pathlib.Path | None, only: str) -> Iterator[Claim]:
        """Yield each claim as soon as it is tested.

        Args:
            quick: One seed and short trainings.
            data: Folder with larger data sets.
            only: Part of the names of tests, `subject.test`; empty for all.

        Raises:
            UsageError: If no test has such a name.
        """
        return pkgutil.resolve_name(self.tests)(quick, data, only)


PAPERS = {
    "flow-matching-guide": Paper(
        "Flow Matching Guide and Code", "2412.06264", "feller_papers.flow_matching_guide:flow_matching_guide"
    ),
    "kinetic-optimal": Paper(
        "Flow Matching with General Discrete Paths", "2412.03487", "feller_papers.kinetic_optimal:kinetic_optimal"
    ),
    "generator-matching": Paper(
        "Generator Matching", "2410.20587", "feller_papers.generator_matching:generator_matching"
    ),
    "adjoint-matching": Paper("Adjoint Matching", "2409.08861", "feller_papers.adjoint_matching:adjoint_matching"),
    "d-flow": Paper("D-Flow", "2402.14017", "feller_papers.d_flow:d_flow"),
    "gsbm": Paper("Generalized Schrödinger Bridge Matching", "2310.02233", "feller_papers.gsbm:gsbm"),
    "cm3leon": Paper(
        "Scaling autoregressive multi-modal models (CM3Leon)", "2309.02591", "feller_papers.cm3leon:cm3leon"
    ),
    "voicebox": Paper(
        "Text-guided multilingual universal speech generation at scale (Voicebox)",
        "2306.15687",
        "feller_papers.voicebox:voicebox",
    ),
    "private-tables": Paper(
        "Privately generating tabular data using language models",
        "2306.04803",
        "feller_papers.private_tables:private_tables",
    ),
    "reconstruction-bounds": Paper(
        "Bounding training data reconstruction in private (deep) learning",
        "2201.12383",
        "feller_papers.reconstruction_bounds:reconstruction_bounds",
    ),
    "beyond": Paper("Beyond the papers", "", "feller_papers.beyond:beyond"),
}
"""All reproductions by name: what the entry point `feller.papers` names."""
