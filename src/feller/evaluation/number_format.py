"""Numbers, shares, durations and dates as text for people."""

import datetime
import math
from numbers import Integral, Real
from typing import TypeGuard

Number = int | float

MISSING = "–"
"""Stands where a number is not there."""
SPACE = "\u202f"
"""Narrow and never broken, between a number and its unit."""
MINUS = "\u2212"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def is_number(value: object) -> TypeGuard[Number]:
    """Tell whether there is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def format_number(value: Number) -> str:
    """Write a whole number in full, another with three digits that count."""
    if isinstance(value, Integral):
        return f"{value:,}".replace("-", MINUS)
    if value == 0:
        return "0"
    mantissa, power_of_ten = f"{value:.2e}".split("e")
    exponent = int(power_of_ten)  # of the rounded number: 9.999 is 10.0
    if not -3 <= exponent < 6:
        return _power(mantissa, exponent)
    return f"{value:,.{max(0, 2 - exponent)}f}".replace("-", MINUS)


def format_brief(value: Number) -> str:
    """Write a number with no more digits than it needs, three at most."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{float(f'{value:.3g}'):,.10g}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    return _power(f"{float(mantissa):g}", int(exponent))


def _power(mantissa: str, exponent: int) -> str:
    """Write a number with a power of ten."""
    return f"{mantissa}{SPACE}×{SPACE}10{str(exponent).translate(SUPERSCRIPT)}".replace("-", MINUS)


def format_percent(fraction: Number) -> str:
    """Write a share of one; 0 % is said of none only, and 100 % of all."""
    if fraction in (0, 1):
        return f"{100 * fraction:.0f}{SPACE}%"
    if 0 < fraction < 0.0005:
        return f"<0.1{SPACE}%"
    return f">99.9{SPACE}%" if 0.9995 <= fraction < 1 else f"{100 * fraction:.1f}{SPACE}%"


def format_duration(seconds: Number) -> str:
    """Write a time in the units that fit it."""
    if round(seconds) < 60:
        return f"{seconds:.2g}{SPACE}s" if seconds < 10 else f"{seconds:.0f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min\u00a0{rest:02}{SPACE}s"
    return f"{minutes // 60}{SPACE}h\u00a0{minutes % 60:02}{SPACE}min"


def format_date(made: str) -> str:
    """Write an ISO date and time as people do; what is none stays as it is."""
    try:
        when = datetime.datetime.fromisoformat(made)
    except ValueError:
        return made
    day = f"{when.day} {when:%B %Y}"
    return day if len(made) <= 10 else f"{day}, {when:%H:%M}"


def capitalize_first(text: str) -> str:
    """Begin with a capital letter."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Make a sentence of its own."""
    return f"{capitalize_first(text)}."


def shorten_middle(name: str, letters: int) -> str:
    """Leave out the middle of a long name, so that names which begin or end alike still differ."""
    name = " ".join(name.split())
    if len(name) <= letters:
        return name
    end = (letters - 1) // 3
    return f"{name[: letters - 1 - end].rstrip()}…{name[-end:].lstrip()}"
