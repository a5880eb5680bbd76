"""How much noise a bridge may have, and has where nobody says."""

import math

from feller.app.workflows.bridges.bridges_populations import Populations
from feller.core.errors import UsageError


def usual_noise(crowd: Populations, calls: int) -> float:
    """Return half the deviation within the populations, or what the narrowest of them bears."""
    return min(0.5 * crowd.spread, _most(crowd, calls))


def check_noise(noise: float, crowd: Populations, calls: int) -> None:
    """Refuse a noise with which no end can be met.

    Raises:
        UsageError: If it is negative, drowned by rounding, or so large that the last step alone blurs a population.
    """
    if not 0 <= noise < math.inf:
        raise UsageError(f"--noise must be 0 or more, got {noise:g}")
    most = _most(crowd, calls)
    if noise > most:
        raise UsageError(
            f"--noise {noise:g} is so large that no end can be met: the last of {calls} steps would blur a population"
            f" whose deviation is {_least(crowd):.3g}; take {_below(most)} or less, or more steps (--calls)"
        )
    if 0 < noise < 1e-4 * crowd.spread:
        raise UsageError(
            f"--noise {noise:g} is so small beside a deviation of {crowd.spread:.3g} within the populations that"
            " rounding drowns it; take 0, which is without noise, or more"
        )


def _most(crowd: Populations, calls: int) -> float:
    """Return the noise whose last step of a walk is half the least deviation."""
    return 0.5 * _least(crowd) * calls**0.5


def _below(value: float) -> str:
    """Write a number by two digits that are no more than it."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.floor(value / unit) * unit:.10g}"


def _least(crowd: Populations) -> float:
    """Return the deviation of the narrowest population."""
    spreads = [float((x - x.mean(0)).square().mean().sqrt()) for x in crowd.states]
    return min((spread for spread in spreads if spread > 0), default=math.inf)
