"""How much is spent on the claims about bounds of reconstruction."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """A private training, and who is watched in it."""

    batch: int
    """Rows of a step, on average."""
    epochs: int
    lr: float
    momentum: float
    clip: float
    sigma: float
    """Noise, in clip norms."""
    delta: float
    watched: int
    """Rows."""
    every: int
    """So many steps are looked at once."""
    useful: float
    """Accuracy from which on a model is of use."""

    def steps(self, n: int) -> int:
        """Return how many steps so many epochs of n rows take."""
        return self.epochs * n // self.batch


LARGE = Plan(600, 50, 0.03, 0.5, 8.0, 0.5, 1e-9, watched=256, every=5, useful=0.95)
"""That of the paper's program for MNIST."""
SMALL = Plan(144, 15, 0.5, 0.5, 2.0, 0.5, 1e-5, watched=64, every=1, useful=0.85)
"""For the digits of the package."""


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    data: pathlib.Path | None = None
    """Folder with the larger pictures."""
    seed: int = 0
    draws: int = 10_000
    """Noisy weights that an attacker sees."""
    trials: int = 1_000
    """Of attacks on small problems."""
    large: Plan | None = LARGE
    """Training on the larger pictures; None leaves it to the digits of the package."""
    small: Plan = SMALL
    rows: int = 100
    """That are read from gradients, at each noise."""
