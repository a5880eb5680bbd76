"""Sampling and imputation of large tables that are written to one file in parts, with bounded memory."""

import pathlib

from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.completer import Completer
from feller.app.workflows.sampler import Sampler
from feller.core.errors import UsageError
from feller.data.files import sample_folder
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset, Modality
from feller.data.tables import raking
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.tables.table_writer import ENDINGS, PartWriter, table_writer
from feller.training.engine import get_engine


def table_rows(modality: Modality) -> Table:
    """Return the table to whose rows samples are decoded; UsageError for other data."""
    mixed = modality.view(MixedTable)
    table = modality.view(Table) if mixed is None else mixed.table
    if table is None:
        raise UsageError(
            argument="out",
            expected="a file; a database is for samples of tables with one row per person",
            found=modality.display_name,
        )
    return table


def table_in_parts(modality: Modality, path: pathlib.Path, n: int) -> Table | None:
    """Return the table whose n rows are written to `path` in parts; None for few rows, and for other data."""
    is_table = modality.view(MixedTable) is not None or modality.view(Table) is not None
    is_large = n > raking.ROWS_PER_PART and path.suffix.lower() in ENDINGS
    return table_rows(modality) if is_table and is_large and get_engine().world_size == 1 else None


def stream_samples(sampler: Sampler, table: Table, n: int, path: pathlib.Path, reporter: Reporter = SILENT) -> None:
    """Draw n rows in parts and write them to a file; the rows are those of drawing them at once.

    Raises:
        InputError: If the disk is full. No file is written then.
        UsageError: If a condition does not match the model.
    """
    with table_writer(path, table.schema, table.dialect) as append:
        append_samples(append, sampler, table, n, reporter)


def append_samples(append: PartWriter, sampler: Sampler, table: Table, n: int, reporter: Reporter = SILENT) -> None:
    """Draw n rows in parts and write each part."""
    reporter.start("sampling")
    for rows in _parts(n):

        def on_progress(fraction: float, rows: range = rows) -> None:
            reporter.progress((rows.start + len(rows) * fraction) / n)

        samples = sampler.draw(len(rows), first=rows.start, total=n, on_progress=on_progress)
        with sample_folder.sample_numbering(rows.start, n):
            append(_cells(sampler, samples, table))
    reporter.finish()


def stream_completed(completer: Completer, path: pathlib.Path, reporter: Reporter = SILENT) -> None:
    """Impute all rows of a table in parts and write them to a file.

    Raises:
        InputError: If the disk is full. No file is written then.
        UsageError: If the observed cells of a row are impossible under the model.
    """
    with table_writer(path, completer.modality.schema, completer.modality.dialect) as append:
        append_completed(append, completer, reporter)


def append_completed(append: PartWriter, completer: Completer, reporter: Reporter = SILENT) -> None:
    """Impute all rows of a table in parts and write each part."""
    reporter.start("imputing")
    for part in completer.each_part(reporter=reporter):
        append(part.cells)
    reporter.finish()


def _parts(n: int) -> list[range]:
    size = raking.ROWS_PER_PART
    return [range(first, min(first + size, n)) for first in range(0, n, size)]


def _cells(sampler: Sampler, samples: Dataset, table: Table) -> RawTable:
    """Return the cells of samples; cells that were given as conditions keep their original text."""
    if sampler.cond_texts:
        return table.with_given(samples.values, table.given_cells(sampler.cond_texts))
    return table.cells(samples.values)
