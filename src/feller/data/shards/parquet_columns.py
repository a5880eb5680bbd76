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
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema

MAX_ADDED_ROWS = 1_000
"""Maximum number of rows that are added to the in-memory sample for the values of one column."""


def unrepresented_rows(groups: RowGroups, schema: Schema) -> np.ndarray:
    """Return sorted row indices, with one row for each distinct cell value that the schema cannot encode."""
    found: list[int] = []
    names = {name.strip(): name for name in groups.columns}
    for column in schema.modelled:
        strange: set[str] = set()
        start = 0
        for values in groups.iterate(names[column.name]):
            different = _extremes(values)
            cells = text_cells(different.to_pandas())
            for cell, value, code in zip(cells.to_pylist(), different, column.codes(cells).tolist(), strict=True):
                if len(strange) < MAX_ADDED_ROWS and cell not in strange and code < 0:
                    strange.add(cell)
                    place = values.index(value).as_py() if value.is_valid else _first_null(values)
                    found.append(start + place)
            start += len(values)
    return np.array(sorted({*found}), dtype=np.int64)


def _first_null(values: Any) -> int:
    return int(np.flatnonzero(values.is_null(nan_is_null=True).to_numpy())[0])


def _extremes(values: Any) -> Any:
    """Return the distinct values of a categorical column; for ordered types the minimum, the maximum and a null."""
    import pyarrow
    import pyarrow.compute as compute

    kind = values.type
    if not is_ordered(kind):
        return values.unique()
    ends = compute.call_function("min_max", [values])
    gaps = [pyarrow.scalar(None, kind)] * bool(values.is_null(nan_is_null=True).to_numpy().any())
    return pyarrow.array([*ends.values(), *gaps] if ends["min"].is_valid else gaps, type=kind)


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

    def _frame(self, numbers: np.ndarray) -> Any:
        """Return the rows with these indices as a data frame; integer columns with nulls stay integers."""
        import pandas as pd
        from pyarrow import types

        table = self.groups.rows(numbers, self.columns)
        whole = {
            kind: pd.Int64Dtype() for kind in table.schema.types if types.is_integer(kind) and not types.is_uint64(kind)
        }
        gaps = any(column.null_count for column in table.columns)
        shard = self.groups.shard_of(int(numbers[0]))
        return read_safely(shard, lambda: table.to_pandas(types_mapper=whole.get if gaps else None))


@dataclass(frozen=True, eq=False)
class ParquetPoints(_ParquetRows):
    """Reader of the rows of parquet files as numeric rows."""

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        values = np.ascontiguousarray(self._frame(numbers).to_numpy(dtype=np.float64, na_value=np.nan))
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            raise InputError(
                "a finite number",
                f"{values[row, column]} in {self.groups.name(int(numbers[row]))}, column {self.columns[column]!r}",
                "Drop the row, or fill the cell",
            )
        found = RawPoints(values, columns=tuple(name.strip() for name in self.columns))
        return self.info.with_labels(found, numbers)


@dataclass(frozen=True, eq=False)
class ParquetCells(_ParquetRows):
    """Reader of the rows of parquet files as table rows, with columns of any scalar type."""

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        found = from_frame(self._frame(numbers), str(self.groups.shards[0].path.parent))
        return replace(found, names=tuple(map(self.groups.name, numbers.tolist())), lines=None)

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
    rest = [name for name in groups.columns if name != label]
    chosen = tuple(choose(rest)) or tuple(rest)
    words = [name for name in chosen if not is_number(groups.kind(name))]
    where = groups.shards[0].path
    if words or not chosen:
        got = f"other types in the column {words[0]!r}" if words else "no columns"
        raise InputError("numeric columns", got, "Select numeric columns, or read the data as a table", place=where)
    return ParquetPoints(_about(groups, label, _left(rest, chosen)), groups, chosen)


def texts_of(groups: RowGroups) -> ShardReader:
    """Return a reader of the column `text`, or of the only column besides the label column.

    Raises:
        InputError: If there is no text column, or all its texts are empty.
    """
    label = _label(groups)
    rest = [name for name in groups.columns if name != label]
    named = [name for name in rest if name.lower() == TEXT_NAME] or (rest if len(rest) == 1 else [])
    shard = groups.shards[0]
    if not named:
        held = ", ".join(groups.columns)
        raise InputError(f"a text column called {TEXT_NAME!r}", f"columns {held}", file=shard.path)
    check_text(shard, named[0], groups.kind(named[0]))
    found = _surveyed(groups, named[0])
    about = _about(groups, label, _left(rest, named))
    if not len(found.nonempty):
        raise InputError("at least one nonempty text", "none", file=shard.path, column=named[0])
    if found.num_empty:
        note = f"left out {found.num_empty:,} empty texts, the first is {groups.name(found.first_empty)}"
        about = about.subset(found.nonempty, note)
    return ParquetTexts(about, groups, (named[0],), found)


def cells_of(groups: RowGroups) -> ShardReader:
    """Return a reader of all columns as table cells; InputError if a column type is not scalar."""
    for name, kind in groups.kinds.items():
        check_cells(groups.shards[0], name, kind)
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


def _left(rest: Sequence[str], columns_read: Sequence[str]) -> tuple[str, ...]:
    known = {*columns_read}
    others = [name for name in rest if name not in known]
    return (f"left out the columns {', '.join(others)}",) if others else ()


def _label(groups: RowGroups) -> str | None:
    named = [name for name in groups.columns if name.strip().lower() in LABEL_NAMES]
    if len(named) > 1:
        raise InputError("one column called label or class", len(named), "Remove one", file=groups.shards[0].path)
    return named[0] if named else None


def _about(groups: RowGroups, label: str | None, notes: tuple[str, ...]) -> ShardIndexInfo:
    """Return the metadata of all rows; labels are encoded in one pass over their column."""
    if label is None:
        return ShardIndexInfo(len(groups), groups.fingerprint, groups.fingerprints, notes=notes)
    check_cells(groups.shards[0], label, groups.kind(label))
    words: dict[str, str] = {}
    labels: list[str] = []
    for column in groups.iterate(label):
        for value in column.to_pylist():
            if value is None or value == "":
                raise InputError(
                    f"a value for {label}", f"none in {groups.name(len(labels))}", "Fill the cell, or drop the row"
                )
            word = str(value).strip()
            labels.append(words.setdefault(word, word))
    positions, classes = encode_labels(labels, f"{groups.shards[0].path.parent} ({label})")
    return ShardIndexInfo(
        len(groups), groups.fingerprint, groups.fingerprints, positions.astype(np.int32), classes, notes
    )
