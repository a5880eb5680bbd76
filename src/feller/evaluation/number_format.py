"""Formatting of numbers, percentages, durations and dates."""

import datetime
import math
from numbers import Integral, Real
from typing import TypeGuard

Number = int | float

MISSING = "–"
"""Text that stands for a missing value."""
SPACE = "\u202f"
"""Narrow no-break space between a number and its unit."""
MINUS = "\u2212"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def is_number(value: object) -> TypeGuard[Number]:
    """Return True if a value is a finite real number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def format_number(value: Number) -> str:
    """Format an integer with all digits, and any other number with three significant digits."""
    if isinstance(value, Integral):
        return f"{value:,}".replace("-", MINUS)
    if value == 0:
        return "0"
    mantissa, power_of_ten = f"{value:.2e}".split("e")
    exponent = int(power_of_ten)  # exponent after rounding: 9.999 becomes 10.0
    if not -3 <= exponent < 6:
        return _power(mantissa, exponent)
    return f"{value:,.{max(0, 2 - exponent)}f}".replace("-", MINUS)


def format_brief(value: Number) -> str:
    """Format a number with up to three significant digits, without trailing zeros."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{float(f'{value:.3g}'):,.10g}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    return _power(f"{float(mantissa):g}", int(exponent))


def _power(mantissa: str, exponent: int) -> str:
    return f"{mantissa}{SPACE}×{SPACE}10{str(exponent).translate(SUPERSCRIPT)}".replace("-", MINUS)


def format_percent(fraction: Number) -> str:
    """Format a fraction in percent; only the exact values 0 and 1 become 0 % and 100 %."""
    if fraction in (0, 1):
        return f"{100 * fraction:.0f}{SPACE}%"
    if 0 < fraction < 0.0005:
        return f"<0.1{SPACE}%"
    return f">99.9{SPACE}%" if 0.9995 <= fraction < 1 else f"{100 * fraction:.1f}{SPACE}%"


def format_duration(seconds: Number) -> str:
    """Format a duration in seconds, minutes or hours."""
    if round(seconds) < 60:
        return f"{seconds:.2g}{SPACE}s" if seconds < 10 else f"{seconds:.0f}{SPACE}s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min\u00a0{remainder:02}{SPACE}s"
    return f"{minutes // 60}{SPACE}h\u00a0{minutes % 60:02}{SPACE}min"


def format_date(made: str) -> str:
    """Format an ISO date or datetime as "1 May 2025, 12:00"; other text is returned unchanged."""
    try:
        date = datetime.datetime.fromisoformat(made)
    except ValueError:
        return made
    day = f"{date.day} {date:%B %Y}"
    return day if len(made) <= 10 else f"{day}, {date:%H:%M}"


def capitalize_first(text: str) -> str:
    """Capitalize the first letter of a text."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Capitalize the first letter of a text and append a full stop."""
    return f"{capitalize_first(text)}."


def shorten_middle(name: str, letters: int) -> str:
    """Shorten a name to at most `letters` characters by an ellipsis in its middle."""
    name = " ".join(name.split())
    if len(name) <= letters:
        return name
    num_last = (letters - 1) // 3
    return f"{name[: letters - 1 - num_last].rstrip()}…{name[-num_last:].lstrip()}"
