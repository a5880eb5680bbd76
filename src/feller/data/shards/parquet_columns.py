"""Readers of parquet shards: points, table cells and texts."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from feller.core.errors import InputError
from feller.data.labels import LABEL_NAMES, TEXT_NAME, encode_labels
from feller.data.loading.raw import RawExamples, RawPoints, RawTexts, object_array
from feller.data.modality import Modality
from feller.data.points.number_tables import ColumnSelector
from feller.data.shards.parquet_types import check_cells, check_text, is_number, is_ordered
from feller.data.shards.row_groups import RowGroups, read_safely
from feller.data.shards.shard_reader import TEXT_BATCH, ShardIndexInfo, ShardReader, Survey, survey
from feller.data.stream import ReadChunks
from feller.data.tables.dataframes import from_frame, text_cells
from feller.data.tables.dependent_columns import Gap
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema

MAX_ADDED_ROWS = 1_000
"""Maximum number of rows that are added to the in-memory sample for the values of one column."""


def unrepresented_rows(groups: RowGroups, schema: Schema) -> np.ndarray:
    """Find the cell values that the schema cannot encode; return the sorted index of one row for each of them."""
    rows: list[int] = []
    column_names = {name.strip(): name for name in groups.columns}
    for column in schema.modelled:
        if isinstance(schema.by_name[column.name], Gap):  # its amounts depend on two columns
            continue
        unknown_cells: set[str] = set()
        start = 0
        for values in groups.iterate(column_names[column.name]):
            distinct = _extremes(values)
            cells = text_cells(distinct.to_pandas())
            for cell, value, code in zip(cells.to_pylist(), distinct, column.codes(cells).tolist(), strict=True):
                if len(unknown_cells) < MAX_ADDED_ROWS and cell not in unknown_cells and code < 0:
                    unknown_cells.add(cell)
                    offset = values.index(value).as_py() if value.is_valid else _first_null(values)
                    rows.append(start + offset)
            start += len(values)
    return np.array(sorted({*rows}), dtype=np.int64)


def _first_null(values: Any) -> int:
    return int(np.flatnonzero(values.is_null(nan_is_null=True).to_numpy())[0])


def _extremes(values: Any) -> Any:
    """Return the cells of a column that suffice to fit its schema.

    These are all distinct values, or for ordered types only the minimum, the maximum and a null if there is one.
    """
    import pyarrow
    import pyarrow.compute as compute

    dtype = values.type
    if not is_ordered(dtype):
        return values.unique()
    min_max = compute.call_function("min_max", [values])
    nulls = [pyarrow.scalar(None, dtype)] * bool(values.is_null(nan_is_null=True).to_numpy().any())
    return pyarrow.array([*min_max.values(), *nulls] if min_max["min"].is_valid else nulls, type=dtype)


SAMPLE = 50_000


@dataclass(frozen=True, eq=False)
class _ParquetRows(ShardReader):
    """Base class of readers of parquet rows."""

    groups: RowGroups
    columns: tuple[str, ...]
    """Names of the columns to read."""

    sample_size = SAMPLE

    @property
    def chunks(self) -> ReadChunks | None:
        return ReadChunks(torch.from_numpy(self.groups.group_of_rows()), self.groups.max_cached)

    def _frame(self, indices: np.ndarray) -> Any:
        """Return the rows with these indices as a data frame, in which integer columns with nulls stay integers."""
        import pandas as pd
        from pyarrow import types

        table = self.groups.rows(indices, self.columns)
        nullable = {
            dtype: pd.Int64Dtype()
            for dtype in table.schema.types
            if types.is_integer(dtype) and not types.is_uint64(dtype)
        }
        has_nulls = any(column.null_count for column in table.columns)
        shard = self.groups.shard_of(int(indices[0]))
        return read_safely(shard, lambda: table.to_pandas(types_mapper=nullable.get if has_nulls else None))


@dataclass(frozen=True, eq=False)
class ParquetPoints(_ParquetRows):
    """Reader of the rows of parquet files as numeric rows."""

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        values = np.ascontiguousarray(self._frame(numbers).to_numpy(dtype=np.float64, na_value=np.nan))
        not_finite = np.argwhere(~np.isfinite(values))
        if len(not_finite):
            row, column = not_finite[0]
            raise InputError(
                "a finite number",
                f"{values[row, column]} in {self.groups.name(int(numbers[row]))}, column {self.columns[column]!r}",
                "Drop the row, or fill the cell",
            )
        raw = RawPoints(values, columns=tuple(name.strip() for name in self.columns))
        return self.info.with_labels(raw, numbers)


@dataclass(frozen=True, eq=False)
class ParquetCells(_ParquetRows):
    """Reader of the rows of parquet files as table rows, with columns of any scalar type."""

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        raw = from_frame(self._frame(numbers), str(self.groups.shards[0].path.parent))
        return replace(raw, names=tuple(map(self.groups.name, numbers.tolist())), lines=None)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        mixed = modality.view(MixedTable)
        table = modality.view(Table) if mixed is None else mixed.table
        return super().unrepresented(modality) if table is None else unrepresented_rows(self.groups, table.schema)


@dataclass(frozen=True, eq=False)
class ParquetTexts(_ParquetRows):
    """Reader of a column of parquet files as texts; empty texts are skipped."""

    survey: Survey

    @property
    def chunks(self) -> ReadChunks | None:
        return ReadChunks(torch.from_numpy(self.groups.group_of_rows()[self.survey.nonempty]), self.groups.max_cached)

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        rows = self.survey.nonempty[numbers]
        texts = _texts(self.groups.rows(rows, self.columns).column(0))
        return self.info.with_labels(RawTexts(object_array(texts), documents=True, lines=rows + 1), numbers)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        return self.survey.unrepresented(modality)


def rows_of(groups: RowGroups, choose: ColumnSelector) -> ShardReader:
    """Return a reader of the numeric columns selected by `choose`, with class labels.

    Raises:
        InputError: If a selected column is not numeric, or no columns are left.
    """
    label = _label(groups)
    columns = [name for name in groups.columns if name != label]
    selected = tuple(choose(columns)) or tuple(columns)
    non_numeric = [name for name in selected if not is_number(groups.kind(name))]
    path = groups.shards[0].path
    if non_numeric or not selected:
        problem = f"other types in the column {non_numeric[0]!r}" if non_numeric else "no columns"
        raise InputError("numeric columns", problem, "Select numeric columns, or read the data as a table", place=path)
    return ParquetPoints(_about(groups, label, _left(columns, selected)), groups, selected)


def texts_of(groups: RowGroups) -> ShardReader:
    """Return a reader of the column `text`, or of the only column besides the label column.

    Raises:
        InputError: If there is no text column, or all its texts are empty.
    """
    label = _label(groups)
    columns = [name for name in groups.columns if name != label]
    text_columns = [name for name in columns if name.lower() == TEXT_NAME] or (columns if len(columns) == 1 else [])
    shard = groups.shards[0]
    if not text_columns:
        column_names = ", ".join(groups.columns)
        raise InputError(f"a text column called {TEXT_NAME!r}", f"columns {column_names}", file=shard.path)
    check_text(shard, text_columns[0], groups.kind(text_columns[0]))
    text_survey = _surveyed(groups, text_columns[0])
    info = _about(groups, label, _left(columns, text_columns))
    if not len(text_survey.nonempty):
        raise InputError("at least one nonempty text", "none", file=shard.path, column=text_columns[0])
    if text_survey.num_empty:
        note = f"left out {text_survey.num_empty:,} empty texts, the first is {groups.name(text_survey.first_empty)}"
        info = info.subset(text_survey.nonempty, note)
    return ParquetTexts(info, groups, (text_columns[0],), text_survey)


def cells_of(groups: RowGroups) -> ShardReader:
    """Return a reader of all columns as table cells; InputError if a column type is not scalar."""
    for name, dtype in groups.kinds.items():
        check_cells(groups.shards[0], name, dtype)
    return ParquetCells(_about(groups, None, ()), groups, groups.columns)


@functools.lru_cache(maxsize=2)
def _surveyed(groups: RowGroups, column: str) -> Survey:
    return survey(
        _texts(values.slice(i, TEXT_BATCH))
        for values in groups.iterate(column)
        for i in range(0, len(values), TEXT_BATCH)
    )


def _texts(values: Any) -> list[str]:
    return [text or "" for text in values.to_pylist()]


def _left(columns: Sequence[str], read_columns: Sequence[str]) -> tuple[str, ...]:
    used = {*read_columns}
    unused = [name for name in columns if name not in used]
    return (f"left out the columns {', '.join(unused)}",) if unused else ()


def _label(groups: RowGroups) -> str | None:
    labels = [name for name in groups.columns if name.strip().lower() in LABEL_NAMES]
    if len(labels) > 1:
        raise InputError("one column called label or class", len(labels), "Remove one", file=groups.shards[0].path)
    return labels[0] if labels else None


def _about(groups: RowGroups, label: str | None, notes: tuple[str, ...]) -> ShardIndexInfo:
    """Return the metadata of all rows; the column `label`, if given, is read once to encode the class of each row."""
    if label is None:
        return ShardIndexInfo(len(groups), groups.fingerprint, groups.fingerprints, notes=notes)
    check_cells(groups.shards[0], label, groups.kind(label))
    interned: dict[str, str] = {}
    labels: list[str] = []
    for column in groups.iterate(label):
        for value in column.to_pylist():
            if value is None or value == "":
                raise InputError(
                    f"a value for {label}", f"none in {groups.name(len(labels))}", "Fill the cell, or drop the row"
                )
            class_name = str(value).strip()
            labels.append(interned.setdefault(class_name, class_name))
    class_ids, classes = encode_labels(labels, f"{groups.shards[0].path.parent} ({label})")
    return ShardIndexInfo(
        len(groups), groups.fingerprint, groups.fingerprints, class_ids.astype(np.int32), classes, notes
    )
