"""Reading of the row groups of parquet shards, with an LRU cache."""

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feller.core.errors import InputError
from feller.data.files.decompression import check_expanded_size
from feller.data.files.delimited import check_header, decoded_dictionary_bytes
from feller.data.shards.parquet_types import storage_type
from feller.data.shards.shard_names import FingerprintBuilder, ShardFile, check_same

MAX_CACHED_BYTES = 2**28
"""Approximate size in bytes of the cache of row groups; at least one group is cached."""
INDEX = re.compile(r"__index_level_\d+__")
"""Pattern of the names of pandas index columns, which are ignored."""
FOOTER = 2**26
"""Maximum size of the footer of a parquet file, in bytes."""


@dataclass(frozen=True, eq=False)
class RowGroups:
    """All row groups of shards with identical columns."""

    shards: tuple[ShardFile, ...]
    shard: np.ndarray
    place: np.ndarray
    """Index of each group within its shard."""
    starts: np.ndarray
    """Index of the first row of each group, followed by the total number of rows."""
    kinds: dict[str, Any]
    """Pyarrow type of each column, by name."""
    fingerprint: str
    fingerprints: dict[str, str]
    """Hash of each shard, by the file name of the shard."""
    max_cached: int
    """Maximum number of cached groups."""
    _cache: "OrderedDict[tuple[int, tuple[str, ...]], Any]" = field(default_factory=OrderedDict)
    _lock: Any = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the shards share."""
        return tuple(self.kinds)

    def kind(self, column: str) -> Any:
        """Return the pyarrow type of a column."""
        return self.kinds[column]

    def group_of_rows(self) -> np.ndarray:
        """Return the group index of each row, int32."""
        return np.repeat(np.arange(len(self.place), dtype=np.int32), np.diff(self.starts))

    def group(self, number: int, columns: Sequence[str]) -> Any:
        """Return columns of the row group with index `number` as a pyarrow table, from the cache if possible.

        Raises:
            InputError: If the shard is damaged or has changed.
        """
        key = (number, tuple(columns))
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
            while len(self._cache) >= self.max_cached:
                self._cache.popitem(last=False)
            self._cache[key] = self._read(number, columns)
            return self._cache[key]

    def _read(self, group_index: int, columns: Sequence[str]) -> Any:
        shard = self.shards[self.shard[group_index]]
        with open_shard(shard) as file:
            table = read_safely(shard, lambda: _valid(file, int(self.place[group_index]), columns))
        if len(table) != self.starts[group_index + 1] - self.starts[group_index]:
            raise InputError(
                f"as many rows in row group {self.place[group_index]} as its footer declares",
                f"{len(table):,} rows",
                "Write the shard again",
                file=shard.path,
            )
        check_expanded_size(
            shard.path, table.nbytes + read_safely(shard, lambda: sum(map(decoded_dictionary_bytes, table.columns)))
        )
        return table

    def iterate(self, column: str) -> Iterator[Any]:
        """Yield the cells of a column, one row group at a time, without caching."""
        for group_index in range(len(self.place)):
            values = self._read(group_index, [column]).column(0)
            yield values.cast(storage_type(values.type))

    def rows(self, numbers: np.ndarray, columns: Sequence[str]) -> Any:
        """Return columns of the rows with the indices `numbers`, in this order, as a pyarrow table."""
        import pyarrow

        group_index = np.searchsorted(self.starts, numbers, side="right") - 1
        order = np.argsort(group_index, kind="stable")
        edges = np.flatnonzero(np.diff(group_index[order])) + 1
        tables = []
        for positions in np.split(order, edges):
            group = int(group_index[positions[0]])
            tables.append(self.group(group, columns).take(numbers[positions] - self.starts[group]))
        inverse = np.empty(len(order), dtype=np.int64)
        inverse[order] = np.arange(len(order))
        return pyarrow.concat_tables(tables).unify_dictionaries().take(inverse)

    def shard_of(self, number: int) -> ShardFile:
        """Return the shard that contains the row with index `number`."""
        return self.shards[self.shard[np.searchsorted(self.starts, number, side="right") - 1]]

    def name(self, number: int) -> str:
        """Return the location of the row with index `number`, for error messages."""
        shard = self.shard[np.searchsorted(self.starts, number, side="right") - 1]
        first_row = self.starts[np.searchsorted(self.shard, shard)]
        return f"{self.shards[shard].path}: row {number - first_row + 1}"


def _valid(file: Any, group_index: int, columns: Sequence[str]) -> Any:
    """Read the columns of a row group, and check the validity of the data; the metadata of the writer are dropped."""
    table = file.read_row_group(group_index, columns=list(columns)).replace_schema_metadata(None)
    table.validate(full=True)
    return table


def open_shard(shard: ShardFile) -> Any:
    """Return a `pyarrow.parquet.ParquetFile` for a shard; InputError if it is damaged or has changed."""
    from pyarrow import parquet

    stat = shard.path.stat()
    check_same(shard, stat.st_size, stat.st_mtime_ns)
    return read_safely(shard, lambda: parquet.ParquetFile(shard.path))


def read_safely(shard: ShardFile, read: Any) -> Any:
    """Call the function `read`, which reads a shard with pyarrow, and return its result.

    Raises:
        InputError: If `read` fails with any exception; the error names the shard.
    """
    try:
        return read()
    except Exception as error:
        raise InputError(
            f"cannot be read as parquet ({' '.join(str(error).split())[:200]})", file=shard.path
        ) from error


@functools.lru_cache(maxsize=2)
def make_groups(shards: tuple[ShardFile, ...]) -> RowGroups:
    """Index the row groups of shards from the footers of the files; the result is cached.

    Raises:
        InputError: If a shard is damaged or has other columns than the first shard, or there are no rows.
    """
    builder, group_positions, row_counts, schema, max_bytes = FingerprintBuilder(), [], [], None, 1
    for shard_index, shard in enumerate(shards):
        with open_shard(shard) as file:
            metadata, file_schema = file.metadata, file.schema_arrow
            _check_columns(shard, file_schema, schema or file_schema)
            schema = schema or file_schema
            for i in range(metadata.num_row_groups):
                group = metadata.row_group(i)
                check_expanded_size(shard.path, group.total_byte_size)
                max_bytes = max(max_bytes, group.total_byte_size)
                if group.num_rows:
                    group_positions.append((shard_index, i))
                    row_counts.append(group.num_rows)
        builder.add(shard, f"{shard.path.name!a} {shard.size}\n".encode() + _footer(shard))
    if schema is None or not row_counts:
        raise InputError(f"rows in the {len(shards)} shards", "none", file=shards[0].path)
    check_header([name.strip() for name in schema.names], str(shards[0].path))
    positions = np.array(group_positions, dtype=np.int64)
    return RowGroups(
        shards,
        positions[:, 0],
        positions[:, 1],
        np.concatenate([[0], np.cumsum(row_counts)]),
        {name: dtype for name, dtype in zip(schema.names, schema.types, strict=True) if not INDEX.fullmatch(name)},
        builder.combined,
        builder.per_shard,
        max(1, MAX_CACHED_BYTES // max_bytes),
    )


def _check_columns(shard: ShardFile, schema: Any, expected: Any) -> None:
    if schema.names != expected.names or schema.types != expected.types:
        texts = [
            ", ".join(f"{name} ({dtype})" for name, dtype in zip(arrow_schema.names, arrow_schema.types, strict=True))
            for arrow_schema in (expected, schema)
        ]
        raise InputError(
            f"the columns of the first shard, {texts[0]}",
            texts[1],
            "Write all shards with the same schema",
            file=shard.path,
        )


def _footer(shard: ShardFile) -> bytes:
    """Return the footer of a parquet file, which holds the offsets and statistics of its columns."""
    with shard.path.open("rb") as file:
        file.seek(-8, 2)
        size = min(int.from_bytes(file.read(4), "little"), FOOTER, shard.size - 8)
        file.seek(-8 - size, 2)
        return file.read(size)
