"""Tables, split into training rows and held-out rows."""

import functools
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from feller.core.errors import error_context
from feller.core.rng import Rng
from feller.data.batches import split
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_table
from feller.data.modality import Dataset
from feller.data.tables.modality import table_dataset
from feller_papers.private_tables.packaged_tables import PACKAGED
from feller_papers.private_tables.schemas import TABLES
from feller_papers.private_tables.setting import Setting
from feller_papers.setting import file_of

ADULT, SMALL_ADULT = "Adult", "Adult, few rows"
"""The table in the package, and a small sample of it."""
GERMAN = "German credit"
"""A small table."""
HELD_OUT_FRACTION = 0.2
"""Fraction of held-out rows of a table without a test file."""
SPLIT_RNG = Rng(0).fold_in("private tables")
"""Generator of splits and samples, independent of the seeds of models."""


@dataclass(frozen=True, eq=False)
class TableSplit:
    """Training rows and held-out rows."""

    train: Dataset
    held_out: Dataset


@functools.cache
def load_split(name: str, data: pathlib.Path | None, rows: int | None = None) -> TableSplit | None:
    """Return a table; None if its file is missing.

    Args:
        name: Name of the table.
        data: Folder with the tables that are not in the package.
        rows: Training rows, at most, with half as many held-out rows; None for all.
    """
    if name in PACKAGED:
        table = PACKAGED[name]
        frames = table.frames(rows)
        return None if frames is None else TableSplit(*map(table.dataset, frames))
    if name in (ADULT, SMALL_ADULT):
        return _limit_rows(TableSplit(read("example:adult"), read("example:adult/test")), rows)
    file, schema = TABLES[name]
    path = file_of(data, file)
    if path is None:
        return None
    with error_context(file):
        dataset = table_dataset(load_table(path), schema(path.parent))
    return _limit_rows(TableSplit(*split(dataset, HELD_OUT_FRACTION, SPLIT_RNG, stratified=False)), rows)


def _limit_rows(table: TableSplit, rows: int | None) -> TableSplit:
    if rows is None:
        return table
    return TableSplit(_sample_rows(table.train, rows, "learned"), _sample_rows(table.held_out, rows // 2, "held out"))


def _sample_rows(data: Dataset, rows: int, stream: str) -> Dataset:
    order = torch.randperm(len(data), generator=SPLIT_RNG.fold_in(stream).stream("rows").shared_generator())
    return replace(data.subset(order[:rows].sort().values), notes=())


def available_tables(setting: Setting) -> Iterator[str]:
    """Return the names of the tables whose files exist, without the small sample of Adult."""
    yield ADULT
    yield from (name for name, (file, _) in TABLES.items() if file_of(setting.data, file) is not None)
