"""Differentially private schema search: it uses noisy counts only and charges each to the privacy budget.

A row contributes to at most one count per column, so the counts of k columns have L2 sensitivity sqrt(k), and noise
of standard deviation s is a Gaussian mechanism with noise multiplier s / sqrt(k). Words are released if their noisy
count exceeds a threshold. A word that occurs in a single row exceeds it with probability delta.
"""

import datetime
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import FactorizedColumn, RawTable
from feller.data.tables.clipped_cells import ClippedCells, KeptWords, clipped_cells, kept_words
from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.dates import Datetime, read_times, write_time
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_bounds import search_numerical
from feller.data.tables.private_support import Charge, NoiseSource, NoisyCounter, find_intervals
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import (
    BOOLEAN_WORDS,
    MISSING,
    OTHER,
    ClassCounts,
    majority_class,
    noisy_class_counts,
    noisy_total,
)
from feller.data.tables.unmodelled_columns import FreeText, HiddenColumn

YEARS = range(1800, 2201)
"""Range of years in which dates are searched; public."""
EDGE_DEVIATIONS = 0.25
"""Minimum noisy count of a year that extends the bounds of dates, in standard deviations of the noise."""
SHARED = 0.1
"""Largest release threshold, as a fraction of the rows, up to which a column without released words is free text."""


class NoiseTooLargeError(InputError):
    """Error raised if noise hides all columns, or all but one; the privacy cost of the counts remains spent.

    The message depends only on noisy counts that are already charged, so it may be published.
    """

    def __init__(self, message: str, hidden_columns: Sequence[str], charges: tuple[Charge, ...]) -> None:
        super().__init__(message)
        self.hidden_columns = tuple(hidden_columns)
        """Columns whose values are hidden by noise."""
        self.charges = charges
        """Privacy cost so far."""


class SchemaSearchResult(NamedTuple):
    """Result of a private schema search: the schema, its privacy cost, and reports."""

    schema: Schema
    """Detected schema, which clips cells outside its bounds."""
    charges: tuple[Charge, ...]
    """Gaussian mechanisms of the noisy counts; their deltas add to the total delta."""
    kept_words: tuple[KeptWords, ...]
    """Treatment of rare words in each categorical column, derived from the same noisy counts."""
    clipped_cells: tuple[ClippedCells, ...] = ()
    """Columns with many cells outside the detected bounds, derived from the same noisy counts."""


def search_schema(raw: RawTable, sigma: float, delta: float, noise_source: NoiseSource) -> SchemaSearchResult:
    """Detect a schema from noisy counts: column types, bounds, edges and values.

    The names and order of columns, the number of rows, and the part of data frame dtypes that does not depend on cells
    are public. A column without significant counts becomes a `HiddenColumn`.

    Args:
        raw: Table cells.
        sigma: Standard deviation of the noise added to every count, in rows.
        delta: Probability, over all text columns together, that a word of a single row is released.
        noise_source: Generator of the noise.

    Returns:
        Schema, privacy cost, treatment of rare words, and clipped columns.

    Raises:
        UsageError: If sigma or delta is out of range.
        NoiseTooLargeError: If noise hides all columns or all but one; raised as early as possible.
    """
    if not (0 < sigma < math.inf and 0 < delta < 1):
        raise UsageError("noise above 0 and a delta between 0 and 1", f"{sigma:g} and {delta:g}")
    noisy = NoisyCounter(sigma, noise_source)
    cells = {name: raw.factorize(name) for name in raw.columns}
    class_counts = {name: noisy_class_counts(cells[name], noisy) for name in cells}
    charges = [_charge("kinds of the columns", sigma, len(cells))]
    kinds = {name: kind for name, look in class_counts.items() if (kind := majority_class(look)) is not None}
    _check_not_hidden([name for name in cells if name not in kinds], len(kinds), charges)
    numbers = [name for name in kinds if kinds[name] == "number"]
    dates = [name for name in kinds if kinds[name].startswith("date")]
    words = [name for name in kinds if kinds[name] == "word"]
    dtypes = dict(zip(raw.columns, map(_sturdy, raw.dtypes), strict=True)) if raw.dtypes else {}
    columns: dict[str, Column] = {}
    merged: list[KeptWords] = []
    outside: list[ClippedCells | None] = []
    for name in numbers:
        columns[name], far = search_numerical(name, cells[name], class_counts[name], noisy, dtypes.get(name))
        outside.append(far)
    for name in dates:
        form = kinds[name].partition(":")[2]
        columns[name], far = _dates(name, cells[name], form, class_counts[name], noisy, dtypes.get(name))
        outside.append(far)
    for name in words:
        columns[name], words_kept = _values(
            name, cells[name], class_counts[name], delta / len(words), noisy, dtypes.get(name)
        )
        merged += [words_kept] if words_kept else []
    if numbers:
        charges += [
            _charge(f"{what} of {_columns(numbers)} of numbers", sigma, len(numbers)) for what in ("bounds", "edges")
        ]
    if dates:
        charges.append(_charge(f"years of {_columns(dates)} of dates", sigma, len(dates)))
    if words:
        charges.append(_charge(f"values of {_columns(words)} of words", sigma, len(words))._replace(delta=delta))
    for name, column in columns.items():  # no missing cells if their count is not significant
        if "missing" not in class_counts[name] and isinstance(column, Boolean | Categorical | Datetime | Numerical):
            columns[name] = replace(column, missing=None, also_missing=())
    whole = tuple(columns.get(name, HiddenColumn(name)) for name in cells)
    hidden_columns = [column.name for column in whole if isinstance(column, HiddenColumn)]
    _check_not_hidden(hidden_columns, sum(isinstance(column, ModelledColumn) for column in whole), charges)
    try:
        return SchemaSearchResult(Schema(whole, "impute"), tuple(charges), tuple(merged), tuple(filter(None, outside)))
    except InputError as error:
        raise NoiseTooLargeError(
            f"in the columns not hidden by noise, {error}", hidden_columns, tuple(charges)
        ) from error


def _check_not_hidden(hidden_columns: Sequence[str], num_found: int, charges: Sequence[Charge]) -> None:
    if hidden_columns and num_found <= 1:
        raise NoiseTooLargeError(
            "noise hides the values of all columns, or of all but one", hidden_columns, tuple(charges)
        )


def _sturdy(dtype: str) -> str | None:
    """Return the cell-independent part of a dtype, without time precision; None if it follows from the column type."""
    if dtype.startswith("datetime64"):
        return re.sub(r"\[\w+", "[us", dtype)
    return "category" if dtype.startswith("category") else None


def _columns(names: Sequence[str]) -> str:
    return "1 column" if len(names) == 1 else f"{len(names)} columns"


def _charge(what: str, sigma: float, columns: int) -> Charge:
    return Charge(what, sigma / math.sqrt(columns))


def _dates(
    name: str, cells: FactorizedColumn, form: str, class_counts: ClassCounts, noisy: NoisyCounter, dtype: str | None
) -> tuple[Column, ClippedCells | None]:
    """Return a date column bounded by years with significant counts, alone or with neighbours; hidden without any."""
    times = read_times(cells.uniques, form)
    there = ~cells.is_in(MISSING) & ~np.isnat(times)
    years = times[there].astype("M8[Y]").astype(np.int64) + 1970
    counts = noisy.counts(years.tolist(), YEARS, cells.counts[there].tolist())
    line = [counts[year] for year in YEARS]
    found = find_intervals(line, noisy.sigma, EDGE_DEVIATIONS, noisy_total(class_counts, ("date",)))
    if not found:
        return HiddenColumn(name), None
    first, last = found[0][0], found[-1][1]
    bounds = (
        write_time(datetime.datetime(YEARS[first], 1, 1), form),
        write_time(datetime.datetime(YEARS[last], 12, 31, 23, 59, 59), form),
    )
    terms = sum(b - a + 1 for a, b in found)
    inside = sum(sum(line[a : b + 1]) for a, b in found)
    clipped = clipped_cells(name, bounds, inside, terms, class_counts, n=len(cells.codes), sigma=noisy.sigma)
    return Datetime(name, *bounds, form, (), None, "", MISSING[1:], dtype), clipped


def _values(
    name: str, cells: FactorizedColumn, class_counts: ClassCounts, delta: float, noisy: NoisyCounter, dtype: str | None
) -> tuple[Column, KeptWords | None]:
    """Return a column of the frequent words; without any, free text, or hidden if they cannot exceed the noise."""
    n, there = len(cells.codes), ~cells.is_in(MISSING)
    exact = zip(cells.uniques.filter(pyarrow.array(there)).to_pylist(), cells.counts[there].tolist(), strict=True)
    words = dict(noisy.words(dict(exact), delta))
    threshold = noisy.threshold(delta)
    if not words:
        # The number of rows and the threshold are public, so this depends on no cell.
        return (FreeText(name, dtype=dtype) if threshold <= SHARED * n else HiddenColumn(name)), None
    twice = next((pair for pair in BOOLEAN_WORDS if {*pair} == {*words}), None)
    if twice is not None:
        return Boolean(name, *twice, "", MISSING[1:], dtype), None
    other = OTHER if OTHER not in words else None
    column = Categorical(name, tuple(words), other, "", MISSING[1:], dtype)
    written = sum(count for kind, count in class_counts.items() if kind != "missing")
    words_kept = kept_words(name, words, OTHER, written, n=n, sigma=noisy.sigma, threshold=threshold)
    return column, words_kept if other else None
