"""How much is spent on the claims about bridges."""

import pathlib
from dataclasses import dataclass, field, replace

from feller.control.bridges.bridge_config import BridgeSolverConfig


@dataclass(frozen=True)
class Effort:
    """What a bridge is looked for with."""

    rounds: int
    pairs: int = 1024
    control: int = 300
    """Steps of the pinned paths in each round."""
    steps: int = 1500
    """Of the matching in each round."""

    def of(self, how: BridgeSolverConfig) -> BridgeSolverConfig:
        """Return settings with this effort."""
        return replace(
            how,
            rounds=self.rounds,
            pairs=self.pairs,
            control=replace(how.control, steps=self.control),
            train=replace(how.train, steps=self.steps),
        )


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...]
    crowd: Effort = field(default_factory=lambda: Effort(9))
    """On crowds in the plane."""
    mountain: Effort = field(default_factory=lambda: Effort(5, pairs=256, control=200))
    """On ways over a mountain."""
    opinions: Effort = field(default_factory=lambda: Effort(3, control=40, steps=400))
    """On opinions in 1000 dimensions."""
    digits: Effort = field(default_factory=lambda: Effort(3, pairs=512, control=100))
    """On pictures of digits."""
    line: Effort = field(default_factory=lambda: Effort(7, pairs=4096, control=150, steps=600))
    """Between normal laws on the line."""
    cells: Effort = field(default_factory=lambda: Effort(3, pairs=512, control=150, steps=1000))
    """Through the hours of cells."""
    coder: int = 3000
    """Training steps of the autoencoder of digits."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, of those that are not in the package."""
