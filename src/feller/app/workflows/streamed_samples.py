"""Sampling and imputation of large tables that are written to one file in parts, with bounded memory."""

import pathlib

from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.imputation import Completer
from feller.app.workflows.sampler import Sampler
from feller.data.files import sample_folder
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset, Modality
from feller.data.tables import raking
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.tables.table_writer import ENDINGS, table_writer
from feller.training.engine import get_engine


def table_in_parts(modality: Modality, path: pathlib.Path, n: int) -> Table | None:
    """Return the table whose n rows are written to `path` in parts; None for few rows, and for other data."""
    mixed = modality.view(MixedTable)
    is_large = n > raking.ROWS_PER_PART and path.suffix.lower() in ENDINGS
    if not is_large or get_engine().world_size > 1:
        return None
    return modality.view(Table) if mixed is None else mixed.table


def stream_samples(sampler: Sampler, table: Table, n: int, path: pathlib.Path, reporter: Reporter = SILENT) -> None:
    """Draw n rows in parts and append them to a file; the rows are those of drawing them at once.

    Raises:
        InputError: If the disk is full. No file is written then.
        UsageError: If a condition does not match the model.
    """
    reporter.start("sampling")
    with table_writer(path, table.schema, table.dialect) as append:
        for rows in _parts(n):

            def on_progress(fraction: float, rows: range = rows) -> None:
                reporter.progress((rows.start + len(rows) * fraction) / n)

            samples = sampler.draw(len(rows), first=rows.start, total=n, on_progress=on_progress)
            with sample_folder.sample_numbering(rows.start, n):
                append(_cells(sampler, samples, table))
    reporter.finish()


def stream_completed(completer: Completer, path: pathlib.Path, reporter: Reporter = SILENT) -> None:
    """Impute all rows of a table in parts and append them to a file.

    Raises:
        InputError: If the disk is full. No file is written then.
        UsageError: If the observed cells of a row are impossible under the model.
    """
    table = completer.modality
    reporter.start("imputing")
    with table_writer(path, table.schema, table.dialect) as append:
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
