"""Explanations of numbers, in which other numbers are called as the page calls them."""

import re
from collections.abc import Mapping

from feller.evaluation.report.metrics import Numbers, measure, real

NAMES = re.compile(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b")


def spoken(name: str, numbers: Numbers, explanations: Mapping[str, str]) -> str:
    """Return what a number means, in which others of the report have the names that are seen: labels, not keys.

    Args:
        name: Of the number.
        numbers: All numbers of the report.
        explanations: By the names of the numbers.
    """
    own = measure(name, numbers)

    def seen(match: re.Match[str]) -> str:
        other = match[0]
        if other == own.floor:
            return f'"{real(own, numbers)}"'
        return f'"{measure(other, numbers).label}"' if other in numbers else other

    return NAMES.sub(seen, explanations.get(name, ""))
