"""The noise that a budget allows, and the steps."""

import math
from collections.abc import Callable, Sequence

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import FINEST, epsilon_by_renyi
from feller.privacy.accounting.accountant import epsilon as epsilon_spent
from feller.privacy.accounting.dp_events import Expense, Subsampled
from feller.privacy.accounting.zcdp import check_target, root

SPARE = 2e-3
"""Of epsilon, that a calibrated run leaves unspent, at most."""
DIGITS = 4
"""Significant digits of a calibrated sigma; more where a step of the last would leave more than that unspent."""
MOST_STEPS = 2**40
"""Steps beyond which nothing is looked for."""
WIDEST = 1e9
"""Sigma beyond which nothing is looked for."""


def calibrate(epsilon: float, delta: float, rate: float, steps: int, others: Sequence[Expense] = ()) -> float:
    """Return the smallest sigma, rounded up, at which the steps and all others spend at most epsilon.

    Args:
        epsilon: To be spent in all, up to `SPARE`.
        delta: Chance that the guarantee does not cover.
        rate: Chance of a row to be in the sample of a step.
        steps: How many.
        others: What else is paid for.

    Raises:
        UsageError: If a number is out of its range, or the others alone spend it all.
    """
    check_target(epsilon, delta)
    _leave_room(epsilon, delta, others)

    def at(sigma: float) -> tuple[Expense, ...]:
        return (*others, Subsampled("training", sigma, rate, steps))

    def over(grid: float) -> Callable[[float], float]:
        return lambda log: _log_ratio(epsilon_spent(at(math.exp(log)), delta, grid=grid), epsilon)

    def renyi_over(log: float) -> float:
        return _log_ratio(epsilon_by_renyi(at(math.exp(log)), delta), epsilon)

    high = low = 0.0
    while renyi_over(high) > 0:
        low, high = high, high + 0.7
        if high > math.log(WIDEST):
            raise UsageError(
                f"no noise brings {steps:,} steps down to epsilon {epsilon:g}", remedy="Take fewer, or a larger one"
            )
    coarse = over(min(10 * FINEST, max(FINEST, epsilon / 1000)))
    value = coarse(low)
    while value < 0:
        low, high = low - 0.7, low
        value = coarse(low)
    near, slope = _root(coarse, low, high)
    fine = over(FINEST)
    return _rounded_up(near - fine(near) / slope, slope, epsilon, fine)


def _log_ratio(spent: float, epsilon: float) -> float:
    return math.log(max(spent, 1e-9 * epsilon) / epsilon)


def _root(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Return where a falling function is zero, and its slope there."""
    seen: list[tuple[float, float]] = []

    def watched(x: float) -> float:
        seen.append((x, function(x)))
        return seen[-1][1]

    found = root(watched, low, high, 2e-5)
    (a, f_a), (b, f_b) = sorted(seen, key=lambda point: abs(point[0] - found) + (abs(point[0] - found) < 1e-7))[:2]
    slope = (f_a - f_b) / (a - b) if abs(a - b) > 1e-9 else math.nan
    return found, slope if math.isfinite(slope) and slope < 0 else -1.0


def _rounded_up(log: float, slope: float, epsilon: float, over: Callable[[float], float]) -> float:
    """Return a number of few digits, at the root or above, that leaves no more than what may be spared."""
    sigma, found = math.exp(log), math.inf
    for digits in range(DIGITS, DIGITS + 4):
        unit = 10.0 ** (math.floor(math.log10(sigma)) + 1 - digits)
        if unit / sigma * -slope * epsilon > SPARE and digits < DIGITS + 3:
            continue
        rounded, step = math.ceil(sigma / unit - 1e-9), 1
        while (left := over(math.log(number := float(f"{rounded * unit:.{digits}g}")))) > 0:
            rounded, step = rounded + step, 2 * step
        found = min(found, number)
        if -math.expm1(left) * epsilon <= SPARE:
            break
    return found


def steps_within(epsilon: float, delta: float, sigma: float, rate: float, others: Sequence[Expense] = ()) -> int:
    """Return the most steps that, with all others, spend at most epsilon; 0 if not one does.

    Raises:
        UsageError: If a number is out of its range, or the others alone spend it all.
    """
    check_target(epsilon, delta)
    _leave_room(epsilon, delta, others)

    def over(steps: int) -> float:
        return _log_ratio(epsilon_spent((*others, Subsampled("training", sigma, rate, steps)), delta), epsilon)

    def renyi_fits(steps: int) -> bool:
        return epsilon_by_renyi((*others, Subsampled("training", sigma, rate, steps)), delta) <= epsilon

    low = 1
    while renyi_fits(2 * low):
        low *= 2
        if low > MOST_STEPS:
            return low
    if (below := over(low)) > 0:
        return 0
    high = low + 1
    while (above := over(high)) <= 0:
        low, below, high = high, above, max(high + 1, min(2 * high, math.ceil(high * math.exp(-1.1 * above))))
    while high - low > 1:
        share = -below / (above - below)
        middle = min(max(int(low * (high / low) ** share), low + 1), high - 1)
        if (value := over(middle)) <= 0:
            low, below = middle, value
        else:
            high, above = middle, value
    return low


def _leave_room(epsilon: float, delta: float, others: Sequence[Expense]) -> None:
    if others and (spent := epsilon_spent(tuple(others), delta)) >= epsilon:
        raise UsageError(
            f"the other expenses alone spend epsilon {spent:.4g} of {epsilon:g}",
            remedy="Allow more, or spend less on them",
        )
