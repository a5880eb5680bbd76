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
from feller.data.tables.dates import Datetime, equalize_precision, in_format
from feller.data.tables.number_format import (
    DATES,
    MAX_NUMBER,
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
from feller.data.tables.relations import with_relations
from feller.data.tables.schema import Schema, check_column_count
from feller.data.tables.unmodelled_columns import FreeText, Identifier, SkippedColumn

_ARROW: Any = pyarrow.compute  # its functions are created at import
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-", "#N/A", "<NA>")
"""Texts that mean a missing cell."""
INFINITE = tuple(sign + word for sign in ("", "+", "-") for word in ("inf", "Inf", "INF", "infinity", "Infinity"))
"""Texts of infinite numbers."""
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
CERTAIN_COLLISIONS = 10.0
"""Expected number of equal pairs, if integers were random, from which integers that all differ are identifiers."""
PERSON = re.compile(
    r"[puc]?[ _.-]?(id|uuid|guid)|mrn|ssn"
    r"|(patient|person|people|customer|client|user|member|subject|participant|respondent|student|pupil|employee"
    r"|visitor|individual|citizen|insured|account|household|card|device)s?"
    r"([ _.-]*(id|nr|no|num|number|key|code|uuid|hash))?",
    re.IGNORECASE,
)
"""Names of columns that identify the person of a row, if their values repeat."""
MIN_ROWS_PER_PERSON = 1.2
"""Minimum mean number of rows of a person in a table with several rows per person."""


def detect_schema(raw: RawTable, *, relations: bool = True) -> Schema:
    """Detect the schema of a table; InputError if no column can be modelled. Columns of missing cells are skipped.

    With `relations`, the schema has the relations between columns that hold in the rows, see `with_relations`.
    """
    schema = Schema(detect_columns(raw))
    schema.require_modelled()
    return with_relations(raw, schema) if relations else schema


def detect_columns(raw: RawTable) -> tuple[Column, ...]:
    """Detect the kinds of the columns of a table from their cells."""
    check_column_count(len(raw.columns))
    dtypes = dict(zip(raw.columns, raw.dtypes, strict=True)) if raw.dtypes else {}

    def guess(name: str) -> Column:
        column = raw.factorize(name)
        _check_finite(raw, name, column)
        return _guess(name, equalize_precision(column), dtypes.get(name))

    return tuple(by_column(guess, raw.columns, len(raw.values)))


def _guess(name: str, column: FactorizedColumn, dtype: str | None) -> Column:
    counts, is_missing = column.counts, column.is_in(MISSING)
    words = column.uniques.filter(pyarrow.array(~is_missing))
    missing_counts = dict(
        zip(column.uniques.filter(pyarrow.array(is_missing)).to_pylist(), counts[is_missing].tolist(), strict=True)
    )
    counts = counts[~is_missing]
    if not len(words):
        return SkippedColumn(name)
    if names_people(name, len(words), int(counts.sum())) and (shape := _shape(words)) is not None:
        return Identifier(name, shape, dtype=dtype)
    if dtype is not None and dtype.startswith("category"):
        return _words(name, words, counts, *_missing(missing_counts), dtype)
    boolean_pair = _boolean_words(words)
    if boolean_pair is not None:
        return Boolean(name, *boolean_pair, *_missing(missing_counts), dtype)
    form = detect_number_format(words)
    if form is None and (placeholder := _almost_numbers(words)) is not None:
        index = words.index(placeholder).as_py()
        other_words, other_counts = words.filter(_ARROW.not_equal(words, placeholder)), np.delete(counts, index)
        if (form := detect_number_format(other_words)) is not None:
            missing_counts = {**missing_counts, placeholder: int(counts[index])}
            words, counts = other_words, other_counts
    missing, also_missing = _missing(missing_counts)
    if form is not None:
        if missing is None and not form.decimals and _runs(words, int(counts.sum())):
            return Identifier(name, dtype=dtype)
        if missing is None and not form.decimals and is_unique_by_design(words, int(counts.sum())):
            return Identifier(name, _shape(words) or "{#}", dtype=dtype)
        if form.width and len(words) <= MAX_VALUES:  # zero-padded numbers are codes, such as postcodes
            return Categorical(name, tuple(sorted(words.to_pylist())), None, missing, also_missing, dtype)
        parsed = form.parse(words)
        _check_size(name, words, form)
        units, inverse = np.unique(parsed.units, return_inverse=True)
        unit_counts = np.bincount(inverse, counts).astype(np.int64)
        exact = np.bincount(inverse, parsed.exact) > 0
        return numerical_column(name, units, unit_counts, form, missing, also_missing, dtype, exact=exact)
    dates = date_format(words)
    if dates is not None:
        time_format, low, high = dates
        return Datetime(
            name, *first_and_last(low, high, time_format), time_format, (), None, missing, also_missing, dtype
        )
    return _words(name, words, counts, missing, also_missing, dtype)


def _check_finite(raw: RawTable, name: str, column: FactorizedColumn) -> None:
    """Raise an InputError if a column of numbers contains an infinite number."""
    is_infinite = column.is_in(INFINITE)
    numbers = column.uniques.filter(pyarrow.array(~(is_infinite | column.is_in(MISSING))))
    if not is_infinite.any() or not len(numbers) or detect_number_format(numbers) is None:
        return
    row = int(np.flatnonzero(is_infinite[column.codes])[0])
    raise InputError(
        "finite numbers",
        repr(column.uniques[int(column.codes[row])].as_py()),
        "Fill or remove those rows",
        column=name,
        row=raw.row_number(row),
    )


def _check_size(name: str, words: pyarrow.Array, form: NumberFormat) -> None:
    """Raise an InputError if a number is too large for a column of numbers."""
    long = _ARROW.greater_equal(_ARROW.binary_length(words), len(f"{MAX_NUMBER}") - 1)
    for word in words.filter(long).to_pylist():
        number = form.read(word)
        if number is not None and abs(number) >= MAX_NUMBER:
            raise InputError(
                f"numbers of absolute value below {MAX_NUMBER:g}",
                word[:60],
                "Divide the column by a power of ten, or declare it as identifiers in a schema (feller data schema)",
                column=name,
            )


def _boolean_words(words: pyarrow.Array) -> tuple[str, str] | None:
    return (
        next((pair for pair in BOOLEAN_WORDS if {*pair} == {*words.to_pylist()}), None)
        if len(words) == len(BOOLEAN_WORDS[0])
        else None
    )


def _missing(missing_counts: dict[str, int]) -> tuple[str | None, tuple[str, ...]]:
    """Return the most frequent text of missing cells, and the others."""
    ordered = sorted(missing_counts, key=lambda word: (-missing_counts[word], word))
    return (ordered[0], tuple(ordered[1:])) if ordered else (None, ())


def _almost_numbers(words: pyarrow.Array) -> str | None:
    """Return the only word that is not a number among distinct cells, which is read as missing; else None."""
    non_numbers = not_numbers(words, 2) if len(words) > 4 else []
    return non_numbers[0] if len(non_numbers) == 1 and len(non_numbers[0]) <= 12 else None


def _runs(words: pyarrow.Array, n: int) -> bool:
    """Return True if the cells are row numbers: distinct integers without gaps."""
    if len(words) < max(n, ALL_DIFFERENT) or not _ARROW.all(_matches(words, r"^\d{1,18}$")).as_py():
        return False
    bounds = _ARROW.min_max(words.cast(pyarrow.int64())).as_py()
    return bounds["max"] - bounds["min"] + 1 == len(_ARROW.unique(words.cast(pyarrow.int64()))) == len(words)


def is_unique_by_design(words: pyarrow.Array, n: int) -> bool:
    """Return True if the n cells are distinct integers in so small a range that chance cannot explain it.

    Random integers in a range of R have at least n (n - 1) / 2R equal pairs in expectation, and more if they are not
    uniform. Measurements in a wide range, such as incomes to the cent, may all differ by chance; they are not unique
    by design.
    """
    if len(words) < max(n, ALL_DIFFERENT) or not _ARROW.all(_matches(words, r"^-?\d{1,18}$")).as_py():
        return False
    bounds = _ARROW.min_max(words.cast(pyarrow.int64())).as_py()
    return n * (n - 1) / 2 >= CERTAIN_COLLISIONS * (bounds["max"] - bounds["min"] + 1)


def names_people(name: str, num_values: int, n: int) -> bool:
    """Return True if a column of n cells has the name of an identifier, and many values that repeat."""
    is_repeated = num_values >= ALL_DIFFERENT and n >= MIN_ROWS_PER_PERSON * num_values
    return is_repeated and PERSON.fullmatch(name.strip()) is not None


def code_column(name: str, column: FactorizedColumn, dtype: str | None) -> Categorical:
    """Return a column whose cells, such as numbers, are categorical codes; InputError if all cells are missing."""
    is_missing = column.is_in(MISSING)
    counts = dict(zip(column.uniques.to_pylist(), column.counts.tolist(), strict=True))
    words = column.uniques.filter(pyarrow.array(~is_missing)).to_pylist()
    if not words:
        raise InputError("has only missing cells", remedy="Drop the column", column=name)
    missing, also_missing = _missing({word: count for word, count in counts.items() if word in MISSING})
    if len(words) > MAX_VALUES:
        words, other, dtype = sorted(words, key=lambda word: (-counts[word], word))[:MAX_KEPT_VALUES], OTHER, None
    else:
        other = None
    form = detect_number_format(words)
    values = sorted(words, key=lambda word: (form.read(word) or 0 if form else 0, word))
    return Categorical(name, tuple(values), other, missing, also_missing, dtype)


def identifier_column(name: str, column: FactorizedColumn, dtype: str | None) -> Identifier:
    """Return an identifier column with the format of its cells, without any of their digits or letters but a prefix."""
    words = column.uniques.filter(pyarrow.array(~column.is_in(MISSING)))
    return Identifier(name, (_shape(words) if len(words) else None) or "{#}", dtype=dtype)


def _matches(words: pyarrow.Array, pattern: str) -> pyarrow.Array:
    return _ARROW.match_substring_regex(words, pattern)


def _words(
    name: str,
    words: pyarrow.Array,
    counts: np.ndarray,
    missing: str | None,
    also_missing: tuple[str, ...],
    dtype: str | None,
) -> Column:
    """Return a text column: categorical, or, if cells are mostly distinct, an identifier or free text."""
    n = int(counts.sum())
    is_distinct = len(words) > max(n / 2, ALL_DIFFERENT)
    if len(words) == n >= ALL_DIFFERENT and (shape := _shape(words)):
        return Identifier(name, shape, dtype=dtype)
    length = _ARROW.mean(_ARROW.utf8_length(words)).as_py()
    if is_distinct or (length > LONG and len(words) > ALL_DIFFERENT):
        return FreeText(name, dtype=dtype)
    values = words.to_pylist()
    if len(words) <= MAX_VALUES:
        return Categorical(name, tuple(sorted(values)), None, missing, also_missing, dtype)
    count_of = dict(zip(values, counts.tolist(), strict=True))
    frequent = sorted(values, key=lambda word: (-count_of[word], word))[:MAX_KEPT_VALUES]
    return Categorical(name, tuple(sorted(frequent)), OTHER, missing, also_missing, dtype)


def _shape(words: pyarrow.Array) -> str | None:
    """Return an identifier format if words without blanks differ in digits and letters only; else None.

    The digits after a common prefix are numbered; other shapes become `ID-{###}`, so that no real identifier is kept.
    """
    if _ARROW.any(_ARROW.match_substring(words, " ")).as_py() or _ARROW.max(_ARROW.utf8_length(words)).as_py() > LONG:
        return None
    prefix = _common_prefix(words)
    suffixes = _ARROW.utf8_slice_codeunits(words, len(prefix))
    if _ARROW.all(_matches(suffixes, r"^\d+$")).as_py():
        lengths = _ARROW.min_max(_ARROW.utf8_length(suffixes)).as_py()
        return f"{prefix}{{{'#' * (lengths['min'] if lengths['min'] == lengths['max'] else 1)}}}"
    masked = _ARROW.replace_substring_regex(words, r"\d", "#")
    shapes = _ARROW.unique(_ARROW.replace_substring_regex(masked, "[A-Za-z]", "A")).slice(0, 4).to_pylist()
    is_identifier = len(shapes) <= 3 and any("#" in shape for shape in shapes)
    return f"ID-{{{'#' * max(1, len(str(len(words))))}}}" if is_identifier else None


def _common_prefix(words: pyarrow.Array) -> str:
    """Return the common prefix of all cells, without trailing digits or braces."""
    extremes = _ARROW.min_max(words).as_py()
    first, last = extremes["min"], extremes["max"]
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return re.split(r"[{}]|\d*$", first[:length])[0]


DECIMALS = 9
"""Maximum number of digits after the decimal point."""
POINTS = tuple(f"number:{d}" for d in range(DECIMALS + 1))
COMMAS = tuple(f"comma:{max(d, 1)}" for d in range(DECIMALS + 1))
GROUPED = r"[+-]?[1-9]\d{0,2}(,\d{3})+"
"""Regular expression for numbers with commas that may separate thousands."""
FULL_MINUTES = {form: form.replace("%S", "00") for form in DATES if "%S" in form and "%f" not in form}
"""Formats of times at full minutes, by format with seconds."""
CLASSES = (
    *("missing", *POINTS, *COMMAS[1:], "grouped", "led"),
    *(*(f"date:{form}" for form in DATES), "word"),
    *(f"date:{form}" for form in FULL_MINUTES.values()),
)
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
GAPS = 3.0
"""Noisy count of missing cells above which a column is taken to have missing cells, in standard deviations of the
noise."""
ClassCounts = dict[str | int, float]
"""Noisy count of each cell class whose count is significant."""


def noisy_class_counts(column: FactorizedColumn, noisy: NoisyCounter) -> ClassCounts:
    """Return the noisy count of each cell class (type of content) whose count is significantly above the noise."""
    counts = noisy.counts(cell_classes(column), CLASSES, column.counts.tolist())
    significant = {key: counts[key] for key in noisy.significant(counts)}
    if counts["missing"] > GAPS * noisy.sigma:
        significant["missing"] = counts["missing"]
    return significant


def cell_classes(column: FactorizedColumn) -> list[str]:
    """Return the class (type of content, one of `CLASSES`) of each distinct cell of a column.

    The class of a cell does not depend on other cells.
    """
    words, parsed = column.uniques, COMMA.parse(column.uniques)
    num_decimals = np.minimum(parsed.behind, DECIMALS)
    has_comma = np.asarray(_ARROW.match_substring(words, ","))
    is_number = parsed.valid & ~column.is_in(MISSING) & ~np.asarray(_matches(words, f"^(0\\d+|{GROUPED})$"))
    classes = np.where(has_comma, np.array(COMMAS)[num_decimals], np.array(POINTS)[num_decimals]).astype(object)
    classes[~is_number] = [_cell_class(word) for word in words.filter(pyarrow.array(~is_number)).to_pylist()]
    return classes.tolist()


def _cell_class(cell: str) -> str:
    if cell in MISSING:
        return "missing"
    if re.fullmatch(r"0\d+", cell):
        return "led"
    if re.fullmatch(GROUPED, cell):
        return "grouped"
    number = COMMA.read(cell)
    if number is not None:
        num_decimals = min(max(0, -int(number.as_tuple().exponent)), DECIMALS)  # pyrefly: ignore
        return f"comma:{max(num_decimals, 1)}" if "," in cell else f"number:{num_decimals}"
    date_match = DATE.match(cell)
    date_form = next((form for form in DATES if is_in_format(cell, form)), None) if date_match else None
    if date_form is None:
        return "word"
    is_full_minute = date_form in FULL_MINUTES and in_format(cell, date_form).second == 0
    return f"date:{FULL_MINUTES[date_form] if is_full_minute else date_form}"


def majority_class(class_counts: ClassCounts) -> str | None:
    """Return the most common type of the cells of a column, from the noisy counts of their classes.

    It is `word`, `number`, or `date:FORMAT` with the most common date format; None if no count is significant.

    Numbers count as words if enough of them have leading zeros, as in postcodes. Times have seconds if the number of
    those that are not at a full minute is significant.
    """
    with_seconds = {f"date:{short}": f"date:{form}" for form, short in FULL_MINUTES.items()}
    totals: dict[str, float] = {}
    for class_name, prefixes in (("word", ("word",)), ("number", NUMBERS), ("date", ("date",))):
        counts = {str(key): count for key, count in class_counts.items() if str(key).startswith(prefixes)}
        if counts:
            # Rare formats add to their type; empty ones add no noise, since insignificant counts were dropped.
            best = max(counts, key=lambda key: counts[key])
            best = with_seconds[best] if with_seconds.get(best) in counts else best
            totals["number" if class_name == "number" else best] = sum(counts.values())
    main = max(totals, key=lambda key: totals[key]) if totals else None
    return "word" if main == "number" and class_counts.get("led", 0.0) > MIN_LEADING_ZEROS * totals["number"] else main


def noisy_total(class_counts: ClassCounts, starts: tuple[str, ...]) -> NoisyTotal:
    """Return the noisy number of cells in the significant classes whose names start with one of `starts`."""
    counts = [count for key, count in class_counts.items() if str(key).startswith(starts)]
    return NoisyTotal(sum(counts), len(counts))


MIN_FRACTIONS = 0.05
"""Minimum fraction of numbers with decimals for which a column has decimals; also the minimum frequency of a number of
decimals, as a fraction of that of the most frequent one."""
LAST_DIGITS = 9
"""Ratio of numbers that end in another digit to numbers that end in 0, if the last digit is uniform."""


def number_format_of(class_counts: ClassCounts, threshold: float) -> NumberFormat:
    """Return the main number format of a column, from the significant noisy counts of its classes.

    Trailing zeros are dropped if numbers with fewer decimals occur too. If these are whole numbers only, although
    numbers that end in one dropped zero would be frequent enough to exceed `threshold`, the others have all decimals.

    A comma before three digits is a decimal comma if other numbers of decimals also occur, else a thousands separator.
    """
    points, commas = (
        {d: class_counts.get(f"{prefix}:{d}", 0.0) for d in range(1, DECIMALS + 1)} for prefix in ("number", "comma")
    )
    by_comma = sum(commas.values()) > sum(points.values())
    if by_comma:
        commas[3] += class_counts.get("grouped", 0.0)
    counts = {0: class_counts.get("number:0", 0.0), **{d: points[d] + commas[d] for d in points}}
    fractions = {d: count for d, count in counts.items() if d > 0}
    has_fractions = sum(fractions.values()) > MIN_FRACTIONS * sum(counts.values())
    decimals = max((d for d, count in fractions.items() if count > MIN_FRACTIONS * max(fractions.values())), default=0)
    decimals = decimals if has_fractions else 0
    fewer = [d for d in range(decimals) if counts[d] > 0]
    is_whole = fewer == [0] and decimals > 1 and counts[decimals] / LAST_DIGITS > threshold
    fewest = fewer[0] if fewer and not is_whole else None
    if by_comma:
        return NumberFormat(decimals, fewest, ",", whole=is_whole)
    return NumberFormat(decimals, fewest, thousands="," if class_counts.get("grouped", 0.0) > 0 else "", whole=is_whole)
