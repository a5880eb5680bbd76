"""feller reproduce."""

import importlib.metadata
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from feller.app.commands.flag_types import Choices, OptionalText, Positional
from feller.core.errors import UsageError

GROUP = "feller.papers"
"""Entry points of distributions with reproductions: each names a mapping from the names of papers to `Paper`s."""
HOLDS, FAILS, UNTESTABLE = "holds", "does not hold", "not testable here"
"""Verdicts."""
CLAIM_FIELDS = ("claim", "paper", "ours", "spread", "verdict")
"""Fields of a claim, as `--json` prints them."""


@runtime_checkable
class Claim(Protocol):
    """One claim of a paper, tested."""

    @property
    def claim(self) -> str:
        """What the paper says."""

    @property
    def paper(self) -> str:
        """The paper's figure or statement."""

    @property
    def ours(self) -> str:
        """What was measured, with units."""

    @property
    def spread(self) -> str:
        """Over which seeds, and how far they differ."""

    @property
    def verdict(self) -> str:
        """`HOLDS`, `FAILS` or `UNTESTABLE`."""


@runtime_checkable
class Paper(Protocol):
    """A paper whose claims can be tested."""

    @property
    def title(self) -> str:
        """Title of the paper."""

    @property
    def arxiv(self) -> str:
        """Number on arXiv."""

    def claims(self, quick: bool, data: pathlib.Path | None, only: str) -> Iterator[Claim]:
        """Yield each claim as soon as it is tested.

        Args:
            quick: One seed and short trainings.
            data: Folder with larger data sets.
            only: Part of the names of tests; empty for all.

        Raises:
            UsageError: If no test has such a name.
        """


def installed_papers() -> dict[str, Paper]:
    """Return the papers of all distributions that are installed, by name."""
    papers_by_name: dict[str, Paper] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        papers: Mapping[str, Paper] = entry.load()
        papers_by_name.update(papers)
    return papers_by_name


def summary(claims: Sequence[Claim], *, quick: bool) -> str:
    """Count the verdicts."""
    counts = [f"{sum(claim.verdict == word for claim in claims)} {word}" for word in (HOLDS, FAILS, UNTESTABLE)]
    failed = any(claim.verdict == FAILS for claim in claims)
    short = (
        "; quick trainings are too short for some claims, which a full run may find to hold" if quick and failed else ""
    )
    return f"{len(claims)} claims: {', '.join(counts)}{short}"


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Test the claims of a paper at laptop scale, beside the paper's figures; without a paper, list them.

    The reproductions are a package of their own: `pip install feller-papers`.
    """

    paper: Positional[Annotated[str, Choices(("all",), ("feller.app.commands.reproduce:installed_papers",))]] = ""
    """Name of a paper in the list, or all."""
    quick: bool = False
    """One seed and short trainings."""
    data: OptionalText = None
    """Folder with larger data sets than those inside the package; claims that need one are not testable without."""
    only: str = ""
    """Part of the names of tests, such as geometry.earth: only their claims are tested."""
    json: bool = False
    """Print the papers or the claims as one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.terminal import make_reporter

        papers = installed_papers()
        if not papers:
            raise UsageError(
                "no reproductions are installed: pip install feller-papers, or, in a clone of feller, ./papers"
            )
        if not self.paper and not (self.quick or self.data or self.only):
            listing = {name: f"{paper.title}, arXiv {paper.arxiv}" for name, paper in papers.items()}
            if not self.json:
                width = max(map(len, listing))
                print("\n".join(f"{name:<{width}}  {about}" for name, about in listing.items()))
            return {"papers": listing}
        if not self.paper:
            raise UsageError(expected=f"the name of a paper: {', '.join(papers)}; or all, one after the other")
        if self.paper != "all" and self.paper not in papers:
            raise UsageError.unknown_name("paper", self.paper, [*papers, "all"])
        data = None if self.data is None else pathlib.Path(self.data)
        if data is not None and not data.is_dir():
            raise UsageError(f"names a folder, and {data} is none", argument="data")
        if self.only and self.paper == "all":
            raise UsageError("needs the name of one paper before it", argument="only")
        reporter = make_reporter()
        claims: list[Claim] = []
        for name, paper in papers.items():
            if self.paper in ("all", name):
                results = paper.claims(self.quick, data, self.only)
                reporter.log(name)
                for claim in results:
                    claims.append(claim)
                    reporter.log(f"\n{claim.claim}")
                    for part in CLAIM_FIELDS[1:]:
                        reporter.log(f"  {part:<8} {getattr(claim, part)}")
        reporter.log(f"\n{summary(claims, quick=self.quick)}")
        return {"claims": [{part: getattr(claim, part) for part in CLAIM_FIELDS} for claim in claims]}
