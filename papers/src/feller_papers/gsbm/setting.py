"""Budgets of the claims about bridges."""

import pathlib
from dataclasses import dataclass, field, replace

from feller.control.bridges.bridge_config import BridgeSolverConfig


@dataclass(frozen=True)
class Budget:
    """Budget of one bridge."""

    rounds: int
    pairs: int = 1024
    control_steps: int = 300
    """Optimisation steps of the pinned paths per round."""
    steps: int = 1500
    """Training steps of the drift per round."""

    def apply(self, config: BridgeSolverConfig) -> BridgeSolverConfig:
        """Return a solver config with this budget."""
        return replace(
            config,
            rounds=self.rounds,
            pairs=self.pairs,
            control=replace(config.control, steps=self.control_steps),
            train=replace(config.train, steps=self.steps),
        )


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    seeds: tuple[int, ...]
    crowd: Budget = field(default_factory=lambda: Budget(9))
    """Crowds in the plane."""
    mountain: Budget = field(default_factory=lambda: Budget(5, pairs=256, control_steps=200))
    """Paths over a mountain."""
    opinions: Budget = field(default_factory=lambda: Budget(3, control_steps=40, steps=400))
    """Opinions in 1000 dimensions."""
    digits: Budget = field(default_factory=lambda: Budget(3, pairs=512, control_steps=100))
    """Images of digits."""
    line: Budget = field(default_factory=lambda: Budget(7, pairs=4096, control_steps=150, steps=600))
    """Gaussians in one dimension."""
    cells: Budget = field(default_factory=lambda: Budget(3, pairs=512, control_steps=150, steps=1000))
    """Time course of cells."""
    autoencoder_steps: int = 3000
    """Training steps of the autoencoder."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, which are not in the package."""
