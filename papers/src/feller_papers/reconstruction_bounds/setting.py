"""Budgets of the claims about reconstruction bounds."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingPlan:
    """Hyperparameters of a private training with tracked rows."""

    batch: int
    """Expected batch size."""
    epochs: int
    lr: float
    momentum: float
    clip: float
    sigma: float
    """Noise multiplier."""
    delta: float
    num_tracked: int
    """Number of tracked rows."""
    track_every: int
    """Steps between tracking updates."""
    min_accuracy: float
    """Smallest useful accuracy."""

    def steps(self, n: int) -> int:
        """Return the number of steps for n rows."""
        return self.epochs * n // self.batch


LARGE = TrainingPlan(600, 50, 0.03, 0.5, 8.0, 0.5, 1e-9, num_tracked=256, track_every=5, min_accuracy=0.95)
"""Plan of the paper's code for MNIST."""
SMALL = TrainingPlan(144, 15, 0.5, 0.5, 2.0, 0.5, 1e-5, num_tracked=64, track_every=1, min_accuracy=0.85)
"""Plan for the digits of the package."""


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    data: pathlib.Path | None = None
    """Folder with the larger images."""
    seed: int = 0
    draws: int = 10_000
    """Number of noisy weights for the attack."""
    trials: int = 1_000
    """Number of attacks on small problems."""
    large: TrainingPlan | None = LARGE
    """Plan for the larger images; None uses the digits of the package."""
    small: TrainingPlan = SMALL
    rows: int = 100
    """Rows per noise in gradient inversion."""
