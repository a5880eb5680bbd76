"""How much is spent on the claims about private tables, and what of privacy."""

import pathlib
from dataclasses import dataclass, field

from feller.app.workflows.private.privacy_config import PrivacyConfig


@dataclass(frozen=True)
class Budget:
    """What of privacy a model may spend."""

    epsilon: float | None
    """None: there is no privacy."""
    delta: float = 1e-5

    @property
    def name(self) -> str:
        """What people call it."""
        return "no privacy" if self.epsilon is None else f"epsilon {self.epsilon:g}"

    def wish(self, seed: int) -> PrivacyConfig | None:
        """Return what is asked of a fit; the noise comes from a seed, so that figures can be had again."""
        if self.epsilon is None:
            return None
        return PrivacyConfig(epsilon=self.epsilon, delta=self.delta, unsafe_seed=seed)


STRONG, PAPER, WEAK, NONE = Budget(1.0), Budget(5.0, 1e-6), Budget(10.0), Budget(None)
"""That of the paper's program, between a stronger and a weaker one."""


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...]
    data: pathlib.Path | None = None
    """Folder with the larger tables."""
    budgets: tuple[Budget, ...] = field(default=(STRONG, PAPER, WEAK, NONE))
    rows: int | None = None
    """Of each table that is learned from; None for all."""
    size: str = "small"
    """Of the models."""
    steps: int | None = None
    """Of those that are trained; None for those of their recipes."""
    batch: int | None = None
    """Rows of a step; None likewise."""
    small: int = 2000
    """Rows of a table that is called small."""

    @property
    def whole(self) -> bool:
        """Whether figures can be held against those that were set for whole tables and trainings."""
        return self.rows is None and self.steps is None and self.batch is None
