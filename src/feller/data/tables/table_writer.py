"""Writing of tables to files, whole or in parts with bounded memory."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet
from torch import Tensor

from feller.core.errors import InputError, cannot_write
from feller.core.pytree import Cond
from feller.core.serialization import FILENAME_ERRORS, open_replacement
from feller.data.files import sample_folder
from feller.data.files.delimited import text_of
from feller.data.files.numpy_files import write_arrays
from feller.data.loading.raw import Dialect, RawTable, text_array
from feller.data.modality import Writer
from feller.data.tables.column import ModelledColumn
from feller.data.tables.dataframes import dialect_for, to_frame
from feller.data.tables.schema import Schema

PartWriter = Callable[[RawTable], None]
"""Function that appends rows to a file."""
ENDINGS = (".csv", ".tsv", ".parquet")
"""Suffixes of files that can be written in parts."""


def table_writers(
    cells: Callable[[Tensor], RawTable],
    write_cells: Callable[[RawTable, pathlib.Path], None],
    arrays: Callable[[Tensor, RawTable], dict[str, np.ndarray]],
    show: Callable[[Tensor, Cond], Image.Image],
) -> dict[str, Writer]:
    """Return the function that writes samples of a table for each suffix (empty for a folder).

    Args:
        cells: Function from samples to cells.
        write_cells: Function that writes cells to a .csv, .tsv or .parquet file.
        arrays: Function from samples and their cells to the arrays of a .npz file.
        show: Function from samples and their conditions to the picture in a folder.
    """

    def write_folder(values: Tensor, given: Cond, out: pathlib.Path) -> None:
        sample_folder.save_table(show(values, given), out, lambda file: write_cells(cells(values), file))

    return {
        **dict.fromkeys(ENDINGS, lambda values, given, out: write_cells(cells(values), out)),
        ".npz": lambda values, given, out: write_arrays(arrays(values, cells(values)), out),
        "": write_folder,
    }


def text_arrays(table: RawTable) -> dict[str, np.ndarray]:
    """Return the cells of a table as text, [rows, columns], and the names of the columns, for a .npz file."""
    cells = table.values.to_pandas().to_numpy(dtype=object).astype(np.str_)
    return {"samples": cells, "columns": np.array(table.columns)}


@contextlib.contextmanager
def table_writer(path: pathlib.Path, schema: Schema, dialect: Dialect) -> Iterator[PartWriter]:
    """Return a function that appends the rows of a table to a .csv, .tsv or .parquet file.

    The file appears at the end of the context, and is that of all rows written at once. After an error or an interrupt,
    there is no file.

    Raises:
        InputError: If the disk is full, or a cell does not fit the dtype of its column.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_replacement(path) as file:
            if path.suffix.lower() == ".parquet":
                with _parquet_parts(file, schema, path) as append:
                    yield append
            else:
                yield _text_parts(file, dialect_for(path, dialect))
    except OSError as error:
        raise cannot_write(path, error) from error


def _text_parts(file: BinaryIO, dialect: Dialect) -> PartWriter:
    """Return a function that appends rows to delimited text; the first call writes the header."""
    is_first = True

    def append(part: RawTable) -> None:
        nonlocal is_first
        part_dialect = dialect if is_first else replace(dialect, has_bom=False)
        text = text_of(part.columns, part.values, part_dialect, header=is_first)
        file.write(text.encode(errors=FILENAME_ERRORS))
        is_first = False

    return append


@contextlib.contextmanager
def _parquet_parts(file: BinaryIO, schema: Schema, path: pathlib.Path) -> Iterator[PartWriter]:
    """Return a function that appends rows to a Parquet file, a row group for each part."""
    with contextlib.ExitStack() as stack:
        writer: parquet.ParquetWriter | None = None

        def append(part: RawTable) -> None:
            nonlocal writer
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(file, arrow_schema(part, schema)))
            writer.write_table(arrow_table(part, schema, writer.schema, path))

        yield append


def arrow_schema(part: RawTable, schema: Schema) -> pyarrow.Schema:
    """Return the Arrow schema of a table with the columns of `part`, whose other parts may have missing cells."""
    frame = to_frame(part, schema)
    missing = {
        name: column.missing
        for name in part.columns
        if isinstance(column := schema.text_forms[name], ModelledColumn) and column.missing is not None
    }
    if missing and len(part.values):
        cells = [text_array([missing.get(name, part.cell(name, 0))]) for name in part.columns]
        row = pyarrow.Table.from_arrays(cells, names=[*part.columns])
        frame = to_frame(replace(part, values=pyarrow.concat_tables([part.values, row]), lines=None), schema)
    return pyarrow.Schema.from_pandas(frame, preserve_index=False)


def arrow_table(part: RawTable, schema: Schema, types: pyarrow.Schema, path: pathlib.Path) -> pyarrow.Table:
    """Return a part of a table with the types of the whole table; InputError if a cell has another type."""
    try:
        return pyarrow.Table.from_pandas(to_frame(part, schema), schema=types, preserve_index=False)
    except (pyarrow.ArrowException, UnicodeEncodeError) as error:
        raise InputError(f"parquet cannot store the cells ({error})", remedy="Write .csv instead", file=path) from error
