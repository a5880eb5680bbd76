"""Registrations of the modalities for tables with a schema."""

import pathlib
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from feller.app.modalities.registration import Display, Registration
from feller.app.workflows.private.table_schema import TABLE_SUFFIXES
from feller.app.workflows.reporting.comparison import IN_HAND, SampleComparison
from feller.core.rng import Rng
from feller.data.database_urls import is_database
from feller.data.loading.file_formats import load_table
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset
from feller.data.tables.histories import Histories
from feller.data.tables.linked_tables import LinkedTables
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.evaluation.number_format import format_percent, is_number
from feller.evaluation.report.report_page import ReportTable
from feller.evaluation.report.table_figures import (
    LabelledColumn,
    numbers_grid,
    pairs_map,
    plot_audit,
    plot_columns,
    plot_utility,
    structure_grid,
)
from feller.evaluation.tables.cell_metrics import cell_loss, exact_row_fraction, number_columns
from feller.evaluation.tables.history_quality import histories_quality, levels_of
from feller.evaluation.tables.linked_quality import linked_quality
from feller.evaluation.tables.marginal_distance import pair_errors
from feller.evaluation.tables.structure import compare_structure, structure_metrics
from feller.evaluation.tables.table_quality import Numbers, samples_quality, unseen_samples_quality

ROWS_A_SECOND = 400
"""Approximate sampling speed in rows per second, which limits the number of rows in a report with a time limit."""
MAX_REPORT_ROWS = 50_000
"""Maximum number of rows for the metrics of a report."""
DISPLAY = Display("table", 20, 5000)


def max_report_rows(data: Dataset, seconds: float | None) -> int:
    """Return the number of rows to evaluate for a report within the time limit `seconds`; None means no limit.

    `data` are ignored.
    """
    return MAX_REPORT_ROWS if seconds is None else min(MAX_REPORT_ROWS, int(ROWS_A_SECOND * seconds))


def table_figures(comparison: SampleComparison, numbers: dict[str, Any]) -> list[tuple[str, Image.Image]]:
    """Return captioned plots of a synthetic table: marginals, errors of column pairs, utility and privacy leakage.

    The figures compare columns and pairs of columns with the training table, or with other real rows if there is no
    training table; so do the metrics `tv1` and `tv2`.

    Args:
        comparison: Samples and real data.
        numbers: Metrics of the report, some of which are drawn or appear in captions.
    """
    table = comparison.generated.modality
    if not isinstance(table, Table):
        return []
    synthetic, real = table.to_levels(comparison.generated.values), table.to_levels(comparison.train.values)
    columns = _labelled(table.schema)
    figures = plot_columns(synthetic.numpy(), real.numpy(), columns)
    part_labels = [f", part {k}" if len(figures) > 1 else "" for k in range(1, len(figures) + 1)]
    comparison_text = f"compared with the {len(real):,} " + (
        "training rows" if comparison.has_train else f"rows in {comparison.data}"
    )
    captioned = [
        (f"Columns{label}, {comparison_text}{_floor('tv1', numbers)}", figure)
        for label, figure in zip(part_labels, figures, strict=True)
    ]
    if len(columns) > 1:
        errors = np.asarray(pair_errors(synthetic, real))
        caption = f"Total variation of each pair of columns, {comparison_text}{_floor('tv2', numbers)}"
        captioned.append((caption, pairs_map(errors, [column.name for column in columns])))
    summaries = (("Utility", plot_utility(numbers)), ("Leakage", plot_audit(numbers)))
    return [*captioned, *((caption, figure) for caption, figure in summaries if figure is not None)]


def _floor(name: str, metrics: dict[str, Any]) -> str:
    """Return the end of a caption that states the noise floor: the mean distance between two samples of real rows."""
    floor = metrics.get(f"{name}_floor")
    return f"; two sets of real rows differ by {format_percent(floor)} on average" if is_number(floor) else ""


def cell_metrics(
    comparison: SampleComparison, data: str, cells: RawTable | None = None
) -> tuple[Numbers, tuple[ReportTable, ...]]:
    """Return metrics of a sampled table in the form in which it is written to a file, and a table of numeric columns.

    The metrics are the fractions of impossible rows and of rows that are exact copies of training rows, the fractions
    of training cells that the schema clips or merges, and the numeric columns whose samples are far from the training
    data. Only tables have these metrics. They are computed from real rows without privacy noise. Like the rest of the
    report, they are therefore meant only for the owner of the rows.

    Returns:
        Metrics by name, a table of what is impossible in the real table, and a table of means and quantiles of the
        numeric columns; each only if it has rows.
    """
    table = comparison.generated.modality
    if not isinstance(table, Table):  # a MixedTable is evaluated as a Table
        return {}, ()
    training_cells = cells or (_cells(data) if comparison.has_train else None)
    real_cells = _cells(comparison.data) if comparison.data and comparison.has_train else training_cells
    losses = cell_loss(comparison.generated.values, real_cells, table.schema) if table.schema.clips else {}
    is_file = comparison.samples is not None and comparison.samples != IN_HAND
    synthetic_cells = _cells(comparison.samples or "") if is_file else table.cells(comparison.generated.values)
    if training_cells is None or synthetic_cells is None:
        return losses, ()
    columns = number_columns(synthetic_cells, training_cells, table.schema)
    far_off = ", ".join(column.name for column in columns if column.is_far_off)
    copies = (
        {"copies_written": exact_row_fraction(synthetic_cells, training_cells, table.schema)}
        if comparison.has_train
        else {}
    )
    structure = compare_structure(synthetic_cells, training_cells, table.schema, Rng(0).fold_in("structure"))
    metrics = {**structure_metrics(structure), **copies, **losses}
    grids = (
        *((structure_grid(structure),) if structure is not None and structure.facts else ()),
        *((numbers_grid(columns),) if columns else ()),
    )
    return metrics | ({"numbers_off": far_off} if far_off else {}), grids


def _cells(source: str) -> RawTable | None:
    """Return the cells of a table file or of a database table; None if the file is missing or not a table."""
    path = pathlib.Path(source)
    if is_database(source):
        return load_table(source)
    return load_table(path) if path.suffix.lower() in TABLE_SUFFIXES and path.is_file() else None


def history_figures(comparison: SampleComparison, numbers: dict[str, Any]) -> list[tuple[str, Image.Image]]:
    """Return captioned plots of the attributes and of the rows of synthetic and real persons."""
    modality = comparison.generated.modality.view(Histories)
    if modality is None:
        return []
    made, real = (levels_of(modality, data.values) for data in (comparison.generated, comparison.train))
    attributes, rows = (_labelled(table.schema) for table in (modality.persons, modality.rows))
    figures = [
        ("Attributes of persons", plot_columns(made.attributes.numpy(), real.attributes.numpy(), attributes)),
        ("Rows", plot_columns(made.rows.numpy(), real.rows.numpy(), rows)),
    ]
    return [
        (f"{label}{f', part {k}' if len(images) > 1 else ''}", image)
        for label, images in figures
        for k, image in enumerate(images, 1)
    ]


def linked_figures(comparison: SampleComparison, numbers: dict[str, Any]) -> list[tuple[str, Image.Image]]:
    """Return captioned plots of the columns of each synthetic and real table."""
    modality = comparison.generated.modality.view(LinkedTables)
    if modality is None:
        return []
    levels = (modality.levels(data.values) for data in (comparison.generated, comparison.train))
    figures = []
    for table, schema, made, real in zip(modality.links.tables, modality.schemas, *levels, strict=True):
        columns = [replace(column, name=table.own_name(column.name)) for column in _labelled(schema)]
        if columns and len(made) and len(real):
            images = plot_columns(made.numpy(), real.numpy(), columns)
            figures += [(f"Columns of {table.name}", image) for image in images]
    return figures


def _labelled(schema: Schema) -> list[LabelledColumn]:
    """Return the names and levels of the modelled columns of a schema, for plots."""
    return [LabelledColumn(column.name, column.level_names, column.is_ordered) for column in schema.modelled]


REGISTRATIONS = {
    LinkedTables: Registration(
        recipe="table-histories",
        measure=linked_quality,
        display=DISPLAY,
        max_samples=max_report_rows,
        figures=linked_figures,
        next_steps="linked",
    ),
    Histories: Registration(
        recipe="table-histories",
        measure=histories_quality,
        display=DISPLAY,
        max_samples=max_report_rows,
        figures=history_figures,
        next_steps="histories",
    ),
    MixedTable: Registration(
        recipe="table-flow",
        measure=samples_quality,
        measure_unseen=unseen_samples_quality,
        display=DISPLAY,
        max_samples=max_report_rows,
        next_steps="mixed",
    ),
    Table: Registration(
        recipe="table",
        recipe_of_family={
            "autoregressive": "table-language-model",
            "RowLanguageModel": "table-language-model",
        },
        measure=samples_quality,
        measure_unseen=unseen_samples_quality,
        display=DISPLAY,
        max_samples=max_report_rows,
        figures=table_figures,
        cells=cell_metrics,
        next_steps="table",
    ),
}
