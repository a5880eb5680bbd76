"""Rows of a table with cells that a sample of it lacks: a look through each column, by its different cells alone."""

from typing import Any

import numpy as np

from feller.data.shards.parquet_types import is_ordered
from feller.data.shards.row_groups import Groups
from feller.data.tables.find import cells_in
from feller.data.tables.schema import Schema

MOST = 1_000
"""Rows that a column adds to a sample, at most."""


def unseen(groups: Groups, schema: Schema) -> np.ndarray:
    """Return the numbers of rows, one for each cell that the schema has no code for."""
    found: list[int] = []
    names = {name.strip(): name for name in groups.columns}
    for column in schema.modelled:
        strange: set[str] = set()
        start = 0
        for values in groups.each(names[column.name]):
            different = _extremes(values)
            cells = cells_in(different.to_pandas())
            for cell, value in zip(cells, different, strict=True):
                if len(strange) < MOST and cell not in strange and column.code(cell) is None:
                    strange.add(cell)
                    place = values.index(value).as_py() if value.is_valid else _first_null(values)
                    found.append(start + place)
            start += len(values)
    return np.array(sorted({*found}), dtype=np.int64)


def _first_null(values: Any) -> int:
    return int(np.flatnonzero(values.is_null(nan_is_null=True).to_numpy())[0])


def _extremes(values: Any) -> Any:
    """Return the different cells of words; of numbers and times the least, the largest, and a missing one."""
    import pyarrow
    import pyarrow.compute as compute

    kind = values.type
    if not is_ordered(kind):
        return values.unique()
    ends = compute.call_function("min_max", [values])
    gaps = [pyarrow.scalar(None, kind)] * bool(values.is_null(nan_is_null=True).to_numpy().any())
    return pyarrow.array([*ends.values(), *gaps] if ends["min"].is_valid else gaps, type=kind)
