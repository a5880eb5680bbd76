"""What an epsilon is worth, in words."""

import math

WEAK, NOTHING = 10.0, 15.0
"""Epsilon from which a promise is weak, and from which it promises next to nothing."""
NAMES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
LARGEST = 15.0
"""Power of ten beyond which a factor is one."""


def strength(epsilon: float) -> str:
    """Say where an epsilon protects little, as the end of "a promise that ..."; empty where it does protect."""
    if epsilon >= NOTHING:
        return "promises next to nothing"
    return "is weak" if epsilon >= WEAK else ""


def factor(epsilon: float) -> str:
    """Write e^epsilon, rounded up, so that people can read it."""
    power = epsilon / math.log(10)
    if power >= LARGEST:
        return f"10^{math.ceil(power)}" if math.isfinite(power) else "any number of"
    value = math.exp(epsilon)
    for size, name in NAMES:
        if value >= size:
            return f"{rounded_up(value / size, 2)} {name}"
    return rounded_up(value)


def rounded_up(value: float, count: int = 3) -> str:
    """Write a number with three digits, or so many, rounded up."""
    if not math.isfinite(value):
        return f"{value}"
    digits = count - 1 - math.floor(math.log10(value)) if value > 0 else count - 1
    return f"{math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits:,.{max(digits, 0)}f}"
