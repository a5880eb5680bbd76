"""Tables with a schema."""

import pathlib
from typing import Any

import numpy as np
from PIL import Image

from feller.app.modalities.registration import Display, Registration
from feller.app.workflows.private.table_schema import TABLES
from feller.app.workflows.reporting.comparison import IN_HAND, Judged
from feller.data.loading.file_formats import load_table
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset
from feller.data.tables.dates import Datetime
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.evaluation.number_format import format_percent, is_number
from feller.evaluation.report.report_page import ReportTable
from feller.evaluation.report.table_figures import (
    LabelledColumn,
    numbers_grid,
    pairs_map,
    plot_audit,
    plot_columns,
    plot_utility,
)
from feller.evaluation.tables.cell_metrics import cell_loss, exact_row_fraction, number_columns
from feller.evaluation.tables.marginal_distance import pair_errors
from feller.evaluation.tables.table_quality import Numbers, samples_quality, unseen_samples_quality

ROWS_A_SECOND = 400
"""Rows for each second of an evaluation, about as many as models draw in time."""
MOST_ROWS = 50_000
"""Drawn for the numbers of a report."""
SHOWN = Display("table", 20, 5000)


def most_rows(data: Dataset, seconds: float | None) -> int:
    """Return how many rows are drawn for a report."""
    return MOST_ROWS if seconds is None else min(MOST_ROWS, int(ROWS_A_SECOND * seconds))


def tables_beside(judged: Judged, numbers: dict[str, Any]) -> list[tuple[str, Image.Image]]:
    """Draw each column, how far each pair of columns is off, what the table is worth, and what it gives away.

    Columns and pairs stand beside the training table, as `tv1`, `tv2` and the worst ones that the page names do.
    """
    kind = judged.generated.modality
    if not isinstance(kind, Table):
        return []
    made, true = kind.to_levels(judged.generated.values), kind.to_levels(judged.train.values)
    columns = [
        LabelledColumn(column.name, column.level_names, isinstance(column, Numerical | Datetime))
        for column in kind.schema.modelled
    ]
    pictures = plot_columns(made.numpy(), true.numpy(), columns)
    parts = [f", part {k}" if len(pictures) > 1 else "" for k in range(1, len(pictures) + 1)]
    beside = f"beside the {len(true):,} " + ("training rows" if judged.has_train else f"rows in {judged.data}")
    shown = [
        (f"Columns{part}, {beside}{_floor('tv1', numbers)}", one) for part, one in zip(parts, pictures, strict=True)
    ]
    if len(columns) > 1:
        errors = np.asarray(pair_errors(made, true))
        caption = f"How far each pair of columns is off, {beside}{_floor('tv2', numbers)}"
        shown.append((caption, pairs_map(errors, [one.name for one in columns])))
    marks = (("What the table is worth", plot_utility(numbers)), ("What it gives away", plot_audit(numbers)))
    return [*shown, *((caption, one) for caption, one in marks if one is not None)]


def _floor(name: str, numbers: dict[str, Any]) -> str:
    """Say how far real rows are off by chance, on average over all that a picture shows."""
    floor = numbers.get(f"{name}_floor")
    return f"; real rows drawn again are {format_percent(floor)} off on average" if is_number(floor) else ""


def cell_metrics(judged: Judged, data: str, cells: RawTable | None = None) -> tuple[Numbers, tuple[ReportTable, ...]]:
    """Measure rows that stand in the table as they are written, what reading lost, and where numbers lie.

    Nothing is measured of other data.

    The numbers are of real rows, without noise: like the rest of a report they are for whoever owns the rows.

    Args:
        judged: What is compared.
        data: What the run was fitted to.
        cells: Its cells, where they were read.

    Returns:
        Numbers by their names, and means and quantiles of the columns of numbers, if there are any.
    """
    kind = judged.generated.modality
    if not isinstance(kind, Table):  # rows of a table that is learned as numbers and words are judged as a table
        return {}, ()
    learned = cells or (_cells(data) if judged.has_train else None)
    real = _cells(judged.data) if judged.data and judged.has_train else learned
    lost = cell_loss(judged.generated.values, real, kind.schema) if kind.schema.clips else {}
    in_file = judged.samples is not None and judged.samples != IN_HAND
    made = _cells(judged.samples or "") if in_file else kind.cells(judged.generated.values)
    if learned is None or made is None:
        return lost, ()
    columns = number_columns(made, learned, kind.schema)
    off = ", ".join(column.name for column in columns if column.is_far_off)
    copies = {"copies_written": exact_row_fraction(made, learned, kind.schema)} if judged.has_train else {}
    numbers = {**copies, **lost}
    return numbers | ({"numbers_off": off} if off else {}), (numbers_grid(columns),) if columns else ()


def _cells(place: str) -> RawTable | None:
    """Return the cells of a file; None where it holds no such table, or is gone."""
    path = pathlib.Path(place)
    return load_table(path) if path.suffix.lower() in TABLES and path.is_file() else None


REGISTRATIONS = {
    MixedTable: Registration(
        recipe="table-flow",
        measure=samples_quality,
        measure_unseen=unseen_samples_quality,
        display=SHOWN,
        most=most_rows,
        steps="mixed",
    ),
    Table: Registration(
        recipe="table",
        measure=samples_quality,
        measure_unseen=unseen_samples_quality,
        display=SHOWN,
        most=most_rows,
        figures=tables_beside,
        cells=cell_metrics,
        steps="table",
    ),
}
