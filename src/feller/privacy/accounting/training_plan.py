"""Choice of batch size and number of DP-SGD steps for a privacy budget and a number of processed examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from feller.core.errors import check_number
from feller.privacy.accounting.calibration import calibrate
from feller.privacy.accounting.dp_events import DpEvent

MIN_STEPS = 25
"""Smallest number of steps that is considered."""
MIN_BATCH = 16
"""Smallest batch size that is considered."""
NOISE_TOLERANCE = 1.1
"""Largest noise of a chosen plan, as a multiple of the least noise of all plans."""


@dataclass(frozen=True)
class TrainingPlan:
    """Batch size, number of steps and calibrated noise of a DP-SGD training."""

    batch: int
    """Expected batch size."""
    steps: int
    sigma: float
    """Noise multiplier."""

    @property
    def step_noise(self) -> float:
        """Standard deviation of the noise of a mean gradient, in units of the clipping norm."""
        return self.sigma / self.batch

    @property
    def total_noise(self) -> float:
        """Standard deviation of the noise of the mean of all gradients, in units of the clipping norm."""
        return self.sigma / (self.batch * math.sqrt(self.steps))


def training_plans(
    epsilon: float, delta: float, n: int, examples: int, others: Sequence[DpEvent] = ()
) -> tuple[TrainingPlan, ...]:
    """Return plans that spend the same epsilon and process the same number of examples; the number of steps doubles.

    Args:
        epsilon: Total budget.
        delta: Failure probability of the guarantee.
        n: Number of rows.
        examples: Batch size times number of steps, which determines the time of the training.
        others: Other DP events charged to the same budget.

    Raises:
        UsageError: If a value is out of range.
    """
    check_number("n", n, ge=MIN_BATCH)
    check_number("examples", examples, ge=MIN_STEPS * MIN_BATCH)
    steps, plans = max(MIN_STEPS, math.ceil(examples / n)), []
    while (batch := min(n, examples // steps)) >= MIN_BATCH:
        plans.append(TrainingPlan(batch, steps, calibrate(epsilon, delta, batch / n, steps, others)))
        steps *= 2
    return tuple(plans)


def choose_plan(plans: Sequence[TrainingPlan]) -> TrainingPlan:
    """Return the plan with the most steps among those with about the least noise of the mean of all gradients.

    Smaller batches are amplified by sampling until the noise multiplier cannot decrease any more; from then on, more
    steps only add noise.
    """
    least = min(plan.total_noise for plan in plans)
    return max((plan for plan in plans if plan.total_noise <= NOISE_TOLERANCE * least), key=lambda plan: plan.steps)
