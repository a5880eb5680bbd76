"""What the cells of a column look like, each by itself, and what noisy counts of that tell of the column."""

import re
from collections.abc import Sequence

from feller.data.table.detect import MISSING
from feller.data.table.form import MOST_DECIMALS, NumberForm
from feller.data.table.formats import DATES, reads
from feller.data.table.noisy import Noisy

DECIMALS = 6
"""Digits behind the point, at most."""
CLASSES = ("missing", *(f"number:{d}" for d in range(DECIMALS + 1)), *(f"date:{form}" for form in DATES), "word")
"""What a cell can be by itself; public."""
PLAIN = NumberForm(MOST_DECIMALS)
"""How numbers are written: with a point and nothing else; what is not counts as words."""

DATE = re.compile(r"(\d{1,4}[-/. ]|[A-Z][a-z]{2}).*\d")
"""What a date begins with."""
Looks = dict[str | int, float]
"""Noisy count of each of the classes that passes what noise alone would hardly reach."""


def looks(cells: Sequence[str], noisy: Noisy) -> Looks:
    """Count what cells look like, each by itself, and keep what stands out of the noise."""
    known = {cell: _look(cell) for cell in {*cells}}
    counts = noisy.counts((known[cell] for cell in cells), CLASSES)
    return {key: counts[key] for key in noisy.filled(counts)}


def _look(cell: str) -> str:
    """Return which of the classes a cell is of, by itself."""
    if cell in MISSING:
        return "missing"
    number = PLAIN.read(cell)
    if number is not None:
        return f"number:{min(max(0, -int(number.as_tuple().exponent)), DECIMALS)}"  # pyrefly: ignore
    likely = DATE.match(cell)
    found = next((form for form in DATES if reads(cell, form)), None) if likely else None
    return "word" if found is None else f"date:{found}"


def majority(look: Looks) -> str | None:
    """Return what most cells are: word, number, or date with the most frequent format; None where noise hides it."""
    shares: dict[str, float] = {}
    for kind in ("word", "number", "date"):
        parts = {str(key): count for key, count in look.items() if str(key).startswith(kind)}
        if parts:
            # Formats of few cells add to a kind; noise of empty ones does not, since it does not stand out.
            best = max(parts, key=lambda key: parts[key])
            shares["number" if kind == "number" else best] = sum(parts.values())
    return max(shares, key=lambda key: shares[key]) if shares else None


def decimals(look: Looks) -> int:
    """Return how many digits behind the point the numbers of a column have, but for rare ones."""
    counts = {d: look.get(f"number:{d}", 0.0) for d in range(DECIMALS + 1)}
    return max((d for d, count in counts.items() if count > max(counts.values()) / 20), default=0)
