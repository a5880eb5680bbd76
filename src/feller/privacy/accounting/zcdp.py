"""Conversion between zero-concentrated differential privacy (rho) and (epsilon, delta)."""

import math
from collections.abc import Callable
from typing import Any

import scipy

from feller.core.errors import UsageError, check_number


def find_root(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Return a root of a function between `low` and `high`, where its signs differ, by Brent's method.

    `tolerance` is the largest absolute error of the root.
    """
    root: Any = scipy.optimize.brentq(function, low, high, xtol=tolerance)
    return float(root)


MAX_EPSILON = 1e9
"""Upper limit of epsilon; above this value, the accounting loses its precision."""


def rho_from_epsilon(epsilon: float, delta: float) -> float:
    """Return the largest rho at which every rho-zCDP mechanism is (epsilon, delta)-DP, to relative precision 1e-12.

    Source: Canonne, Kamath and Steinke 2020, arXiv 2004.00010, proposition 7.

    Raises:
        UsageError: If epsilon is not above 0, or delta not between 0 and 1.
    """
    check_epsilon_delta(epsilon, delta)
    log_delta = math.log(delta)

    def log_excess(log_rho: float) -> float:
        return _log_delta(math.exp(log_rho), epsilon) - log_delta

    low, high = math.log(1e-12 * epsilon**2), math.log(epsilon)  # at rho = epsilon, delta is near 1
    while log_excess(low) > 0:
        low -= 10
    while log_excess(high) < 0:
        high += 1
    return math.exp(find_root(log_excess, low, high, 1e-13))


def epsilon_from_rho(rho: float, delta: float) -> float:
    """Return the smallest epsilon at which every rho-zCDP mechanism is (epsilon, delta)-DP."""
    check_epsilon_delta(1.0, delta)
    log_delta = math.log(delta)

    def log_excess(epsilon: float) -> float:
        return _log_delta(rho, epsilon) - log_delta

    if log_excess(0.0) <= 0:
        return 0.0
    high = rho + 2 * math.sqrt(rho * -log_delta) + 1e-12  # an upper bound; Bun and Steinke 2016, proposition 1.3
    # A huge rho leaves no digits for the search.
    return high if log_excess(high) >= 0 else find_root(log_excess, 0.0, high, 1e-13)


def _log_delta(rho: float, epsilon: float) -> float:
    """Return log delta of rho-zCDP at epsilon: the smallest bound over the orders of the Rényi divergence above 1."""

    def objective(log_order_m1: float) -> float:
        order_m1 = math.exp(log_order_m1)  # order - 1
        order = 1 + order_m1
        return order_m1 * (order * rho - epsilon) - log_order_m1 + order * (log_order_m1 - math.log1p(order_m1))

    guess = math.log(max((epsilon - rho) / (2 * rho), 1e-3))
    minimum = scipy.optimize.minimize_scalar(
        objective, bounds=(guess - 12, guess + 12), method="bounded", options={"xatol": 1e-10}
    )
    return min(float(minimum.fun), 0.0)


def check_epsilon_delta(epsilon: float, delta: float) -> None:
    """Check that epsilon and delta are in their ranges.

    Raises:
        UsageError: If epsilon is not above 0, or delta not between 0 and 1.
    """
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise UsageError(
            "finite and above 0",
            f"{epsilon:g}",
            "Choose epsilon between 1 (strong privacy) and 10 (weak)",
            argument="epsilon",
        )
    if epsilon > MAX_EPSILON:
        raise UsageError(
            f"at most {MAX_EPSILON:g}",
            f"{epsilon:g}, which protects no row",
            "Choose epsilon between 1 (strong privacy) and 10 (weak)",
            argument="epsilon",
        )
    check_number("delta", delta, gt=0, lt=1, remedy="Use a value below 1 / the number of rows")
