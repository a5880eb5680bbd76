"""Arrays in Parquet files with columns of lists: one row per array."""

import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import parquet, types

from feller.core.errors import InputError
from feller.data.files.delimited import read_parquet
from feller.data.labels import LABEL_NAMES, encode_labels
from feller.data.loading.raw import RawArrays


def holds_lists(path: pathlib.Path) -> bool:
    """Return True for a Parquet file in which a column holds lists of numbers, possibly nested."""
    try:
        with parquet.ParquetFile(path) as file:
            return any(_is_numeric_list(kind) for kind in file.schema_arrow.types)
    except Exception:  # pyarrow raises many types on damaged files; the reader of tables reports them
        return False


def _is_list(kind: Any) -> bool:
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_numeric_list(kind: Any) -> bool:
    if not _is_list(kind):
        return False
    while _is_list(kind):
        kind = kind.value_type
    return types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)


def load_lists(path: pathlib.Path, condition: Collection[str] = ()) -> RawArrays:
    """Read arrays [n, *sides, channels] from columns of lists; null is a missing entry, and shorter lists are padded.

    Each column of lists of numbers is a channel of series. A single column of nested lists holds whole arrays,
    [steps][channels] or [height][width][channels]. A column of labels, and conditions, have one value per row.

    InputError if lists have different depths, or sides other than the first differ.
    """
    frame = read_parquet(path)
    schema = parquet.read_schema(path)
    lists = [str(field.name) for field in schema if _is_numeric_list(field.type) and field.name not in condition]
    if not lists:
        raise InputError("a column of lists that is not a condition", "none", file=path)
    nested = [name for name in lists if _is_list(schema.field(name).type.value_type)]
    if nested and len(lists) > 1:
        remedy = "Keep one column of nested lists, or one column of lists per channel"
        raise InputError("one column of nested lists", ", ".join(lists), remedy, file=path, column=nested[0])
    columns = [[_array(cell, path, i, name) for i, cell in enumerate(frame[name], 1)] for name in lists]
    columns = columns if nested else [[cell[:, None] for cell in column] for column in columns]
    steps = max(len(cell) for column in columns for cell in column)
    rest = columns[0][0].shape[1:]
    values = np.full((len(frame), steps, *rest[:-1], rest[-1] * len(columns)), np.nan)
    for j, (name, column) in enumerate(zip(lists, columns, strict=True)):
        for i, cell in enumerate(column):
            if cell.shape[1:] != rest:
                expected = f"lists of one shape after the first side, {list(rest)}"
                raise InputError(expected, list(cell.shape[1:]), file=path, row=i + 1, column=name)
            values[i, : len(cell), ..., rest[-1] * j : rest[-1] * (j + 1)] = cell
    labelled = next((name for name in frame.columns if name.lower() in LABEL_NAMES and name not in condition), None)
    labels, classes = None, ()
    if labelled is not None:
        labels, classes = encode_labels([str(cell) for cell in frame[labelled]], f"{path} ({labelled})")
    others = [name for name in frame.columns if name not in (*lists, labelled)]
    return RawArrays(
        values,
        labels,
        classes,
        columns=() if nested else tuple(lists),
        condition_columns={name: frame[name].to_numpy() for name in others if name in condition},
        properties={
            name: frame[name].to_numpy(dtype=np.float64)
            for name in others
            if name not in condition and pd.api.types.is_numeric_dtype(frame[name])
        },
    )


def _array(cell: Any, path: pathlib.Path, row: int, name: str) -> np.ndarray:
    """Return a cell of (nested) lists as an array of numbers, NaN for null."""
    if cell is None:
        raise InputError("a list", "an empty cell", file=path, row=row, column=name)

    def plain(part: Any) -> Any:
        return [plain(entry) for entry in part] if isinstance(part, np.ndarray | list) else part

    try:
        array = np.array(plain(cell), dtype=np.float64)
    except (TypeError, ValueError) as error:
        remedy = "Write lists of equal lengths in each list, except the outermost"
        raise InputError(
            "lists of numbers of one shape", str(error)[:80], remedy, file=path, row=row, column=name
        ) from error
    if not len(array) or np.isinf(array).any():
        found = "an empty list" if not len(array) else "infinite numbers"
        raise InputError("finite numbers", found, file=path, row=row, column=name)
    return array
