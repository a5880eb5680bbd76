"""Cells of real and synthetic tables: loss by encoding, exact copies, means and quantiles.

Where a schema clips, cells that it does not know become others, often missing ones, before anything is compared: a
table of empty cells then looks as good as real. So these numbers are of the cells as they are written.

Rows are compared by bins, and within a bin a number is drawn evenly: of a long tail in one wide bin the shares can be
right, and the mean far off. So these are of the numbers as they are written.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.data.loading.raw import FoundTable
from feller.data.tables.column import Categorical
from feller.data.tables.detect_schema import MISSING, PLAIN
from feller.data.tables.encoding import encode
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema


def cells_lost(
    synthetic: Int64[Tensor, "n k"], real: FoundTable | None, schema: Schema
) -> dict[str, float | int | str | None]:
    """Measure empty cells, clipped ones, and columns that are left out, of a schema that clips; {} of others.

    What is clipped needs the cells of the real table.
    """
    hidden: dict[str, float | int | str | None] = {"left_out": ", ".join(schema.untold)} if schema.untold else {}
    if real is None or not len(real.values) or not len(synthetic) or schema.outside != "clip":
        return hidden
    columns = schema.modelled
    ends = np.array([column.own_count for column in columns])
    may_miss = np.array([column.missing is not None for column in columns])
    made = (synthetic.cpu().numpy() == ends) & may_miss
    there = np.array(
        [
            [cell in MISSING or cell in column.words_for_missing for cell in real.column(column.name)]
            for column in columns
        ]
    )
    outside = encode(real, schema).outside / len(real.values)
    clipped = outside.mean().item()
    worst = (
        {"clipped_max": outside.max().item(), "clipped_worst": columns[int(outside.argmax())].name} if clipped else {}
    )
    merged = _merged(real, schema) / there.size
    lost = {"empty": float(made.mean()), "empty_real": float(there.mean()), "clipped": clipped, "merged": merged}
    return {**lost, **worst, "cells_real": there.size, **hidden}


def _merged(real: FoundTable, schema: Schema) -> int:
    """Count the cells whose words are read as the one for all others."""
    count = 0
    for column in schema.modelled:
        if isinstance(column, Categorical) and column.other is not None:
            known = {*column.values, column.other, *column.words_for_missing, *MISSING}
            count += sum(cell not in known for cell in real.column(column.name))
    return count


def written_share(made: FoundTable, real: FoundTable, schema: Schema) -> float:
    """Return the share of rows whose learned cells all stand in one row of the real table; numbers count by value."""
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


QUANTILES = (0.05, 0.5, 0.95)
MUCH = 0.25
"""Of the real mean, or deviation, and of the way from the first to the last quantile: more is far off."""
CERTAIN = 4
"""Standard errors within which means may differ by chance."""


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and quantiles of the numbers of a column."""

    count: int
    mean: float
    deviation: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Beside:
    """A column of numbers in both tables."""

    name: str
    made: Spread
    real: Spread

    @property
    def is_far_off(self) -> bool:
        """Tell whether the mean, or a quantile, is off by more than a quarter, and more than chance explains."""
        made, real = self.made, self.real
        error = math.hypot(made.deviation / math.sqrt(made.count), real.deviation / math.sqrt(real.count))
        bound = max(CERTAIN * error, MUCH * min(real.deviation, abs(real.mean) or real.deviation))
        width = real.quantiles[-1] - real.quantiles[0]
        apart = max(abs(a - b) for a, b in zip(made.quantiles, real.quantiles, strict=True))
        return abs(made.mean - real.mean) > bound or (width > 0 and apart > MUCH * width)


def numbers_beside(made: FoundTable, real: FoundTable, schema: Schema) -> Sequence[Beside]:
    """Return where the numbers of each column lie in both tables; nothing of columns without any in one of them."""
    return tuple(_beside(made, real, schema))


def _beside(made: FoundTable, real: FoundTable, schema: Schema) -> Iterator[Beside]:
    for column in schema.modelled:
        if isinstance(column, Numerical):
            both = [_numbers(column, table) for table in (made, real)]
            if all(map(len, both)):
                yield Beside(column.name, *map(_spread, both))


def _numbers(column: Numerical, table: FoundTable) -> Float64[np.ndarray, " n"]:
    cells = (cell for cell in table.column(column.name) if cell not in column.words_for_missing)
    read = (column.form.read(cell) for cell in cells)
    return np.array([float(number) for number in read if number is not None], dtype=np.float64)


def _spread(numbers: Float64[np.ndarray, " n"]) -> Spread:
    quantiles = tuple(float(one) for one in np.quantile(numbers, QUANTILES))
    return Spread(len(numbers), float(numbers.mean()), float(numbers.std()), quantiles)
