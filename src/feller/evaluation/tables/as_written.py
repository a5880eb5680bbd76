"""Whether synthetic rows stand in the real table as they are written, not only in the same bins."""

from decimal import Decimal

from feller.data.loading.raw import FoundTable
from feller.data.tables.cell_kinds import PLAIN
from feller.data.tables.schema import Schema

EXPLAIN_COPIES = {
    "copies_written": "Share of synthetic rows that stand in the real table as they are written, in all columns that"
    " are learned: the same words, and the same numbers to the last digit.",
}
"""One plain sentence for each number."""


def written_share(made: FoundTable, real: FoundTable, schema: Schema) -> float:
    """Return the share of rows whose cells all stand in one row of the real table; numbers are the same by value.

    Args:
        made: Cells of synthetic rows.
        real: Cells of the real table, that were learned from and those kept back.
        schema: Names the columns that are learned; others are not looked at.
    """
    known = {*_rows(real, schema)}
    rows = _rows(made, schema)
    return sum(row in known for row in rows) / len(rows) if rows else 0.0


def _rows(found: FoundTable, schema: Schema) -> list[tuple[str | Decimal, ...]]:
    columns = [found.column(column.name) for column in schema.modelled]
    read = [{cell: _value(cell) for cell in {*column}} for column in columns]
    return [tuple(values[cell] for values, cell in zip(read, row, strict=True)) for row in zip(*columns, strict=True)]


def _value(cell: str) -> str | Decimal:
    """Return a number, so that 3 and 3.0 are the same, else the word itself."""
    number = PLAIN.read(cell)
    return cell.strip() if number is None else number
