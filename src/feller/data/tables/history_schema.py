"""Description of tables with several rows per person, and its split into the columns of persons and those of rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from feller.core.errors import InputError, check_number
from feller.data.tables.column import Column, ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import sources_of
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical

if TYPE_CHECKING:
    from feller.data.tables.schema import Schema

MAX_ROWS = 100
"""Default maximum number of rows per person."""
NUM_ROWS = "num_rows"
"""Name of the column with the number of rows of a person."""


@dataclass(frozen=True)
class HistorySchema:
    """Description of the rows of a person, whose column is the `unit` of the schema."""

    order: str | None = None
    """Name of the numerical or datetime column by which the rows of a person are sorted; None for the order of the
    file. Its first value is modelled, and then the difference from row to row."""
    attributes: tuple[str, ...] = ()
    """Names of the columns with one value per person, such as a birth date."""
    max_rows: int = MAX_ROWS
    """Maximum number of rows per person; further rows are dropped before anything is computed."""
    min_rows: int = 1
    """Minimum number of rows per person; 0 only if the persons are listed in a table of their own."""
    gap: Numerical | None = None
    """Bounds and bins of the difference of `order` from row to row, in days or the finest unit of its format, or for
    numbers in their own unit."""

    def __post_init__(self) -> None:
        check_number("max_rows", self.max_rows, ge=2)
        check_number("min_rows", self.min_rows, ge=0, le=self.max_rows)
        if (self.order is None) != (self.gap is None):
            raise InputError(
                argument="history",
                expected="`gap`, the bounds of the difference from row to row, together with `order`",
                found=f"order {self.order} and gap {self.gap}",
            )
        if self.gap is not None and (self.gap.low < 0 or self.gap.missing is not None or self.gap.digits):
            raise InputError(
                argument="gap", expected="a low of at least 0, without missing values and digits", found=self.gap.low
            )


def check_history(schema: "Schema", history: HistorySchema) -> None:
    """Raise an InputError if a history does not fit the columns of its schema."""
    columns = {column.name: column for column in schema.columns}
    if schema.unit not in columns:
        raise InputError(argument="unit", expected="the column that identifies the person of each row", found="row")
    for name in (*history.attributes, *([history.order] if history.order else [])):
        if name not in columns:
            raise InputError.unknown_name("column of the history", name, columns)
    if schema.unit in (*history.attributes, history.order):
        raise InputError("the person is neither an attribute nor the order", column=schema.unit)
    order = None if history.order is None else columns[history.order]
    if order is not None and (not isinstance(order, Numerical | Datetime) or order.missing is not None):
        raise InputError("a numerical or datetime column without missing cells", "another", column=history.order)
    if history.order in history.attributes:
        raise InputError("the order of the rows has several values per person", column=history.order)
    split_columns(schema, history)


def split_columns(schema: "Schema", history: HistorySchema) -> tuple["Schema", "Schema"]:
    """Return the schema of persons and the schema of rows.

    The first column of persons is the number of rows, `NUM_ROWS`. The order column is a column of both: its first
    value, and its difference from the row before.

    Raises:
        InputError: If a rule or a derived column relates a column of persons to a column of rows, or rows have no
            modelled column.
    """
    of_persons = {*history.attributes}
    for column in schema.columns:
        sources = sources_of(column)
        if len({name in of_persons for name in (column.name, *sources)}) > 1 or history.order in sources:
            raise InputError(
                "a column and its source, both attributes or both not, and no source that sorts the rows",
                f"computed from {', '.join(sources)}",
                "Declare the column without a source",
                column=column.name,
            )
    columns = [column for column in schema.columns if column.name != schema.unit]
    rules = {True: [], False: []}
    for rule in schema.rules:
        sides = {name in of_persons for name in rule.names}
        if len(sides) > 1 or history.order in rule.names:
            raise InputError("a rule between two attributes, or between two columns of the same row", rule.text)
        rules[sides.pop()].append(rule)
    name = NUM_ROWS
    while name in schema.names:
        name += "_"
    num_counts = history.max_rows - history.min_rows + 1
    counts = Numerical(name, float(history.min_rows), float(history.max_rows), bins=num_counts, form=NumberFormat())
    persons: list[Column] = [counts, *(column for column in columns if column.name in of_persons)]
    rows: list[Column] = [column for column in columns if column.name not in of_persons]
    if history.order is not None and history.gap is not None:
        gap = replace(history.gap, name=history.order)
        persons.append(next(column for column in rows if column.name == history.order))
        rows = [gap if column.name == history.order else column for column in rows]
    if not any(isinstance(column, ModelledColumn) for column in rows):
        raise InputError("no column varies within a person", remedy="Fit the table without --person")
    kind = type(schema)
    return (
        kind(tuple(persons), schema.outside, rules=tuple(rules[True])),
        kind(tuple(rows), schema.outside, rules=tuple(rules[False])),
    )


def gap_unit(order: Column) -> str:
    """Return the unit of the differences of an order column, such as days, for messages."""
    return f"{order.unit}s" if isinstance(order, Datetime) else "its own unit"


def modelled_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the names of the modelled columns."""
    return tuple(column.name for column in columns if isinstance(column, ModelledColumn))
