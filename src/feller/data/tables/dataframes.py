"""Tables of cells from and to files, Arrow and DataFrames."""

import csv
import itertools
import pathlib
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.delimited import (
    Dialect,
    Row,
    check_header,
    check_width,
    dialect_of,
    open_rows,
    read_parquet,
    write_parquet,
)
from feller.data.files.plain_text import all_numbers, beginning_of, number, rows_of
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import FoundTable
from feller.data.tables.column import Boolean, Categorical, Column, Modelled
from feller.data.tables.dates import Datetime, shortest_time, time_in
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema

_WIDE = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
"""Types that have no word for a missing number; those with a capital letter have."""


def write_cells(table: FoundTable, schema: Schema, path: pathlib.Path, dialect: Dialect = Dialect()) -> None:  # noqa: B008
    """Write a table in the form that the ending names: .parquet, or text in a dialect, in .tsv and .txt with tabs."""
    if path.suffix.lower() == ".parquet":
        return write_parquet(lambda: to_frame(table, schema), path)
    between = "\t" if path.suffix.lower() in (".tsv", ".txt") else "," if dialect.separator == "\t" else ""
    written = replace(dialect, separator=between) if between else dialect
    replace_file(path, written.text([list(table.columns), *table.values.tolist()]))


def to_frame(table: FoundTable, schema: Schema) -> Any:
    """Return a pandas data frame; columns have the types that the schema names, or those of their kinds.

    Raises:
        InputError: If a cell does not fit the type of its column.
    """
    import pandas as pd

    types = {column.name: column for column in schema.columns}
    series = {}
    for name in table.columns:
        column = types[name]
        try:
            series[name] = _series(column, table.column(name))
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"column {name!r} cannot be written as {column.dtype} ({error}); change its dtype"
            ) from error
    return pd.DataFrame(series)


def _series(column: Column, cells: list[str]) -> Any:
    import pandas as pd

    words = column.words_for_missing if isinstance(column, Modelled) else ()
    gone = np.array([cell in words or not cell for cell in cells], dtype=bool)
    kind = column.dtype or _usual(column)
    if isinstance(column, Numerical) and kind.lower().startswith(("int", "uint", "float")):
        numbers = [None if no else column.form.read(cell) for cell, no in zip(cells, gone, strict=True)]
        whole = kind.lower().startswith(("int", "uint"))
        values = [None if number is None else int(number) if whole else float(number) for number in numbers]
        kind = kind.replace("int", "Int").replace("uInt", "UInt") if kind in _WIDE and gone.any() else kind
        return pd.array(values, dtype=kind) if kind[0] in "IUF" else np.array(_with_nan(values), dtype=kind)
    if isinstance(column, Boolean) and kind.startswith("bool"):
        values = [None if no else cell == column.true for cell, no in zip(cells, gone, strict=True)]
        return pd.array(values, dtype="boolean" if gone.any() else kind)
    if isinstance(column, Datetime) and kind.startswith("datetime64"):
        plain = [None if no else time_in(cell, column.format) for cell, no in zip(cells, gone, strict=True)]
        parsed = pd.to_datetime(pd.Series(plain, dtype=object))
        zone = kind.partition(",")[2].strip(" ]")
        if not zone:
            return parsed.astype(kind)  # pyrefly: ignore
        return parsed.dt.tz_localize("UTC").dt.tz_convert(zone).astype(kind)  # pyrefly: ignore
    plain = [None if no else cell for cell, no in zip(cells, gone, strict=True)]
    if kind == "category":
        known = list(column.own_names) if isinstance(column, Categorical) else None
        return pd.Categorical(plain, categories=known)
    if kind.lower().startswith(("int", "uint", "float")):  # numbers that are words to us
        return pd.to_numeric(pd.Series(plain, dtype=object)).astype(kind)  # pyrefly: ignore
    return pd.Series(plain, dtype=kind)  # pyrefly: ignore


def _with_nan(values: list[Any]) -> list[Any]:
    return [np.nan if value is None else value for value in values]


def _usual(column: Column) -> str:
    """Return the type of a column that came from no data frame."""
    if isinstance(column, Numerical) and column.form.plain:
        return "float64" if column.form.decimals else "int64"
    if isinstance(column, Boolean):
        return "bool" if {column.true.lower(), column.false.lower()} == {"true", "false"} else "object"
    return "object"


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
