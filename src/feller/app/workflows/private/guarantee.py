"""What privacy was planned for a run."""

import math
from dataclasses import dataclass

from feller.core.errors import UsageError
from feller.privacy.accounting.dp_events import Subsampled


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What was planned; a run's record holds it."""

    epsilon: float
    """That is never spent more than."""
    delta: float
    n: int
    """Rows that are learned from, which is taken for public."""
    sigma: float
    """Noise of the gradients, in clip norms."""
    clip: float
    """Longest gradient of one row; of the first step where it adapts."""
    adaptive: bool = False
    """Whether the clip follows the middle of the lengths."""
    batch: int
    """Rows of a step on average: each is in it with the chance batch / n."""
    steps: int
    """At most."""
    by_noise: bool = False
    """Whether the noise was given, and not chosen for epsilon."""
    unsafe_seed: int | None = None
    """Seed from which anybody can tell the noise; None where nobody can."""

    @property
    def step(self) -> Subsampled:
        """What one step costs."""
        return Subsampled("training", self.sigma, self.batch / self.n, 1)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What was planned for rows that are counted and not trained on; a run's record holds it."""

    epsilon: float
    """That is never spent more than."""
    delta: float
    n: int
    """Rows that are counted, which is taken for public."""
    rho: float
    """What the counts may cost, in zero-concentrated privacy."""
    unsafe_seed: int | None = None
    """Seed from which anybody can tell the noise; None where nobody can."""

    def __post_init__(self) -> None:
        if not 0 < self.rho < math.inf:
            raise UsageError(f"what counts may cost must be finite and above 0, got {self.rho:g}")
