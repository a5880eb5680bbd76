"""Command `feller reproduce`."""

import importlib.metadata
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from feller.app.commands.flag_types import Choices, OptionalText, Positional
from feller.core.errors import UsageError

GROUP = "feller.papers"
"""Name of the entry point group for packages with reproductions; each entry point is a dict from names to `Paper`
objects."""
HOLDS, FAILS, UNTESTABLE = "holds", "does not hold", "not testable here"
"""Possible verdicts on a claim."""
CLAIM_FIELDS = ("claim", "paper", "ours", "spread", "verdict")
"""Names of the fields of a claim in the JSON output, in order."""


@runtime_checkable
class Claim(Protocol):
    """Protocol of a tested claim of a paper."""

    @property
    def claim(self) -> str:
        """Statement of the claim."""

    @property
    def paper(self) -> str:
        """Value or statement published in the paper."""

    @property
    def ours(self) -> str:
        """Value measured with feller, with units."""

    @property
    def spread(self) -> str:
        """Text with the number of random seeds and the variation of the measured value across these seeds."""

    @property
    def verdict(self) -> str:
        """Verdict: `HOLDS`, `FAILS` or `UNTESTABLE`."""


@runtime_checkable
class Paper(Protocol):
    """Protocol of a paper whose claims can be tested."""

    @property
    def title(self) -> str:
        """Title of the paper."""

    @property
    def arxiv(self) -> str:
        """Identifier of the paper on arXiv; empty for claims that are not from a paper."""

    def claims(self, quick: bool, data: pathlib.Path | None, only: str) -> Iterator[Claim]:
        """Yield each claim as soon as its test has finished.

        Args:
            quick: Use a single seed and short training.
            data: Folder with larger data sets.
            only: Substring of test names to select; empty for all.

        Raises:
            UsageError: If no test name contains `only`.
        """


def installed_papers() -> dict[str, Paper]:
    """Return the papers of all installed reproduction packages, by name."""
    papers_by_name: dict[str, Paper] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        papers: Mapping[str, Paper] = entry.load()
        papers_by_name.update(papers)
    return papers_by_name


def heading(paper: Paper) -> str:
    """Return the title of a paper with its identifier on arXiv, if it has one."""
    return f"{paper.title}, arXiv {paper.arxiv}" if paper.arxiv else paper.title


def summary(claims: Sequence[Claim], *, quick: bool) -> str:
    """Return a one-line summary with the number of claims for each verdict.

    With `quick`, which means that training was short, the line also says that failed claims may need a full run.
    """
    counts = [
        f"{sum(claim.verdict == verdict for claim in claims)} {verdict}" for verdict in (HOLDS, FAILS, UNTESTABLE)
    ]
    failed = any(claim.verdict == FAILS for claim in claims)
    note = "; some claims need the longer trainings of a full run" if quick and failed else ""
    return f"{len(claims)} claims: {', '.join(counts)}{note}"


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Test the claims of a paper at laptop scale, next to the published values; without a paper, list the papers.

    The reproductions are a separate package: `pip install feller-papers`.
    """

    paper: Positional[Annotated[str, Choices(("all",), ("feller.app.commands.reproduce:installed_papers",))]] = ""
    """Name of a paper from the list, or `all`."""
    quick: bool = False
    """Use a single seed and short training."""
    data: OptionalText = None
    """Folder with data sets larger than the built-in examples; claims that need them are otherwise not testable."""
    only: str = ""
    """Run only the tests whose names contain this text, such as geometry.earth."""
    json: bool = False
    """Print the papers or claims as one JSON object on the last line of standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        from feller.app.terminal import make_reporter

        papers = installed_papers()
        if not papers:
            raise UsageError(
                "no reproductions are installed; run `pip install feller-papers`, or `pip install ./papers` in a clone"
                " of feller"
            )
        if not self.paper and not (self.quick or self.data or self.only):
            listing = {name: heading(paper) for name, paper in papers.items()}
            if not self.json:
                width = max(map(len, listing))
                print("\n".join(f"{name:<{width}}  {description}" for name, description in listing.items()))
            return {"papers": listing}
        if not self.paper:
            raise UsageError(expected=f"the name of a paper: {', '.join(papers)}; or all")
        if self.paper != "all" and self.paper not in papers:
            raise UsageError.unknown_name("paper", self.paper, [*papers, "all"])
        data = None if self.data is None else pathlib.Path(self.data)
        if data is not None and not data.is_dir():
            raise UsageError("an existing folder", str(data), argument="data")
        if self.only and self.paper == "all":
            raise UsageError("requires the name of one paper", argument="only")
        reporter = make_reporter()
        claims: list[Claim] = []
        for name, paper in papers.items():
            if self.paper in ("all", name):
                results = paper.claims(self.quick, data, self.only)
                reporter.log(name)
                for claim in results:
                    claims.append(claim)
                    reporter.log(f"\n{claim.claim}")
                    for field_name in CLAIM_FIELDS[1:]:
                        reporter.log(f"  {field_name:<8} {getattr(claim, field_name)}")
        reporter.log(f"\n{summary(claims, quick=self.quick)}")
        return {"claims": [{field_name: getattr(claim, field_name) for field_name in CLAIM_FIELDS} for claim in claims]}
