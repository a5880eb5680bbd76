"""Differentially private description of tables with several rows per person; each person contributes once to a count.

Columns are searched in one random row of each person. Attributes are the columns that vary within hardly any person, by
noisy counts of the persons with several values. The maximum number of rows is the largest one whose noisy count exceeds
the noise, and the differences from row to row are searched in one random difference of each person.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.data.loading.raw import FactorizedColumn, RawTable
from feller.data.tables.column import Column
from feller.data.tables.dates import Datetime
from feller.data.tables.history_rows import ordered_rows, people_of
from feller.data.tables.history_schema import MAX_ROWS, HistorySchema
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_bounds import number_counts, search_numerical
from feller.data.tables.private_codes import find_codes
from feller.data.tables.private_schema_search import NoiseTooLargeError, SchemaSearchResult, search_schema
from feller.data.tables.private_support import Charge, NoiseSource, NoisyCounter, NoisyTotal, find_intervals
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import NUMBERS, detect_schema, noisy_class_counts, noisy_total
from feller.data.tables.transforms import write_values
from feller.data.tables.unmodelled_columns import Identifier

DEFAULT_MAX_ROWS = 10
"""Maximum number of rows per person if noise hides all numbers of rows."""
EDGE_DEVIATIONS = 1.0
"""Minimum noisy count of a number of rows that extends the maximum, in standard deviations of the noise."""
VARYING_PERSONS = 0.1
"""Fraction of the persons with several rows, who may have several values of an attribute."""
DEVIATIONS = 2.0
"""Number of standard deviations of the noise by which a column must stay below `VARYING_PERSONS`."""
GAP_QUERIES = 4
"""Number of noisy counts of differences from row to row."""
QUERIES_PER_COLUMN = 4
"""Maximum number of noisy counts of a column in the schema search."""


class HistoryNoise(NoiseSource, Protocol):
    """Generator of noise and of uniform numbers that choose rows."""

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Return uniform numbers in [0, 1)."""
        ...


@dataclass(frozen=True)
class HistorySearch:
    """Search for the description of a table with several rows per person."""

    person: str
    """Column that identifies the person of each row."""
    order: str | None = None
    """Column by which the rows of a person are sorted; None for the order of the file."""
    max_rows: int | None = None
    """Maximum number of rows per person; None to find it by noisy counts."""

    def num_queries(self, raw: RawTable) -> int:
        """Return the maximum number of noisy counts to which a person contributes once each."""
        k = len(raw.columns) - 1
        return (QUERIES_PER_COLUMN + 1) * k + 1 + (GAP_QUERIES if self.order is not None else 0)

    def check(self, raw: RawTable) -> int:
        """Return the number of persons; raise an InputError for rows that cannot be grouped and sorted."""
        people = people_of(raw, self.person)
        if self.order is not None:
            if self.order not in raw.columns:
                raise InputError.unknown_name("order", self.order, raw.columns, alternatives=" of the table")
            _check_sortable(raw, self.order)
        if len(raw.columns) < 2:
            raise InputError("a column besides that of persons", "none", column=self.person)
        return int(people.max()) + 1 if len(people) else 0

    def search(self, raw: RawTable, sigma: float, delta: float, noise: HistoryNoise) -> SchemaSearchResult:
        """Return the schema of a table, and the cost of the noisy counts, in persons.

        Args:
            raw: Table with several rows per person.
            sigma: Standard deviation of the noise added to every count, in persons.
            delta: Probability that a word of a single person is released.
            noise: Generator of noise and of the choice of rows.

        Raises:
            NoiseTooLargeError: If noise hides all columns, all but one, or the order.
        """
        people, noisy = people_of(raw, self.person), NoisyCounter(sigma, noise)
        n = int(people.max()) + 1
        chosen = _one_row_each(people, noise)
        names = [name for name in raw.columns if name != self.person]
        table = _columns(raw, names).subset(chosen)
        schema, charges, words, clipped, _ = search_schema(table, sigma, delta, noise)
        lengths = noisy.counts(np.minimum(np.bincount(people), MAX_ROWS).tolist(), range(1, MAX_ROWS + 1), [1] * n)
        counts = [lengths[i] for i in range(1, MAX_ROWS + 1)]
        max_rows = _longest(counts, n, sigma) if self.max_rows is None else self.max_rows
        fixed = [name for name in names if name != self.order]
        varying = noisy.counts(
            range(len(fixed)), range(len(fixed)), [int(_varies(raw, name, people).sum()) for name in fixed]
        )
        limit = VARYING_PERSONS * (n - counts[0]) - DEVIATIONS * sigma
        modelled = {column.name for column in schema.modelled}
        attributes = tuple(name for i, name in enumerate(fixed) if name in modelled and varying[i] < limit)
        charges = (
            *charges,
            Charge("numbers of rows of persons", sigma),
            Charge("columns that vary within persons", sigma / math.sqrt(max(1, len(fixed)))),
        )
        if self.order is None:
            columns, gap = schema.columns, None
        else:
            order = _order_of(schema, self.order, charges)
            columns = tuple(order if column.name == self.order else column for column in schema.columns)
            gap = _gap(raw, people, order, noisy, noise)
            charges = (*charges, Charge("differences from row to row", sigma / math.sqrt(GAP_QUERIES)))
        described = _in_order(columns, Identifier(self.person, first=1), raw.columns)
        history = HistorySchema(self.order, attributes, max_rows, gap=gap)
        try:
            found = Schema(described, "impute", unit=self.person, history=history)
        except InputError as error:
            raise NoiseTooLargeError(
                f"in the columns not hidden by noise, {error}", schema.hidden_names, charges
            ) from error
        return SchemaSearchResult(found, charges, words, clipped)


def _columns(raw: RawTable, names: list[str]) -> RawTable:
    dtypes = (
        tuple(dtype for name, dtype in zip(raw.columns, raw.dtypes, strict=True) if name in names) if raw.dtypes else ()
    )
    return replace(raw, values=raw.values.select(names), columns=tuple(names), dtypes=dtypes)


def _in_order(columns: tuple[Column, ...], person: Identifier, names: tuple[str, ...]) -> tuple[Column, ...]:
    by_name = {column.name: column for column in (*columns, person)}
    return tuple(by_name[name] for name in names)


def _one_row_each(people: Int64[np.ndarray, " m"], noise: HistoryNoise) -> Int64[np.ndarray, " n"]:
    """Return the index of a random row of each person."""
    order = np.argsort(people, kind="stable")
    counts = np.bincount(people)
    u = noise.uniform((len(counts),)).double().numpy()
    return order[counts.cumsum() - counts + np.minimum((u * counts).astype(np.int64), counts - 1)]


def _varies(raw: RawTable, name: str, people: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    """Return True for each person with several values in a column."""
    codes = raw.factorize(name).codes
    first = np.zeros(int(people.max()) + 1, dtype=np.int64)
    first[people[::-1]] = codes[::-1]
    return np.bincount(people, codes != first[people]) > 0


def _longest(counts: list[float], n: int, sigma: float) -> int:
    """Return the largest number of rows whose noisy count exceeds the noise; `DEFAULT_MAX_ROWS` if there is none."""
    intervals = find_intervals(counts, sigma, EDGE_DEVIATIONS, NoisyTotal(n, 0), is_lenient=False)
    return max(2, intervals[-1][1] + 1) if intervals else DEFAULT_MAX_ROWS


def _order_of(schema: Schema, name: str, charges: tuple[Charge, ...]) -> Numerical | Datetime:
    column = schema.by_name[name]
    if not isinstance(column, Numerical | Datetime):
        raise NoiseTooLargeError("noise hides the order of the rows", (name,), charges)
    return replace(column, missing=None, also_missing=())


def _gap(
    raw: RawTable,
    people: Int64[np.ndarray, " m"],
    order: Numerical | Datetime,
    noisy: NoisyCounter,
    noise: HistoryNoise,
) -> Numerical:
    """Return bounds and bins of the differences between rows, from one difference of each person with several rows."""
    rows = ordered_rows(raw, people, order)
    later = np.flatnonzero(rows.step > 0)
    form = NumberFormat(order.form.decimals) if isinstance(order, Numerical) else NumberFormat()
    name, top = order.name, Numerical(order.name, 0.0, 1.0, form=form)
    chosen = later[_one_row_each(np.unique(rows.person[later], return_inverse=True)[1], noise)] if len(later) else later
    texts = write_values(rows.gaps()[chosen], top).dictionary_encode()
    cells = FactorizedColumn(texts.dictionary, np.asarray(texts.indices))
    classes = noisy_class_counts(cells, noisy)
    column = find_codes(name, number_counts(cells, form), form, noisy_total(classes, NUMBERS), noisy, None)
    if column is None:
        found, _ = search_numerical(name, cells, classes, noisy, None)
        column = found if isinstance(found, Numerical) else top
    if column.low < 0 or column.digits:
        column = Numerical(name, 0.0, max(column.high, 1.0), form=form)
    return replace(column, form=form, missing=None, also_missing=(), dtype=None)


def _check_sortable(raw: RawTable, order: str) -> None:
    """Raise an InputError for the first cell of the order that is neither a number nor a date, as the others are."""
    column = detect_schema(_columns(raw, [order]), relations=False).columns[0]
    if not isinstance(column, Numerical | Datetime):
        raise InputError("numbers or dates, by which rows can be sorted", "another kind of column", column=order)
    ordered_rows(raw, np.zeros(len(raw.values), dtype=np.int64), column)
