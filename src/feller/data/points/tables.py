"""Tables in which cells are missing."""

from dataclasses import replace

import numpy as np

from feller.core.errors import InputError
from feller.data.loading.raw import FoundRows

MOST = 0.25
"""Share of the rows above which a column with missing cells is left out, rather than these rows."""


def complete(found: FoundRows, where: str, others: list[str]) -> tuple[FoundRows, list[int]]:
    """Leave out columns where much is missing, then rows where anything is; say so, and which rows are left.

    Raises:
        InputError: If nothing is left.
    """
    missing = np.isnan(found.values)
    sparse = missing.mean(0) > MOST
    kept = np.flatnonzero(~missing[:, ~sparse].any(1))
    if sparse.all() or not len(kept):
        raise InputError(f"{where}: every row misses one of {', '.join(found.columns)}; fill them, or drop a column")
    notes = list(found.notes)
    if others:
        notes.append(f"left out the columns {', '.join(others)}, which are not among the angles")
    for i in np.flatnonzero(sparse):
        notes.append(f"left out the column {found.columns[i]}, which {missing[:, i].mean():.0%} of the rows miss")
    if len(kept) < len(missing):
        notes.append(f"left out {len(missing) - len(kept):,} of {len(missing):,} rows, which miss an angle")
    columns = tuple(name for name, out in zip(found.columns, sparse, strict=True) if not out)
    lines = None if found.lines is None else found.lines[kept]
    values = found.values[np.ix_(kept, ~sparse)]
    return replace(found, values=values, columns=columns, notes=tuple(notes), lines=lines), kept.tolist()
