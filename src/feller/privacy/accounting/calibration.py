"""Calibration to a privacy budget: the smallest noise multiplier and the largest number of steps."""

import math
from collections.abc import Callable, Sequence

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import FINE_GRID, compute_epsilon, rdp_epsilon
from feller.privacy.accounting.dp_events import DpEvent, PoissonSubsampledGaussian
from feller.privacy.accounting.zcdp import check_epsilon_delta, find_root

EPSILON_TOLERANCE = 2e-3
"""Maximum part of epsilon that a calibrated run leaves unspent."""
SIGMA_DIGITS = 4
"""Significant digits of a calibrated sigma, increased if rounding would leave over `EPSILON_TOLERANCE` unspent."""
MAX_STEPS = 2**40
"""Upper limit of the search for the number of steps."""
MAX_SIGMA = 1e9
"""Upper limit of the search for the noise multiplier sigma."""


def calibrate(
    epsilon: float, delta: float, rate: float, steps: int, others: Sequence[DpEvent] = (), *, bands: int = 1
) -> float:
    """Return the smallest noise multiplier of DP-SGD, rounded up, at which all events together spend at most epsilon.

    Args:
        epsilon: Total budget; at most `EPSILON_TOLERANCE` of it remains unspent.
        delta: Failure probability of the guarantee.
        rate: Sampling rate: probability that a row is in the batch of a step.
        steps: Number of DP-SGD steps.
        others: Other DP events charged to the same budget.
        bands: Number of bands of the matrix that correlates the noise of the steps.

    Raises:
        UsageError: If a value is out of range, the other events alone exceed epsilon, or no sigma is large enough.
    """
    check_epsilon_delta(epsilon, delta)
    _check_remaining(epsilon, delta, others)

    def events_at(sigma: float) -> tuple[DpEvent, ...]:
        return (*others, PoissonSubsampledGaussian("training", sigma, rate, steps, bands))

    def log_ratio_on(grid: float) -> Callable[[float], float]:
        return lambda log_sigma: _log_ratio(compute_epsilon(events_at(math.exp(log_sigma)), delta, grid=grid), epsilon)

    def renyi_log_ratio(log_sigma: float) -> float:
        return _log_ratio(rdp_epsilon(events_at(math.exp(log_sigma)), delta), epsilon)

    high = low = 0.0
    while renyi_log_ratio(high) > 0:
        low, high = high, high + 0.7
        if high > math.log(MAX_SIGMA):
            raise UsageError(
                f"no noise multiplier reaches epsilon {epsilon:g} in {steps:,} steps",
                remedy="Use fewer steps or a larger epsilon",
            )
    coarse = log_ratio_on(min(10 * FINE_GRID, max(FINE_GRID, epsilon / 1000)))
    log_ratio = coarse(low)
    while log_ratio < 0:
        low, high = low - 0.7, low
        log_ratio = coarse(low)
    root, derivative = _root(coarse, low, high)  # in log sigma, on a coarse grid; then one Newton step on the fine grid
    fine = log_ratio_on(FINE_GRID)
    return _rounded_up(root - fine(root) / derivative, derivative, epsilon, fine)


def _log_ratio(spent: float, epsilon: float) -> float:
    return math.log(max(spent, 1e-9 * epsilon) / epsilon)


def _root(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Return the root of a decreasing function and the slope at the root."""
    evaluations: list[tuple[float, float]] = []

    def recording_function(x: float) -> float:
        evaluations.append((x, function(x)))
        return evaluations[-1][1]

    root = find_root(recording_function, low, high, 2e-5)
    (a, f_a), (b, f_b) = sorted(evaluations, key=lambda point: abs(point[0] - root) + (abs(point[0] - root) < 1e-7))[:2]
    derivative = (f_a - f_b) / (a - b) if abs(a - b) > 1e-9 else math.nan
    return root, derivative if math.isfinite(derivative) and derivative < 0 else -1.0


def _rounded_up(log_sigma: float, derivative: float, epsilon: float, log_ratio: Callable[[float], float]) -> float:
    """Return the noise multiplier e^log_sigma, rounded up to `SIGMA_DIGITS` digits.

    More digits are used if the rounding leaves more than a tolerated part of `epsilon` unspent.
    """
    sigma, smallest = math.exp(log_sigma), math.inf
    for digits in range(SIGMA_DIGITS, SIGMA_DIGITS + 4):
        unit = 10.0 ** (math.floor(math.log10(sigma)) + 1 - digits)
        if unit / sigma * -derivative * epsilon > EPSILON_TOLERANCE and digits < SIGMA_DIGITS + 3:
            continue
        multiple, step = math.ceil(sigma / unit - 1e-9), 1
        while (excess := log_ratio(math.log(candidate := float(f"{multiple * unit:.{digits}g}")))) > 0:
            multiple, step = multiple + step, 2 * step
        smallest = min(smallest, candidate)
        if -math.expm1(excess) * epsilon <= EPSILON_TOLERANCE:
            break
    return smallest


def max_steps(
    epsilon: float, delta: float, sigma: float, rate: float, others: Sequence[DpEvent] = (), *, bands: int = 1
) -> int:
    """Return the largest number of steps at which all events together spend at most epsilon; 0 if one step exceeds it.

    Args:
        epsilon: Total budget.
        delta: Failure probability of the guarantee.
        sigma: Noise multiplier of the DP-SGD steps.
        rate: Sampling rate: probability that a row is in the batch of a step.
        others: Other DP events charged to the same budget.
        bands: Number of bands of the matrix that correlates the noise of the steps.

    Raises:
        UsageError: If a value is out of range, or the other events alone exceed epsilon.
    """
    check_epsilon_delta(epsilon, delta)
    _check_remaining(epsilon, delta, others)

    def events(steps: int) -> tuple[DpEvent, ...]:
        return (*others, PoissonSubsampledGaussian("training", sigma, rate, steps, bands))

    def log_ratio(steps: int) -> float:
        return _log_ratio(compute_epsilon(events(steps), delta), epsilon)

    def renyi_fits(steps: int) -> bool:
        return rdp_epsilon(events(steps), delta) <= epsilon

    low = 1
    while renyi_fits(2 * low):
        low *= 2
        if low > MAX_STEPS:
            return low
    if (low_ratio := log_ratio(low)) > 0:
        return 0
    high = low + 1
    while (high_ratio := log_ratio(high)) <= 0:
        next_high = max(high + 1, min(2 * high, math.ceil(high * math.exp(-1.1 * high_ratio))))
        low, low_ratio, high = high, high_ratio, next_high
    while high - low > 1:
        fraction = -low_ratio / (high_ratio - low_ratio)
        middle = min(max(int(low * (high / low) ** fraction), low + 1), high - 1)
        if (ratio := log_ratio(middle)) <= 0:
            low, low_ratio = middle, ratio
        else:
            high, high_ratio = middle, ratio
    return low


def _check_remaining(epsilon: float, delta: float, others: Sequence[DpEvent]) -> None:
    if others and (spent := compute_epsilon(tuple(others), delta)) >= epsilon:
        raise UsageError(
            f"the events other than training already spend epsilon {spent:.4g} of {epsilon:g}",
            remedy="Raise epsilon, or reduce those events",
        )
