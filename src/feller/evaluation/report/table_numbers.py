"""Means and quantiles of the columns of numbers, synthetic beside real."""

from collections.abc import Sequence

from feller.evaluation.report.grid import Cell, Grid
from feller.evaluation.report.wording import SPACE
from feller.evaluation.tables.spread import QUANTILES, Beside

WORDS = (
    "Of the numbers as they are written, beside all rows of the real table. Within a bin numbers are drawn evenly:"
    " where a mean is far off, more edges in the schema help, above all in a long tail."
)


def numbers_grid(columns: Sequence[Beside]) -> Grid:
    """Return a row for each column of numbers; one or more."""
    what = ("mean", "deviation", *(f"{100 * share:g}{SPACE}%" for share in QUANTILES))
    head = ("Column", *(name for one in what for name in (one, f"{one}, real")), "")
    return Grid("Means and quantiles", WORDS, head, [_row(column) for column in columns])


def _row(column: Beside) -> tuple[Cell, ...]:
    made, real = ((one.mean, one.deviation, *one.quantiles) for one in (column.made, column.real))
    cells = (cell for pair in zip(made, real, strict=True) for cell in pair)
    return (column.name, *cells, "far off" if column.is_far_off else "")
