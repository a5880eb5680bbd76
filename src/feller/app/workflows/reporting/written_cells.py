"""Numbers of the cells of a table as they stand in its file, beside those of what was read of them."""

import pathlib

from feller.app.workflows.fitting.plan_fit import TABLES
from feller.app.workflows.reporting.comparison import Judged
from feller.data.loading.find import table_cells
from feller.data.loading.raw import FoundTable
from feller.data.tables.modality import Table
from feller.evaluation.report.grid import Grid
from feller.evaluation.report.table_numbers import numbers_grid
from feller.evaluation.tables.as_written import written_share
from feller.evaluation.tables.cells import cells_lost
from feller.evaluation.tables.quality import Numbers
from feller.evaluation.tables.spread import numbers_beside


def of_cells(judged: Judged, data: str) -> tuple[Numbers, tuple[Grid, ...]]:
    """Measure rows that stand in the table as they are written, what reading lost, and where numbers lie.

    Nothing is measured of other data.

    The numbers are of real rows, without noise: like the rest of a report they are for whoever owns the rows.

    Args:
        judged: What is compared.
        data: What the run was fitted to.

    Returns:
        Numbers by their names, and means and quantiles of the columns of numbers, if there are any.
    """
    kind = judged.generated.modality
    if not isinstance(kind, Table):
        return {}, ()
    learned = _cells(data)
    real = _cells(judged.data) if judged.data else learned
    lost = cells_lost(judged.generated.values, real, kind.schema) if kind.schema.outside == "clip" else {}
    made = _cells(judged.samples) if judged.samples else kind.cells(judged.generated.values)
    if learned is None or made is None:
        return lost, ()
    columns = numbers_beside(made, learned, kind.schema)
    off = ", ".join(column.name for column in columns if column.is_far_off)
    numbers = {"copies_written": written_share(made, learned, kind.schema), **lost}
    return numbers | ({"numbers_off": off} if off else {}), (numbers_grid(columns),) if columns else ()


def _cells(place: str) -> FoundTable | None:
    """Return the cells of a file; None where it holds no such table, or is gone."""
    path = pathlib.Path(place)
    return table_cells(path) if path.suffix.lower() in TABLES and path.is_file() else None
