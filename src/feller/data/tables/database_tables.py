"""Tables of databases as text cells, and writing of cells to a database table."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow

from feller.data.files import database
from feller.data.files.delimited import Sheet
from feller.data.loading.raw import RawTable
from feller.data.tables.dataframes import text_cells, to_frame
from feller.data.tables.schema import Schema
from feller.data.tables.table_writer import PartWriter


def open_database(source: str) -> Sheet:
    """Read a table of a database, or the result of a query, in parts, as text cells with the dtypes of its columns.

    Args:
        source: Database URL without password, followed by #TABLE or #QUERY.

    Raises:
        InputError: If the database cannot be read.
        UsageError: If there is no such table.
    """
    names: list[str] = []
    parts: list[pyarrow.Table] = []
    dtypes: list[list[str]] = []
    for frame in database.read_frames(source):
        names = [str(name).strip() for name in frame.columns]
        series = [frame.iloc[:, j] for j in range(frame.shape[1])]
        labels = [str(j) for j in range(len(series))]
        parts.append(pyarrow.Table.from_arrays([text_cells(column) for column in series], names=labels))
        dtypes.append([_dtype(column) for column in series])
    cells = pyarrow.concat_tables(parts).combine_chunks()
    common = tuple(_common(types) for types in zip(*dtypes, strict=True))
    return Sheet(names, cells, np.arange(1, len(cells) + 1), dtypes=common)


@contextlib.contextmanager
def database_writer(target: str, schema: Schema, *, overwrite: bool) -> Iterator[PartWriter]:
    """Return a function that appends the rows of a table to a new database table, with the dtypes of the schema.

    Raises:
        InputError: If the database cannot be written. A new table is removed then.
        UsageError: If the table exists and `overwrite` is False.
    """
    with database.writer(target, overwrite=overwrite) as append:

        def append_cells(part: RawTable) -> None:
            append(to_frame(part, schema))

        yield append_cells


def _dtype(column: pd.Series) -> str:
    """Return the dtype of a part of a column: that of NumPy if it has no missing cells, empty if it has no others."""
    if column.isna().all():
        return ""
    return str(column.dtype) if column.isna().any() else str(column.dtype).lower().replace("boolean", "bool")


def _common(dtypes: Sequence[str]) -> str:
    """Return the dtype that holds the values of all parts of a column."""
    found = {dtype for dtype in dtypes if dtype}
    has_missing = "" in dtypes
    if not found:
        return "object"
    if found <= {"int64", "Int64"}:
        return "Int64" if "Int64" in found or has_missing else "int64"
    if found <= {"bool", "boolean"}:
        return "boolean" if "boolean" in found or has_missing else "bool"
    if found <= {"int64", "Int64", "float64"}:
        return "float64"
    return found.pop() if len(found) == 1 else "object"
