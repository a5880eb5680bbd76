"""Where a function of one number is zero."""

from collections.abc import Callable
from typing import Any

import scipy


def root(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Return a zero between two numbers of which the function has different signs, by Brent's method."""
    found: Any = scipy.optimize.brentq(function, low, high, xtol=tolerance)
    return float(found)
