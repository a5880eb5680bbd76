"""How much is spent on the claims about tuning to a reward."""

import pathlib
from dataclasses import dataclass, field

from feller.control.fine_tuning.adjoint_matching import LandingAdjoint
from feller_papers.adjoint_matching.handwriting import Effort


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...]
    short: int
    """Rounds of the mixture, of 256 roll-outs."""
    long: int
    """Rounds of the mixture where more is spent, of 512 roll-outs."""
    fine: int = 2000
    """Steps of what is solved rather than learned."""
    cells: int = 1401
    """Of a grid on a line."""
    drawn: int = 10_000
    """Points in a set of samples."""
    base: int = 10_000
    """Training steps of the model of digits that is tuned."""
    lean: Effort = field(default_factory=lambda: Effort(160, lr=1e-3))
    """On digits of some classes, as the paper has it."""
    near: Effort = field(
        default_factory=lambda: Effort(120, steps=40, adjoint=LandingAdjoint(), lr=4e-4, average=0.985, share=0.5)
    )
    """On the same, to come near the tilted law."""
    inked: Effort = field(default_factory=lambda: Effort(240, 256, lr=1e-3, average=0.99, replay=4))
    """On digits with more ink."""
    collapsing: int = 150
    """Of direct gradients that nobody stops."""
    early: tuple[int, ...] = (10, 14, 18, 24)
    """Of direct gradients that are stopped."""
    most: int = 1000
    """Rounds of any tuning where one change at a time is tried."""
    seen: int = 1500
    """Digits in a set of samples: distances of sets of other sizes cannot be compared."""
    weighed: int = 20_000
    """Samples of the base that are weighed by their reward."""
    forked: int = 500
    """Roll-outs from whose states two futures go on."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, of those that are not in the package."""
