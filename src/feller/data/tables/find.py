"""Tables of cells in files and data frames."""

import csv
import itertools
import pathlib
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feller.core.errors import InputError
from feller.data.files.data_plain_text import beginning_of, rows_of
from feller.data.files.delimited import Row, check_header, check_width, dialect_of, open_rows, read_parquet
from feller.data.files.plain_text import all_numbers, number
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import FoundTable
from feller.data.tables.dates import shortest_time

LOOKED = 200
"""Rows that are looked at, to tell words from numbers."""
EXACT = 2**53 - 1
"""Whole numbers beyond which floats leave some out."""
BLANK = ("", "na", "n/a", "nan", "null", "none", "?", "-", ".")
"""Cells, in small letters, that are neither words nor numbers."""


def find_cells(path: pathlib.Path) -> FoundTable:
    """Read all cells of .csv, .tsv, .txt, also packed as .gz, or of .parquet, below a header.

    Raises:
        InputError: If rows differ in length, columns have no names or the same, or nothing is there.
    """
    if path.suffix.lower() == ".parquet":
        return from_frame(_whole(read_parquet(path), path), str(path))
    with open_rows(path) as rows:
        found = _cells(rows, str(path))
    return replace(found, dialect=dialect_of(path))


def _cells(rows: Any, where: str) -> FoundTable:
    first: Row | None = next(rows, None)
    if first is None:
        raise InputError(f"{where}: expected a table, the file is empty")
    columns = first[1]
    if all_numbers(columns) and any(columns):
        raise InputError(
            f"{where}: expected names of the columns in the first row, got {', '.join(columns[:3])}; add them"
        )
    check_header(columns, where)
    lines = array("q")
    cells: list[tuple[str, ...]] = []
    for line, row in rows:
        check_width(row, len(columns), line, where)
        lines.append(line)
        cells.append(tuple(row))  # takes less than a list
    if not cells:
        raise InputError(f"{where}: expected rows below the header, there are none")
    return FoundTable(_array(cells, len(columns)), columns=tuple(columns), lines=np.array(lines))


def _array(cells: Sequence[Sequence[str]], width: int) -> np.ndarray:
    filled = np.empty((len(cells), width), dtype=object)
    filled[:] = cells
    return filled


def from_frame(frame: Any, where: str = "the data frame") -> FoundTable:
    """Read all cells of a pandas data frame, whose types are kept.

    Raises:
        InputError: If columns have no names or the same, or nothing is there.
    """
    columns = list(map(str, frame.columns))
    check_header([name.strip() for name in columns], where)
    if not len(frame) or not columns:
        raise InputError(f"{where}: expected rows and columns, got {len(frame)} x {len(columns)}")
    cells = np.empty((len(frame), len(columns)), dtype=object)
    for j in range(len(columns)):
        cells[:, j] = cells_in(frame.iloc[:, j])
    lines = np.arange(len(frame)) + 1
    names = tuple(name.strip() for name in columns)
    return FoundTable(cells, columns=names, dtypes=tuple(str(kind) for kind in frame.dtypes), lines=lines)


def _whole(frame: Any, path: pathlib.Path) -> Any:
    """Return a frame whose large whole numbers kept all digits, though a missing one turned their column to floats."""
    import pandas as pd
    import pyarrow.parquet as parquet

    kinds = {column.name: str(column.type) for column in parquet.read_schema(path)}
    held = [name for name, kind in kinds.items() if name in frame.columns and kind.lstrip("u").startswith("int")]
    lossy = [name for name in held if str(frame[name].dtype) == "float64" and bool((frame[name].abs() > EXACT).any())]
    exact = parquet.read_table(path, columns=lossy).to_pydict() if lossy else {}
    whole = {name: pd.array(exact[name], dtype="UInt64" if kinds[name].startswith("u") else "Int64") for name in lossy}
    return frame.assign(**whole)


def cells_in(column: Any) -> list[str]:
    """Return the cells of a column of a frame; an empty text where there is none.

    Each is written by itself, as its column's type says: how one cell looks tells nothing of another.
    """
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(column.dt, "tz", None) else column
        written = column.dt.strftime("%Y-%m-%d %H:%M:%S.%f").map(shortest_time, na_action="ignore")
    else:
        written = column.astype(object).map(_written, na_action="ignore")
    return [str(text).strip() if known else "" for text, known in zip(written, column.notna(), strict=True)]


def _written(value: Any) -> str:
    """Write what is no time; a whole number alike in each type, since one missing cell turns integers into floats."""
    if isinstance(value, float | np.floating):
        text = repr(float(value))
        return text.removesuffix(".0")
    return str(value)


def names_of(path: pathlib.Path) -> list[str]:
    """Return the first row of a table, or the names of the columns of a .parquet."""
    if path.suffix.lower() == ".parquet":
        return list(map(str, read_parquet(path).columns))
    head = _head(path)
    return head[0] if head else []


def _head(path: pathlib.Path) -> list[list[str]]:
    """Return the first rows; none where there are quotes that no table has, which is told by who reads the whole."""
    text = beginning_of(path)
    whole = text.rpartition("\n")[0] if text.count("\n") > 1 else text
    try:
        return [[cell.strip() for cell in row] for _, row in itertools.islice(rows_of(whole), LOOKED + 1)]
    except csv.Error:
        return []


def holds_words(path: pathlib.Path, among: Sequence[str] = ()) -> bool:
    """Tell whether a table has a column, but for the label, whose cells are words for the most part.

    Only those `among` some names count, where there are any.

    Misspelt numbers make no column of words; nor does a table have one if its first row has no names.
    """
    if path.suffix.lower() == ".parquet":
        frame = read_parquet(path).head(LOOKED)
        if not len(frame) or not len(frame.columns):
            return False
        names = list(map(str, frame.columns))
        rows = [[cells_in(frame.iloc[:, j])[i] for j in range(len(names))] for i in range(len(frame))]
    else:
        head = _head(path)
        names, rows = (head[0], head[1:]) if head else ([], [])
    if all_numbers(names):
        return False
    counted = [j for j in _unlabelled(names) if not among or names[j] in among]
    return any(_are_words([row[j] for row in rows if len(row) == len(names)]) for j in counted)


def _unlabelled(names: Sequence[str]) -> list[int]:
    return [j for j, name in enumerate(names) if name.lower() not in LABEL_NAMES]


def _are_words(cells: Sequence[str]) -> bool:
    there = [cell for cell in cells if cell.lower() not in BLANK]
    return 2 * sum(number(cell.replace("_", "")) is None for cell in there) > len(there)
