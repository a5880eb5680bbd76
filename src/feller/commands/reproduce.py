"""feller reproduce."""

import pathlib
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from feller.commands.kinds import Positional, Text
from feller.commands.marks import Offers
from feller.errors import UsageError
from feller.record import nearest


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Test the claims of a paper at laptop scale, beside the paper's figures."""

    deep: ClassVar[str] = ""

    paper: Positional[Annotated[str, Offers(("all",), ("feller_papers:PAPERS",))]] = ""
    """flow-matching-guide, kinetic-optimal, generator-matching, adjoint-matching, d-flow, gsbm, cm3leon, voicebox,
    private-tables, reconstruction-bounds, or all."""
    quick: bool = False
    """One seed and short trainings."""
    data: Text = None
    """Folder with larger data sets than those inside the package; claims that need one are not testable without."""
    only: str = ""
    """Part of the names of tests, such as geometry.earth: only their claims are tested."""
    json: bool = False
    """Print the claims as one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.terminal import speaker
        from feller_papers import PAPERS
        from feller_papers.claims import summary

        if not self.paper:
            raise UsageError(f"name a paper: {', '.join(PAPERS)}; or all, one after the other")
        if self.paper != "all" and self.paper not in PAPERS:
            raise UsageError(f"no paper is called {self.paper!r}: {nearest(self.paper, [*PAPERS, 'all'])}")
        data = None if self.data is None else pathlib.Path(self.data)
        if data is not None and not data.is_dir():
            raise UsageError(f"--data names a folder, and {data} is none")
        if self.only and self.paper == "all":
            raise UsageError("--only needs the name of one paper before it")
        tell = speaker()
        claims = []
        for name, reproduce in PAPERS.items():
            if self.paper in ("all", name):
                found = reproduce(self.quick, data, self.only)
                tell.say(name)
                for claim in found:
                    claims.append(claim)
                    tell.say(f"\n{claim.claim}")
                    for part in ("paper", "ours", "spread", "verdict"):
                        tell.say(f"  {part:<8} {getattr(claim, part)}")
        tell.say(f"\n{summary(claims, quick=self.quick)}")
        return {"claims": [asdict(claim) for claim in claims]}
