"""Budgets and sizes of the runs."""

import pathlib
from dataclasses import dataclass, field

from feller.app.workflows.private.privacy_config import PrivacyConfig


@dataclass(frozen=True)
class Budget:
    """Privacy budget of a model."""

    epsilon: float | None
    """None without privacy."""
    delta: float = 1e-5

    @property
    def name(self) -> str:
        """Name in claims."""
        return "no privacy" if self.epsilon is None else f"epsilon {self.epsilon:g}"

    def privacy_config(self, seed: int) -> PrivacyConfig | None:
        """Return the config of a private fit with seeded noise; None without privacy."""
        if self.epsilon is None:
            return None
        return PrivacyConfig(epsilon=self.epsilon, delta=self.delta, unsafe_seed=seed)


STRONG, PAPER, WEAK, NONE = Budget(1.0), Budget(5.0, 1e-6), Budget(10.0), Budget(None)
"""Strong privacy, the budget of the paper's program, weak privacy, and no privacy."""


@dataclass(frozen=True)
class Setting:
    """Data, budgets and sizes of a run."""

    seeds: tuple[int, ...]
    data: pathlib.Path | None = None
    """Folder with the tables that are not in the package."""
    budgets: tuple[Budget, ...] = field(default=(STRONG, PAPER, WEAK, NONE))
    rows: int | None = None
    """Training rows of each table, at most; None for all."""
    size: str = "small"
    """Model size."""
    steps: int | None = None
    """Training steps; None for those of the recipe."""
    batch: int | None = None
    """Batch size, at most; None for that of the recipe."""
    small_rows: int = 2000
    """Training rows of the table "Adult, few rows"."""

    @property
    def is_full(self) -> bool:
        """True if tables and training are not shortened, so that results can be compared with thresholds."""
        return self.rows is None and self.steps is None and self.batch is None
