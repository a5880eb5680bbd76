"""Where the numbers of a synthetic table lie, beside those of the real one: what bins cannot see.

Rows are compared by bins, and within a bin a number is drawn evenly: of a long tail in one wide bin the shares can be
right, and the mean far off. So these are of the numbers as they are written.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from feller.data.loading.raw import FoundTable
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema

QUANTILES = (0.05, 0.5, 0.95)
MUCH = 0.25
"""Of the real mean, or deviation, and of the way from the first to the last quantile: more is far off."""
CERTAIN = 4
"""Standard errors within which means may differ by chance."""
EXPLAIN_NUMBERS = {
    "numbers_off": "Columns of numbers whose mean or quantiles are far from those of the real table, by more than a"
    " quarter: sums and means of them are of no use; more edges where the numbers lie help.",
}
"""One plain sentence for each number."""


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
