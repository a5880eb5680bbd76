"""Cells of columns that are conditions: texts, numbers and missing values."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from feller.core.errors import InputError
from feller.data.files.plain_text import parse_number

ConditionColumn = Sequence[object] | np.ndarray | Tensor
"""Values of a condition, one entry per example, as in files or Python."""


def cells_of(column: Any) -> Sequence[Any]:
    """Return the values of a column as Python objects."""
    return column.tolist() if isinstance(column, Tensor | np.ndarray) else column


def text_of(cell: Any) -> str:
    """Return the text of a cell; a whole float, such as a category read with missing cells, without its `.0`."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def is_missing(cell: Any) -> bool:
    """Return True for None, NaN, pandas' NA and NaT, and the empty text."""
    if isinstance(cell, str):
        return not cell.strip()
    return (
        cell is None or (isinstance(cell, float) and math.isnan(cell)) or type(cell).__name__ in ("NAType", "NaTType")
    )


MISSING_NUMBERS = frozenset(("na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "-"))
"""Texts that stand for a missing number in a column of numbers, in lower case."""


def is_missing_number(cell: Any) -> bool:
    """Return True for a missing cell, also in the notation of a column of numbers, such as NA."""
    return is_missing(cell) or (isinstance(cell, str) and cell.strip().lower() in MISSING_NUMBERS)


def numbers_of(name: str, column: Any, ndim: int, default_width: int = 0) -> np.ndarray:
    """Return numbers [n] or vectors [n, d] as float64, NaN where missing; d is `default_width` if all are missing.

    Raises:
        InputError: If a value is not a number, or infinite.
    """
    if isinstance(column, Tensor):
        column = column.detach().cpu().numpy()
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        values = column.astype(np.float64)
    else:
        cells = list(column)
        if ndim == 2:
            cells = [cell.split() if isinstance(cell, str) and cell.strip() else cell for cell in cells]
            cells = [[cell] if isinstance(cell, Real) and not is_missing(cell) else cell for cell in cells]
            width = len(next((cell for cell in cells if not is_missing(cell)), ())) or default_width
            cells = [[math.nan] * width if is_missing(cell) else cell for cell in cells]
            if any(len(cell) != width for cell in cells):
                raise InputError(f"vectors of {width} numbers", "vectors of different lengths", argument=name)
        parsed = [[_number(name, x) for x in cell] if ndim == 2 else _number(name, cell) for cell in cells]
        values = np.array(parsed, dtype=np.float64)
    if values.ndim != ndim:
        raise InputError("a number" if ndim == 1 else "a vector [d]", f"an array {list(values.shape)}", argument=name)
    if np.isinf(values).any():
        raise InputError("finite numbers; NaN for missing ones", "inf", argument=name)
    return values


def _number(name: str, cell: Any) -> float:
    if is_missing_number(cell):
        return math.nan
    try:
        value = float(cell) if isinstance(cell, Real) else parse_number(str(cell).strip())
    except OverflowError:  # an integer beyond the range of floats
        value = math.inf
    if value is None:
        raise InputError("a number", repr(cell), argument=name)
    return value


def refuse_constant(name: str, is_constant: bool) -> None:
    """Raise an InputError if the condition `name` is constant."""
    if is_constant:
        raise InputError(
            "a condition with at least two different values", "a constant", "Leave this condition out", argument=name
        )
