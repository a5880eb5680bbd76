"""What the cells of a column look like, each by itself, and what noisy counts of that tell of the column."""

import re
from collections.abc import Sequence

from feller.data.tables.detect_schema import MISSING
from feller.data.tables.formats import DATES, reads
from feller.data.tables.noisy import Noisy
from feller.data.tables.number_format import MOST_DECIMALS, NumberForm
from feller.data.tables.private_support import Told

DECIMALS = 6
"""Digits behind the point, at most."""
CLASSES = (
    "missing",
    *(f"number:{d}" for d in range(DECIMALS + 1)),
    *(f"comma:{d}" for d in range(1, DECIMALS + 1)),
    *("grouped", "led"),
    *(f"date:{form}" for form in DATES),
    "word",
)
"""What a cell can be by itself: a number with a point, with a decimal comma, with commas that may stand between
thousands, digits that begin with a zero they do not need, a date, or a word; public."""
NUMBERS = ("number", "comma", "grouped", "led")
"""What the classes of numbers begin with."""
PLAIN = NumberForm(MOST_DECIMALS)
"""How numbers are written: with a point and nothing else."""
COMMA = NumberForm(MOST_DECIMALS, point=",")
"""Or with a comma for it; what is neither counts as words."""
LED = 0.01
"""Share of the numbers of a column that begin with a zero they do not need, from which they are codes, not numbers."""

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
    if re.fullmatch(r"0\d+", cell):
        return "led"
    if re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", cell):
        return "grouped"
    number = COMMA.read(cell)
    if number is not None:
        behind = min(max(0, -int(number.as_tuple().exponent)), DECIMALS)  # pyrefly: ignore
        return f"comma:{max(behind, 1)}" if "," in cell else f"number:{behind}"
    likely = DATE.match(cell)
    found = next((form for form in DATES if reads(cell, form)), None) if likely else None
    return "word" if found is None else f"date:{found}"


def majority(look: Looks) -> str | None:
    """Return what most cells are: word, number, or date with the most frequent format; None where noise hides it.

    Numbers of which some begin with a zero that they do not need, such as post codes, are words.
    """
    shares: dict[str, float] = {}
    for kind, starts in (("word", ("word",)), ("number", NUMBERS), ("date", ("date",))):
        parts = {str(key): count for key, count in look.items() if str(key).startswith(starts)}
        if parts:
            # Formats of few cells add to a kind; noise of empty ones does not, since it does not stand out.
            best = max(parts, key=lambda key: parts[key])
            shares["number" if kind == "number" else best] = sum(parts.values())
    most = max(shares, key=lambda key: shares[key]) if shares else None
    return "word" if most == "number" and look.get("led", 0.0) > LED * shares["number"] else most


def whole_of(look: Looks, starts: tuple[str, ...]) -> Told:
    """Return how many cells are of the classes that begin so, as far as these stand out of the noise."""
    parts = [count for key, count in look.items() if str(key).startswith(starts)]
    return Told(sum(parts), len(parts))


def number_form_of(look: Looks) -> NumberForm:
    """Return how the numbers of a column are written, but for rare ones.

    Three digits behind a comma are decimals where other numbers of digits stand there, too, else thousands.
    """
    points, commas = ({d: look.get(f"{kind}:{d}", 0.0) for d in range(1, DECIMALS + 1)} for kind in ("number", "comma"))
    by_comma = sum(commas.values()) > sum(points.values())
    if by_comma:
        commas[3] += look.get("grouped", 0.0)
    counts = {0: look.get("number:0", 0.0), **{d: points[d] + commas[d] for d in points}}
    decimals = max((d for d, count in counts.items() if count > max(counts.values()) / 20), default=0)
    if by_comma:
        return NumberForm(decimals, point=",")
    return NumberForm(decimals, thousands="," if look.get("grouped", 0.0) > 0 else "")
