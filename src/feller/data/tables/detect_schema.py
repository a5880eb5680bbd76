"""Detect a schema from cells: for public data, and as a draft for an owner to edit.

What it says follows from the data and is not private. Bounds and edges are round numbers, never the least and largest.
"""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from feller.core.errors import InputError
from feller.data.loading.raw import FoundTable
from feller.data.tables.column import Boolean, Categorical, Column
from feller.data.tables.dates import Datetime, alike
from feller.data.tables.number_format import (
    DATES,
    MOST_DECIMALS,
    NumberForm,
    date_format,
    first_and_last,
    number_form,
    reads,
)
from feller.data.tables.numerical import numerical
from feller.data.tables.private_support import Noisy, Told
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import FreeText, Identifier

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-", "#N/A", "<NA>")
"""Words that mean a missing cell."""
TWO = (
    ("True", "False"),
    ("true", "false"),
    ("TRUE", "FALSE"),
    ("Yes", "No"),
    ("yes", "no"),
    ("YES", "NO"),
    ("Y", "N"),
    ("y", "n"),
    ("T", "F"),
    ("t", "f"),
    ("1", "0"),
)
"""Words for true and false."""
ALL_DIFFERENT = 20
"""Rows from which on a column of different words is taken for one of names."""
LONG = 40
"""Characters of a mean cell of free text, at least."""
MOST_VALUES = 1_000
"""Values of a categorical column, at most."""
KEPT = 100
"""Values that are kept of a column with more."""
OTHER = "OTHER"


def detect(found: FoundTable) -> Schema:
    """Guess a schema.

    Raises:
        InputError: If a column holds nothing, or none is left that a model could learn.
    """
    dtypes = dict(zip(found.columns, found.dtypes, strict=True)) if found.dtypes else {}
    columns = tuple(_guess(name, alike(found.column(name)), dtypes.get(name)) for name in found.columns)
    return Schema(columns)


def _guess(name: str, cells: list[str], dtype: str | None) -> Column:
    counts = Counter(cells)
    words = [word for word in counts if word in MISSING]
    there = {cell: count for cell, count in counts.items() if cell not in MISSING}
    if not there:
        raise InputError(f"column {name!r} is all missing ({', '.join(map(repr, words))}); drop it, or fill it")
    twice = _two(there)
    if twice is not None:
        return Boolean(name, *twice, *_missing(words, counts), dtype)
    form = number_form(list(there))
    if form is None and (odd := _almost_numbers(there)):
        words, there = [*words, *odd], {cell: count for cell, count in there.items() if cell not in odd}
        form = number_form(list(there))
    missing, also = _missing(words, counts)
    if form is not None:
        if _runs(there, form.decimals, sum(there.values())) and missing is None:
            return Identifier(name, dtype=dtype)
        if form.width and len(there) <= MOST_VALUES:  # numbers of one width that begin with 0 are names
            return Categorical(name, tuple(sorted(there)), None, missing, also, dtype)
        numbers = {form.read(cell) or Decimal(0): count for cell, count in there.items()}
        return numerical(name, numbers, form, missing, also, dtype)
    written = date_format(list(there))
    if written is not None:
        first, last = first_and_last(list(there), written)
        return Datetime(name, first, last, written, (), None, missing, also, dtype)
    return _words(name, there, missing, also, dtype)


def _two(there: dict[str, int]) -> tuple[str, str] | None:
    return next((pair for pair in TWO if {*pair} == {*there}), None)


def _missing(words: Sequence[str], counts: Counter[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the word for missing cells, the most frequent, and the others."""
    ordered = sorted(words, key=lambda word: (-counts[word], word))
    return (ordered[0], tuple(ordered[1:])) if ordered else (None, ())


def _almost_numbers(there: dict[str, int]) -> list[str]:
    """Return the one word among different numbers, which then means that one is missing; else none."""
    odd = [word for word in there if number_form([word]) is None]
    return odd if len(odd) == 1 and len(there) > 4 and len(odd[0]) <= 12 else []


def _runs(there: dict[str, int], decimals: int, n: int) -> bool:
    """Tell whether whole numbers count the rows: all different, without gaps."""
    if decimals or len(there) < max(n, ALL_DIFFERENT) or not all(re.fullmatch(r"\d{1,18}", cell) for cell in there):
        return False
    numbers = sorted(map(int, there))
    return numbers[-1] - numbers[0] + 1 == len(numbers)


def _words(name: str, there: dict[str, int], missing: str | None, also: tuple[str, ...], dtype: str | None) -> Column:
    """Make a column of words: values, or names and texts of people, which no model may learn by heart."""
    n = sum(there.values())
    lengths = np.array([len(cell) for cell in there])
    different = len(there) > max(n / 2, ALL_DIFFERENT)
    if len(there) == n >= ALL_DIFFERENT and (shape := _shape(list(there))):
        return Identifier(name, shape, dtype=dtype)
    if different or (lengths.mean() > LONG and len(there) > ALL_DIFFERENT):
        return FreeText(name, dtype=dtype)
    ordered = sorted(there)
    if len(there) <= MOST_VALUES:
        return Categorical(name, tuple(ordered), None, missing, also, dtype)
    frequent = sorted(there, key=lambda word: (-there[word], word))[:KEPT]
    return Categorical(name, tuple(sorted(frequent)), OTHER, missing, also, dtype)


def _shape(cells: list[str]) -> str | None:
    """Return the format of words without blanks that are alike but for digits and letters; None where they are not.

    Of several groups of digits the longest counts, and the others stay as in none: they become zeros.
    """
    if any(" " in cell or len(cell) > LONG for cell in cells):
        return None
    before = _shared(cells)
    rest = [cell[len(before) :] for cell in cells]
    if all(re.fullmatch(r"\d+", part) for part in rest):
        width = len(rest[0]) if len({len(part) for part in rest}) == 1 else 1
        return f"{before}{{{'#' * width}}}"
    shapes = {re.sub(r"[A-Za-z]", "A", re.sub(r"\d", "#", cell)) for cell in cells}
    return (
        f"ID-{{{'#' * max(1, len(str(len(cells))))}}}" if len(shapes) <= 3 and any("#" in s for s in shapes) else None
    )


def _shared(cells: list[str]) -> str:
    """Return what all cells begin with, without digits or braces at its end."""
    first, last = min(cells), max(cells)
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return re.split(r"[{}]|\d*$", first[:same])[0]


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
