"""Whom privacy is given to: where people have several rows, one of each is learned."""

from dataclasses import replace

import numpy as np

from feller.core.errors import InputError
from feller.data.loading.raw import FoundTable
from feller.data.tables.encoding import BLANKS
from feller.data.tables.schema import ROW


def first_of_each(found: FoundTable, unit: str) -> FoundTable:
    """Return the first row of each person: which it is hangs on that person's rows alone.

    Args:
        found: A table.
        unit: The column that tells people apart; or `row`, which leaves the table as it is.

    Raises:
        InputError: If there is no such column, or a cell does not say whose row it is.
    """
    if unit == ROW:
        return found
    if unit not in found.columns:
        raise InputError(f"there is no column {unit!r} in the table, which tells whose each row is; add it")
    people = found.column(unit)
    nobody = next((i for i, cell in enumerate(people) if cell in BLANKS), None)
    if nobody is not None:
        raise InputError(f"{found.called(nobody)}, column {unit!r} does not say whose row it is; fill it")
    first: dict[str, int] = {}
    for i, cell in enumerate(people):
        first.setdefault(cell, i)
    firsts = np.array([*first.values()], dtype=np.int64)
    lines = None if found.lines is None else found.lines[firsts]
    return replace(found, values=found.values[firsts], lines=lines)
