"""Tables that claims are tested on: rows to learn from, and rows that no model sees."""

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

ADULT, FEW = "Adult", "Adult, few rows"
"""The table that is inside the package, and a small part of it."""
GERMAN = "German credit"
"""A table that is small by itself."""
ASIDE = 0.2
"""Share of a table's rows that no model sees, where it has no part for that."""
CHOSEN = Rng(0).fold_in("private tables")
"""Which rows these are, whatever the seed of a model."""


@dataclass(frozen=True, eq=False)
class Posed:
    """Rows to learn from, and others to judge by."""

    learned: Dataset
    held_out: Dataset


@functools.cache
def posed(name: str, data: pathlib.Path | None, rows: int | None = None) -> Posed | None:
    """Return a table; None if its file is not there.

    Args:
        name: Of the table.
        data: Folder with those that are not inside the package.
        rows: To learn from, at most, and half as many to judge by; None for all.
    """
    if name in PACKAGED:
        table = PACKAGED[name]
        frames = table.frames(rows)
        return None if frames is None else Posed(*map(table.dataset, frames))
    if name in (ADULT, FEW):
        return _fewer(Posed(read("example:adult"), read("example:adult/test")), rows)
    file, schema = TABLES[name]
    path = file_of(data, file)
    if path is None:
        return None
    with error_context(file):
        found = table_dataset(load_table(path), schema(path.parent))
    return _fewer(Posed(*split(found, ASIDE, CHOSEN, stratified=False)), rows)


def _fewer(whole: Posed, rows: int | None) -> Posed:
    if rows is None:
        return whole
    return Posed(_some(whole.learned, rows, "learned"), _some(whole.held_out, rows // 2, "held out"))


def _some(data: Dataset, most: int, what: str) -> Dataset:
    order = torch.randperm(len(data), generator=CHOSEN.fold_in(what).stream("rows").shared_generator())
    return replace(data.subset(order[:most].sort().values), notes=())


def there(setting: Setting) -> Iterator[str]:
    """Yield the names of the tables that are there, but for a small part of one."""
    yield ADULT
    yield from (name for name, (file, _) in TABLES.items() if file_of(setting.data, file) is not None)
