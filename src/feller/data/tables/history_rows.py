"""Grouping of the rows of a table by person, in order; detection of the columns with one value per person."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow
from jaxtyping import Int64

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import RawTable
from feller.data.tables.dates import Datetime
from feller.data.tables.history_schema import MAX_ROWS, HistorySchema, split_columns
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical, numerical_column
from feller.data.tables.partial_tables import identified
from feller.data.tables.relations import with_relations
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.transforms import (
    cells_of,
    check_derived,
    check_relations,
    modelled_cells,
    read_values,
    write_values,
)
from feller.data.tables.unmodelled_columns import Identifier


@dataclass(frozen=True, eq=False)
class HistoryRows:
    """Rows of a table, grouped by person."""

    persons: RawTable
    """Attributes of each person: number of rows, columns with one value per person, and first value of the order."""
    rows: RawTable
    """Rows of all persons, one person after the other; the order column holds differences from the row before."""
    person: Int64[np.ndarray, " m"]
    """Index of the person of each row."""
    step: Int64[np.ndarray, " m"]
    """Index of each row within its person."""


@dataclass(frozen=True)
class HistoryColumns:
    """Columns with which a table is read as histories; without a person, its schema decides."""

    person: str | None = None
    """Column that identifies the person of each row."""
    order: str | None = None
    """Column by which the rows of a person are sorted (default: the order of the file)."""
    max_rows: int | None = None
    """Maximum number of rows per person."""

    def check(self) -> None:
        """Raise a UsageError if the order or the number of rows is given without a person."""
        for name in ("order", "max_rows"):
            if getattr(self, name) is not None and self.person is None:
                raise UsageError(
                    argument=name,
                    expected="also the column that identifies the person of each row",
                    found="none",
                    remedy="Set --person COLUMN",
                )

    def schema_of(self, raw: RawTable, schema: Schema | None) -> Schema | None:
        """Return the schema of a table, with the history that the columns describe, if there is a person."""
        if self.person is None:
            return schema
        if schema is not None and schema.history is not None:
            raise UsageError("the schema describes the persons", remedy="Leave out --person", argument="person")
        return detect_history(raw, self.person, self.order, self.max_rows, schema)


def people_of(raw: RawTable, unit: str) -> Int64[np.ndarray, " m"]:
    """Return the person of each row, numbered in order of first occurrence.

    Raises:
        InputError: If the column does not exist, or has an empty cell.
    """
    if unit not in raw.columns:
        raise InputError.unknown_name("person", unit, raw.columns, alternatives=" of the table")
    return identified(raw, unit)


def _order_units(raw: RawTable, column: Numerical | Datetime) -> Int64[np.ndarray, " m"]:
    """Return the order of each row in units of the column; InputError for a cell that is not a number or time."""
    if column.name not in raw.columns:
        raise InputError.unknown_name("order", column.name, raw.columns, alternatives=" of the table")
    is_valid, units = read_values(cells_of(raw, column.name), column)
    if not is_valid.all():
        row = int(is_valid.argmin())
        raise InputError(
            column.allowed_text,
            repr(raw.cell(column.name, row)[:40]),
            "Fill the cell: rows are sorted by this column",
            **raw.error_fields(row),
            column=column.name,
        )
    return units


@dataclass(frozen=True, eq=False)
class SortedRows:
    """Rows of a table, sorted by person and order."""

    rows: Int64[np.ndarray, " m"]
    """Index in the table of each row that is kept, sorted by person and order."""
    person: Int64[np.ndarray, " m"]
    step: Int64[np.ndarray, " m"]
    units: Int64[np.ndarray, " m"] | None
    """Order of each kept row, in units of the order column."""

    @property
    def first(self) -> Int64[np.ndarray, " n"]:
        """Index in the table of the first row of each person."""
        return self.rows[self.step == 0]

    def gaps(self, first: int = 0) -> Int64[np.ndarray, " m"]:
        """Return the difference of the order from the row before; `first` for the first row of a person."""
        assert self.units is not None
        return np.where(self.step == 0, first, np.diff(self.units, prepend=0))


def _sorted_rows(people: np.ndarray, units: np.ndarray | None, max_rows: int) -> SortedRows:
    keys = (people,) if units is None else (units, people)
    order = np.lexsort(keys)
    person = people[order]
    starts = np.searchsorted(person, np.arange(int(people.max()) + 1 if len(people) else 0))
    step = np.arange(len(person)) - starts[person]
    kept = step < max_rows
    return SortedRows(order[kept], person[kept], step[kept], None if units is None else units[order][kept])


def within_bounds(
    units: Int64[np.ndarray, " m"], start: Int64[np.ndarray, " m"], low: int, high: int
) -> Int64[np.ndarray, " m"]:
    """Return ascending numbers or times of groups, of which those that end after `high` begin earlier as a whole.

    Their first value moves to the same relative position between `low` and the latest possible beginning, so that no
    values gather at a bound. Differences are kept, unless they are longer than the range together; then all shrink.

    Args:
        units: Numbers or times in units, group after group.
        start: Index of the first row of each row's group.
        low: Least value.
        high: Largest value.
    """
    steps, span = units - units[start], np.zeros_like(units)
    np.maximum.at(span, start, steps)
    span, width = span[start], high - low
    is_late = units[start] + span > high
    position = np.clip((units[start] - low) / max(width, 1), 0, 1)
    first = low + np.floor(position * np.maximum(width - span, 0)).astype(np.int64)
    shrunk = np.floor(steps * np.minimum(width / np.maximum(span, 1), 1)).astype(np.int64)
    return np.where(is_late, first + np.where(span > width, shrunk, steps), units)


def ordered_rows(
    raw: RawTable, people: Int64[np.ndarray, " m"], order: Numerical | Datetime, max_rows: int | None = None
) -> SortedRows:
    """Return the rows of a table, sorted by person and order.

    Raises:
        InputError: If the order of a row is missing, or not a number or time in the format of the column.
    """
    return _sorted_rows(people, _order_units(raw, order), len(raw.values) if max_rows is None else max_rows)


def history_rows(raw: RawTable, schema: Schema) -> HistoryRows:
    """Group the rows of a table by person, and sort them; rows after the first `max_rows` of a person are dropped.

    Raises:
        InputError: If a person or the order of a row is missing, or an attribute has several values for one person
            (unless the schema clips cells, in which case the value in the first row is used).
    """
    history = schema.history
    assert history is not None
    _check_names(raw, schema)
    order = next((column for column in schema.columns if column.name == history.order), None)
    units = _order_units(raw, order) if isinstance(order, Numerical | Datetime) else None
    if units is not None and schema.clips and isinstance(order, Numerical | Datetime):
        units = units.clip(order.levels.starts[0], order.levels.last)
    rows = _sorted_rows(people_of(raw, schema.unit), units, history.max_rows)
    if not schema.clips:
        _check_constant(raw, schema, history, rows)
    table = raw.subset(rows.rows)
    if not schema.clips:
        check_relations(table, schema)
        check_derived(table, schema)
    table = modelled_cells(table, schema)
    persons, of_rows = split_columns(schema, history)
    first = pyarrow.array(np.flatnonzero(rows.step == 0))
    cells = {persons.names[0]: pyarrow.array(np.bincount(rows.person)).cast(pyarrow.large_string())}
    cells |= {name: cells_of(table, name).take(first) for name in persons.names[1:] if name in table.columns}
    person_table = RawTable(pyarrow.table(cells), columns=tuple(cells), lines=_lines(raw, rows.first))
    taken = {name: cells_of(table, name) for name in of_rows.names if name in table.columns}
    if history.gap is not None and history.order is not None:
        taken[history.order] = write_values(rows.gaps(history.gap.levels.starts[0]), history.gap)
    row_table = RawTable(pyarrow.table(taken), columns=tuple(taken), lines=_lines(raw, rows.rows))
    return HistoryRows(person_table, row_table, rows.person, rows.step)


def _lines(raw: RawTable, index: np.ndarray) -> np.ndarray:
    return index + 1 if raw.lines is None else raw.lines[index]


def _check_names(raw: RawTable, schema: Schema) -> None:
    unknown = next((name for name in raw.columns if name not in schema.names), None)
    if unknown is not None:
        raise InputError.unknown_name("column", unknown, schema.names, alternatives=" of the schema")


def _check_constant(raw: RawTable, schema: Schema, history: HistorySchema, rows: SortedRows) -> None:
    for name in history.attributes:
        if name not in raw.columns:
            continue
        codes = raw.factorize(name).codes
        changed = codes[rows.rows] != codes[rows.first][rows.person]
        if changed.any():
            row = int(rows.rows[changed.argmax()])
            raise InputError(
                f"the value of {schema.unit} {raw.cell(schema.unit, row)!r} in its first row,"
                f" {raw.cell(name, int(rows.first[rows.person[changed.argmax()]]))!r}",
                repr(raw.cell(name, row)),
                'Correct the cell, or remove the column from "attributes" in the schema',
                **raw.error_fields(row),
                column=name,
            )


def detect_history(
    raw: RawTable, person: str, order: str | None = None, max_rows: int | None = None, schema: Schema | None = None
) -> Schema:
    """Return a schema with a history, whose attributes are the columns with one value per person.

    The result depends on the rows, and is not private.

    Args:
        raw: Table with several rows per person.
        person: Name of the column that identifies people.
        order: Name of the column by which the rows of a person are sorted (default: the order of the file).
        max_rows: Maximum number of rows per person (default: that of the table, but at most `MAX_ROWS`).
        schema: Schema of the columns (default: detected from the cells).

    Raises:
        InputError: If a column does not exist, no person has several rows, or no column varies within a person.
    """
    people = people_of(raw, person)
    if order is not None and order not in raw.columns:
        raise InputError.unknown_name("order", order, raw.columns, alternatives=" of the table")
    base = schema or detect_schema(raw, relations=False)
    columns = tuple(
        Identifier(person, first=1) if column.name == person and not isinstance(column, Identifier) else column
        for column in base.columns
    )
    base = replace(base, columns=columns)
    longest = int(np.bincount(people).max())
    if longest < 2:
        raise InputError("several rows of at least one person", "one row each", "Fit without --person", column=person)
    limit = max(2, min(longest, MAX_ROWS)) if max_rows is None else max_rows
    column = next((column for column in base.columns if column.name == order), None)
    if order is not None and not isinstance(column, Numerical | Datetime):
        raise InputError("numbers or dates, by which rows can be sorted", "another kind of column", column=order)
    units = _order_units(raw, column) if isinstance(column, Numerical | Datetime) else None
    if isinstance(column, Numerical | Datetime) and column.missing is not None:
        base = replace(
            base, columns=tuple(replace(c, missing=None, also_missing=()) if c is column else c for c in base.columns)
        )
    rows = _sorted_rows(people, units, limit)
    constant = [name for name in raw.columns if name not in (person, order) and _is_constant(raw, name, rows)]
    modelled = {column.name for column in base.modelled}
    attributes = [name for name in constant if name in modelled]
    gap = None if units is None or order is None else _gap(order, column, rows)
    history = HistorySchema(order, tuple(attributes), limit, gap=gap)
    described = replace(base, unit=person, history=history)
    return described if schema else with_relations(raw, described)


def _is_constant(raw: RawTable, name: str, rows: SortedRows) -> bool:
    codes = raw.factorize(name).codes
    return bool((codes[rows.rows] == codes[rows.first][rows.person]).all())


def _gap(name: str, order: Any, rows: SortedRows) -> Numerical:
    """Return bounds and bins of the differences between rows, which start at 0."""
    gaps = rows.gaps()[rows.step > 0]
    units, counts = np.unique(gaps, return_counts=True)
    form = NumberFormat(order.form.decimals) if isinstance(order, Numerical) else NumberFormat()
    return numerical_column(name, units.astype(np.int64), counts.astype(np.int64), form)
