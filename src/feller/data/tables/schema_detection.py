"""Schema detection from cells: for public data, or as a draft for the data owner to edit.

The result depends on the data and is not private. Bounds and bin edges are round numbers, never the minimum and maximum
of the data.
"""

import re
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from feller.core.errors import InputError
from feller.data.loading.raw import FactorizedColumn, RawTable, by_column
from feller.data.tables.column import Boolean, Categorical, Column
from feller.data.tables.dates import Datetime, equalize_precision
from feller.data.tables.number_format import (
    DATES,
    MOST_DECIMALS,
    NumberFormat,
    date_format,
    detect_number_format,
    first_and_last,
    is_in_format,
    not_numbers,
)
from feller.data.tables.numerical_column import numerical_column
from feller.data.tables.private_support import NoisyCounter, NoisyTotal
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import FreeText, Identifier

_ARROW: Any = pyarrow.compute  # its functions are created at import
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-", "#N/A", "<NA>")
"""Texts that mean a missing cell."""
BOOLEAN_WORDS = (
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
"""Texts of true and false."""
ALL_DIFFERENT = 20
"""Minimum number of rows for a column of distinct words to count as identifiers or free text."""
LONG = 40
"""Mean length in characters above which a column is free text."""
MAX_VALUES = 1_000
"""Maximum number of values of a categorical column."""
MAX_KEPT_VALUES = 100
"""Number of most frequent values that are kept if a column has more than `MAX_VALUES` values."""
OTHER = "OTHER"


def detect_schema(raw: RawTable) -> Schema:
    """Detect the schema of a table; InputError if all cells of a column are missing, or no column can be modelled."""
    dtypes = dict(zip(raw.columns, raw.dtypes, strict=True)) if raw.dtypes else {}

    def guess(name: str) -> Column:
        return _guess(name, equalize_precision(raw.factorize(name)), dtypes.get(name))

    return Schema(tuple(by_column(guess, raw.columns, len(raw.values))))


def _guess(name: str, column: FactorizedColumn, dtype: str | None) -> Column:
    counts, gone = column.counts, column.is_in(MISSING)
    there = column.uniques.filter(pyarrow.array(~gone))
    gaps = dict(zip(column.uniques.filter(pyarrow.array(gone)).to_pylist(), counts[gone].tolist(), strict=True))
    counts = counts[~gone]
    if not len(there):
        raise InputError(
            f"has only missing cells ({', '.join(map(repr, gaps))})", remedy="Remove or fill the column", column=name
        )
    if dtype is not None and dtype.startswith("category"):
        return _words(name, there, counts, *_missing(gaps), dtype)
    twice = _boolean_words(there)
    if twice is not None:
        return Boolean(name, *twice, *_missing(gaps), dtype)
    form = detect_number_format(there)
    if form is None and (odd := _almost_numbers(there)) is not None:
        place = there.index(odd).as_py()
        rest, others = there.filter(_ARROW.not_equal(there, odd)), np.delete(counts, place)
        if (form := detect_number_format(rest)) is not None:
            gaps, there, counts = {**gaps, odd: int(counts[place])}, rest, others
    missing, also = _missing(gaps)
    if form is not None:
        if missing is None and not form.decimals and _runs(there, int(counts.sum())):
            return Identifier(name, dtype=dtype)
        if form.width and len(there) <= MAX_VALUES:  # zero-padded numbers are codes, such as postcodes
            return Categorical(name, tuple(sorted(there.to_pylist())), None, missing, also, dtype)
        numbers = form.parse(there)
        units, places = np.unique(numbers.units, return_inverse=True)
        often = np.bincount(places, counts).astype(np.int64)
        exact = np.bincount(places, numbers.exact) > 0
        return numerical_column(name, units, often, form, missing, also, dtype, exact=exact)
    dates = date_format(there)
    if dates is not None:
        written, low, high = dates
        return Datetime(name, *first_and_last(low, high, written), written, (), None, missing, also, dtype)
    return _words(name, there, counts, missing, also, dtype)


def _boolean_words(there: pyarrow.Array) -> tuple[str, str] | None:
    return (
        next((pair for pair in BOOLEAN_WORDS if {*pair} == {*there.to_pylist()}), None)
        if len(there) == len(BOOLEAN_WORDS[0])
        else None
    )


def _missing(gaps: dict[str, int]) -> tuple[str | None, tuple[str, ...]]:
    """Return the most frequent text of missing cells, and the others."""
    ordered = sorted(gaps, key=lambda word: (-gaps[word], word))
    return (ordered[0], tuple(ordered[1:])) if ordered else (None, ())


def _almost_numbers(there: pyarrow.Array) -> str | None:
    """Return the only non-numeric word among distinct numbers, which is read as missing; else None."""
    odd = not_numbers(there, 2) if len(there) > 4 else []
    return odd[0] if len(odd) == 1 and len(odd[0]) <= 12 else None


def _runs(there: pyarrow.Array, n: int) -> bool:
    """Return True if the cells are row numbers: distinct integers without gaps."""
    if len(there) < max(n, ALL_DIFFERENT) or not _ARROW.all(_matches(there, r"^\d{1,18}$")).as_py():
        return False
    numbers = _ARROW.min_max(there.cast(pyarrow.int64())).as_py()
    return numbers["max"] - numbers["min"] + 1 == len(_ARROW.unique(there.cast(pyarrow.int64()))) == len(there)


def _matches(words: pyarrow.Array, pattern: str) -> pyarrow.Array:
    return _ARROW.match_substring_regex(words, pattern)


def _words(
    name: str, there: pyarrow.Array, counts: np.ndarray, missing: str | None, also: tuple[str, ...], dtype: str | None
) -> Column:
    """Return a text column: categorical, or, if cells are mostly distinct, an identifier or free text."""
    n = int(counts.sum())
    different = len(there) > max(n / 2, ALL_DIFFERENT)
    if len(there) == n >= ALL_DIFFERENT and (shape := _shape(there)):
        return Identifier(name, shape, dtype=dtype)
    length = _ARROW.mean(_ARROW.utf8_length(there)).as_py()
    if different or (length > LONG and len(there) > ALL_DIFFERENT):
        return FreeText(name, dtype=dtype)
    words = there.to_pylist()
    if len(there) <= MAX_VALUES:
        return Categorical(name, tuple(sorted(words)), None, missing, also, dtype)
    often = dict(zip(words, counts.tolist(), strict=True))
    frequent = sorted(words, key=lambda word: (-often[word], word))[:MAX_KEPT_VALUES]
    return Categorical(name, tuple(sorted(frequent)), OTHER, missing, also, dtype)


def _shape(there: pyarrow.Array) -> str | None:
    """Return an identifier format if words without blanks differ in digits and letters only; else None.

    The digits after a common prefix are numbered; other shapes become `ID-{###}`, so that no real identifier is kept.
    """
    if _ARROW.any(_ARROW.match_substring(there, " ")).as_py() or _ARROW.max(_ARROW.utf8_length(there)).as_py() > LONG:
        return None
    before = _common_prefix(there)
    rest = _ARROW.utf8_slice_codeunits(there, len(before))
    if _ARROW.all(_matches(rest, r"^\d+$")).as_py():
        widths = _ARROW.min_max(_ARROW.utf8_length(rest)).as_py()
        return f"{before}{{{'#' * (widths['min'] if widths['min'] == widths['max'] else 1)}}}"
    digits = _ARROW.replace_substring_regex(there, r"\d", "#")
    shapes = _ARROW.unique(_ARROW.replace_substring_regex(digits, "[A-Za-z]", "A")).slice(0, 4).to_pylist()
    found = len(shapes) <= 3 and any("#" in shape for shape in shapes)
    return f"ID-{{{'#' * max(1, len(str(len(there))))}}}" if found else None


def _common_prefix(there: pyarrow.Array) -> str:
    """Return the common prefix of all cells, without trailing digits or braces."""
    ends = _ARROW.min_max(there).as_py()
    first, last = ends["min"], ends["max"]
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return re.split(r"[{}]|\d*$", first[:same])[0]


DECIMALS = 6
"""Maximum number of digits after the decimal point."""
POINTS = tuple(f"number:{d}" for d in range(DECIMALS + 1))
COMMAS = tuple(f"comma:{max(d, 1)}" for d in range(DECIMALS + 1))
GROUPED = r"[+-]?[1-9]\d{0,2}(,\d{3})+"
"""Regular expression for numbers with commas that may separate thousands."""
CLASSES = ("missing", *POINTS, *COMMAS[1:], *("grouped", "led"), *(f"date:{form}" for form in DATES), "word")
"""Classes of a cell, which are public: number with decimal point or comma, number with commas that may separate
thousands, number with a leading zero, date in one of the formats, or word."""
NUMBERS = ("number", "comma", "grouped", "led")
"""Prefixes of the names of the number classes."""
PLAIN = NumberFormat(MOST_DECIMALS)
"""Number format with a decimal point and no thousands separator."""
COMMA = NumberFormat(MOST_DECIMALS, point=",")
"""Number format with a decimal comma; numbers in other formats count as words."""
MIN_LEADING_ZEROS = 0.01
"""Fraction of numbers with leading zeros above which a column contains codes, not numbers."""
DATE = re.compile(r"(\d{1,4}[-/. ]|[A-Z][a-z]{2}).*\d")
"""Regular expression for cells that may be dates."""
GAPS = 2.5
"""Noisy count above which a column has missing cells, in standard deviations of the noise."""
ClassCounts = dict[str | int, float]
"""Noisy count of each cell class whose count is significant."""


def noisy_class_counts(column: FactorizedColumn, noisy: NoisyCounter) -> ClassCounts:
    """Return the noisy count of each cell class whose count is significant."""
    counts = noisy.counts(cell_classes(column), CLASSES, column.counts.tolist())
    kept = {key: counts[key] for key in noisy.significant(counts)}
    if counts["missing"] > GAPS * noisy.sigma:
        kept["missing"] = counts["missing"]
    return kept


def cell_classes(column: FactorizedColumn) -> list[str]:
    """Return the class of each distinct cell, which does not depend on other cells."""
    words, numbers = column.uniques, COMMA.parse(column.uniques)
    behind = np.minimum(numbers.behind, DECIMALS)
    comma = np.asarray(_ARROW.match_substring(words, ","))
    plain = numbers.valid & ~column.is_in(MISSING) & ~np.asarray(_matches(words, f"^(0\\d+|{GROUPED})$"))
    kinds = np.where(comma, np.array(COMMAS)[behind], np.array(POINTS)[behind]).astype(object)
    kinds[~plain] = [_cell_class(word) for word in words.filter(pyarrow.array(~plain)).to_pylist()]
    return kinds.tolist()


def _cell_class(cell: str) -> str:
    if cell in MISSING:
        return "missing"
    if re.fullmatch(r"0\d+", cell):
        return "led"
    if re.fullmatch(GROUPED, cell):
        return "grouped"
    number = COMMA.read(cell)
    if number is not None:
        behind = min(max(0, -int(number.as_tuple().exponent)), DECIMALS)  # pyrefly: ignore
        return f"comma:{max(behind, 1)}" if "," in cell else f"number:{behind}"
    likely = DATE.match(cell)
    found = next((form for form in DATES if is_in_format(cell, form)), None) if likely else None
    return "word" if found is None else f"date:{found}"


def majority_class(class_counts: ClassCounts) -> str | None:
    """Return the most common type: word, number, or date with its main format; None if no count is significant.

    Numbers count as words if enough of them have leading zeros, as in postcodes.
    """
    shares: dict[str, float] = {}
    for kind, starts in (("word", ("word",)), ("number", NUMBERS), ("date", ("date",))):
        parts = {str(key): count for key, count in class_counts.items() if str(key).startswith(starts)}
        if parts:
            # Rare formats add to their type; empty ones add no noise, since insignificant counts were dropped.
            best = max(parts, key=lambda key: parts[key])
            shares["number" if kind == "number" else best] = sum(parts.values())
    most = max(shares, key=lambda key: shares[key]) if shares else None
    return "word" if most == "number" and class_counts.get("led", 0.0) > MIN_LEADING_ZEROS * shares["number"] else most


def noisy_total(class_counts: ClassCounts, starts: tuple[str, ...]) -> NoisyTotal:
    """Return the noisy number of cells in the significant classes whose names start with one of `starts`."""
    parts = [count for key, count in class_counts.items() if str(key).startswith(starts)]
    return NoisyTotal(sum(parts), len(parts))


def number_format_of(class_counts: ClassCounts) -> NumberFormat:
    """Return the main number format of a column.

    A comma before three digits is a decimal comma if other numbers of decimals also occur, else a thousands separator.
    """
    points, commas = (
        {d: class_counts.get(f"{kind}:{d}", 0.0) for d in range(1, DECIMALS + 1)} for kind in ("number", "comma")
    )
    by_comma = sum(commas.values()) > sum(points.values())
    if by_comma:
        commas[3] += class_counts.get("grouped", 0.0)
    counts = {0: class_counts.get("number:0", 0.0), **{d: points[d] + commas[d] for d in points}}
    decimals = max((d for d, count in counts.items() if count > max(counts.values()) / 20), default=0)
    if by_comma:
        return NumberFormat(decimals, point=",")
    return NumberFormat(decimals, thousands="," if class_counts.get("grouped", 0.0) > 0 else "")
