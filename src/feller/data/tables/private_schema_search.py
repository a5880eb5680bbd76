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

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import FactorizedColumn, RawTable
from feller.data.tables.clipped_cells import ClippedCells, KeptWords, clipped_cells
from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.dates import Datetime, read_times, write_time
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_bounds import number_counts, search_numerical
from feller.data.tables.private_codes import MAX_DECIMALS, find_codes
from feller.data.tables.private_support import TAIL_NOISE_FRACTION, Charge, NoiseSource, NoisyCounter, find_intervals
from feller.data.tables.private_words import search_words, with_other
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import (
    CLASSES,
    MISSING,
    NUMBERS,
    ClassCounts,
    majority_class,
    noisy_class_counts,
    noisy_total,
    number_format_of,
)
from feller.data.tables.unmodelled_columns import HiddenColumn

YEARS = range(1800, 2201)
"""Range of years in which dates are searched; public."""
EDGE_DEVIATIONS, CLEAR_EDGE_DEVIATIONS = 0.25, 2.0
"""Minimum noisy count of a year that extends the bounds of dates, in standard deviations of the noise: with much noise,
and with little noise, see `TAIL_NOISE_FRACTION`."""


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
    notes: tuple[str, ...] = ()
    """Notes on relations between columns, derived from noisy counts."""


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
    classes = {
        name: class_name for name, counts in class_counts.items() if (class_name := majority_class(counts)) is not None
    }
    _check_not_hidden([name for name in cells if name not in classes], len(classes), charges)
    number_columns = [name for name in classes if classes[name] == "number"]
    date_columns = [name for name in classes if classes[name].startswith("date")]
    word_columns = [name for name in classes if classes[name] == "word"]
    threshold = noisy.significance(len(CLASSES))
    formats = {name: number_format_of(class_counts[name], threshold) for name in number_columns}
    dtypes = dict(zip(raw.columns, map(_sturdy, raw.dtypes), strict=True)) if raw.dtypes else {}
    columns: dict[str, Column] = {}
    word_reports: list[KeptWords] = []
    clip_reports: list[ClippedCells | None] = []
    counted = [name for name in number_columns if formats[name].decimals <= MAX_DECIMALS]
    for name in counted:
        total = noisy_total(class_counts[name], NUMBERS)
        counts = number_counts(cells[name], formats[name])
        column = find_codes(name, counts, formats[name], total, noisy, dtypes.get(name))
        columns |= {} if column is None else {name: column}
    measured = [name for name in number_columns if name not in columns]
    for name in measured:
        columns[name], clipped = search_numerical(name, cells[name], class_counts[name], noisy, dtypes.get(name))
        clip_reports.append(clipped)
    for name in date_columns:
        form = classes[name].partition(":")[2]
        columns[name], clipped = _dates(name, cells[name], form, class_counts[name], noisy, dtypes.get(name))
        clip_reports.append(clipped)
    kept = {
        name: search_words(name, cells[name], delta / len(word_columns), noisy, dtypes.get(name))
        for name in word_columns
    }
    columns |= kept
    listed = {name: column for name, column in kept.items() if isinstance(column, Categorical)}
    for name, column in listed.items():
        columns[name], word_report = with_other(column, cells[name], noisy, noisy.threshold(delta / len(word_columns)))
        word_reports += [word_report] if word_report else []
    charges += [
        _charge(f"{label} of {_columns(names)} of numbers", sigma, len(names))
        for label, names in (("codes", counted), ("bounds", measured), ("edges", measured))
        if names
    ]
    if date_columns:
        charges.append(_charge(f"years of {_columns(date_columns)} of dates", sigma, len(date_columns)))
    if word_columns:
        charges.append(
            _charge(f"values of {_columns(word_columns)} of words", sigma, len(word_columns))._replace(delta=delta)
        )
    if listed:
        charges.append(_charge(f"other values of {_columns([*listed])} of words", sigma, len(listed)))
    for name, column in columns.items():  # no missing cells if their count is not significant
        if "missing" not in class_counts[name] and isinstance(column, Boolean | Categorical | Datetime | Numerical):
            columns[name] = replace(column, missing=None, also_missing=())
    schema_columns = tuple(columns.get(name, HiddenColumn(name)) for name in cells)
    hidden_columns = [column.name for column in schema_columns if isinstance(column, HiddenColumn)]
    _check_not_hidden(hidden_columns, sum(isinstance(column, ModelledColumn) for column in schema_columns), charges)
    try:
        return SchemaSearchResult(
            Schema(schema_columns, "impute"), tuple(charges), tuple(word_reports), tuple(filter(None, clip_reports))
        )
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
    """Return the part of a dtype that no cell determines, without time precision.

    None if the column type already implies the dtype.
    """
    if dtype.startswith("datetime64"):
        return re.sub(r"\[\w+", "[us", dtype)
    return "category" if dtype.startswith("category") else None


def _columns(names: Sequence[str]) -> str:
    return "1 column" if len(names) == 1 else f"{len(names)} columns"


def _charge(label: str, sigma: float, columns: int) -> Charge:
    return Charge(label, sigma / math.sqrt(columns))


def _dates(
    name: str, cells: FactorizedColumn, form: str, class_counts: ClassCounts, noisy: NoisyCounter, dtype: str | None
) -> tuple[Column, ClippedCells | None]:
    """Return a date column from the first to the last year with a significant noisy count, and a report of clipping.

    A column without such a year is hidden.
    """
    times = read_times(cells.uniques, form)
    is_date = ~cells.is_in(MISSING) & ~np.isnat(times)
    years = times[is_date].astype("M8[Y]").astype(np.int64) + 1970
    counts = noisy.counts(years.tolist(), YEARS, cells.counts[is_date].tolist())
    year_counts = [counts[year] for year in YEARS]
    total = noisy_total(class_counts, ("date",))
    has_little_noise = noisy.sigma <= TAIL_NOISE_FRACTION * total.sum
    edge_deviations = CLEAR_EDGE_DEVIATIONS if has_little_noise else EDGE_DEVIATIONS
    intervals = find_intervals(year_counts, noisy.sigma, edge_deviations, total)
    if not intervals:
        return HiddenColumn(name), None
    first, last = intervals[0][0], intervals[-1][1]
    bounds = (
        write_time(datetime.datetime(YEARS[first], 1, 1), form),
        write_time(datetime.datetime(YEARS[last], 12, 31, 23, 59, 59), form),
    )
    terms = sum(b - a + 1 for a, b in intervals)
    num_inside = sum(sum(year_counts[a : b + 1]) for a, b in intervals)
    clipped = clipped_cells(name, bounds, num_inside, terms, class_counts, n=len(cells.codes), sigma=noisy.sigma)
    return Datetime(name, *bounds, form, (), None, "", MISSING[1:], dtype), clipped
