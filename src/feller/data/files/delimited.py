"""Reading (with Arrow) and writing of delimited text files and Parquet files as tables of text cells."""

import csv
import io
import itertools
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.csv
from pyarrow import parquet, types

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.decompression import check_expanded_size
from feller.data.files.plain_text import (
    BYTE_ORDER_MARK,
    decode_unicode,
    head_of,
    read_decompressed,
    rows_of,
    separator_in,
)
from feller.data.loading.raw import TEXT, Dialect, text_array

_ARROW: Any = pyarrow.compute  # its functions are created at import
MARK = BYTE_ORDER_MARK.decode()
LEAST_OF_CELL = 64
"""Lower bound on the memory of a Parquet cell that is read as text, in bytes."""
BATCH = 65_536
"""Number of rows that are read from a Parquet file at a time."""
LONGEST_ROW = 2**27
"""Maximum size of a row of a delimited file, in bytes."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Text cells of a delimited file, without leading and trailing blanks: the first row, and the rows below it."""

    first_row: list[str]
    """First row of the file: the column names, or cells if the file has no header."""
    cells: pyarrow.Table
    """Text cells below the first row; the columns are named 0, 1, ..., one for each cell of the first row."""
    lines: np.ndarray
    """Line number in the file of each row of `cells`, [n]."""
    first_line: int = 1
    dialect: Dialect = Dialect()  # noqa: RUF009 - frozen
    dtypes: tuple[str, ...] = ()
    """Column dtypes, if the cells come from a data frame."""

    def split(self, names: Collection[str]) -> "tuple[Sheet, dict[str, np.ndarray]]":
        """Return the sheet without the columns `names`, and those of these columns that exist, as arrays of texts.

        InputError if two columns have the same one of these names.
        """
        self.check_distinct(names)
        kept = [i for i, name in enumerate(self.first_row) if name not in names]
        removed = {
            name: np.array(self.cells.column(i).to_pylist(), dtype=object)
            for i, name in enumerate(self.first_row)
            if name in names
        }
        if not kept:
            raise InputError("at least one column that is not a condition", f"only {', '.join(removed)}")
        cells = self.cells.select(kept).rename_columns([str(i) for i in range(len(kept))])
        dtypes = tuple(self.dtypes[i] for i in kept) if self.dtypes else ()
        return replace(self, first_row=[self.first_row[i] for i in kept], cells=cells, dtypes=dtypes), removed

    def check_distinct(self, names: Collection[str]) -> None:
        """Raise an InputError if two columns have the same name, which is one of `names`."""
        repeated = [name for name in names if self.first_row.count(name) > 1]
        if repeated:
            raise InputError(f"two columns are named {repeated[0]!r}", remedy="Rename one", column=repeated[0])

    def head(self, count: int) -> list[list[str]]:
        """Return the first `count` rows below the first row."""
        return [list(row) for row in zip(*(c.to_pylist() for c in self.cells.slice(0, count).columns), strict=True)]


def read_sheet(path: pathlib.Path) -> Sheet | None:
    """Read a .csv, .tsv or .txt file, optionally .gz; return None if it has no rows.

    InputError, with the line number, if the file is damaged or rows differ in the number of cells.
    """
    raw = read_decompressed(path)
    try:
        return _parsed(raw.removeprefix(BYTE_ORDER_MARK), raw.startswith(BYTE_ORDER_MARK), path)
    except csv.Error as error:
        raise InputError(f"is not a valid table of delimited text ({error})", file=path) from error


def _parsed(raw: bytes, has_bom: bool, path: pathlib.Path) -> Sheet | None:
    first_newline = raw.find(b"\n")
    separator = separator_in(raw[: len(raw) if first_newline < 0 else first_newline].decode(errors="replace"))
    dialect = Dialect(separator, has_bom)
    head = _head(raw, separator) if _is_regular(raw, separator.encode()) else None
    if head is not None:
        first_line, first_row, offset = head
        cells = _by_arrow(raw[offset:], separator, len(first_row))
        if cells is not None:
            num_rows = len(cells)
            newlines = raw.count(b"\n") + (not raw.endswith(b"\n"))
            is_simple = newlines == num_rows + 1 == first_line + num_rows
            lines = np.arange(2, num_rows + 2) if is_simple else _lines(raw, path)
            return Sheet(first_row, cells, lines, first_line, dialect)
    return _row_by_row(raw, path, dialect)


def _is_regular(raw: bytes, separator: bytes) -> bool:
    """Return True if each cell is quoted entirely or not at all, so that all parsers agree."""
    if b"\r" in raw and raw.count(b"\r") != raw.count(b"\r\n"):
        return False
    if b'"' not in raw:
        return True
    parts = raw.replace(b'""', b"").split(b'"')
    delimiters = (separator, b"\n", b"\r")
    unquoted = parts[2:-1:2]
    delimited = all(part.startswith(delimiters) and part.endswith(delimiters) for part in unquoted)
    ends_well = not parts[-1] or len(parts) == 1 or parts[-1].startswith(delimiters)
    return len(parts) % 2 == 1 and delimited and ends_well and (not parts[0] or parts[0].endswith(delimiters[:2]))


def _head(raw: bytes, separator: str) -> tuple[int, list[str], int] | None:
    """Return the first row's line number, its cells, and the offset of the next row; None if ambiguous."""
    start = 0
    for line in itertools.count(1):
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        text = raw[start:end].rstrip(b"\r")
        if text.strip():
            if text.count(b'"') % 2:
                return None
            try:
                (cells,) = csv.reader([text.decode()], delimiter=separator, skipinitialspace=True, strict=True)
            except (UnicodeDecodeError, ValueError, csv.Error):
                return None
            return line, [cell.strip() for cell in cells], end + 1
        start = end + 1
        if start >= len(raw):
            return None
    return None


def _by_arrow(body: bytes, separator: str, num_columns: int) -> pyarrow.Table | None:
    """Parse the cells of all rows with Arrow; None on any error, which `_row_by_row` then reports."""
    names = [str(i) for i in range(num_columns)]
    if not body.strip():
        return pyarrow.Table.from_arrays([text_array([])] * num_columns, names=names)
    try:
        table = pyarrow.csv.read_csv(
            pyarrow.py_buffer(body),
            pyarrow.csv.ReadOptions(column_names=names, block_size=min(max(len(body), 2**20), LONGEST_ROW)),
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in body),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, TEXT)),
        )
    except (pyarrow.ArrowException, ValueError):
        return None
    return _stripped(table.filter(_ARROW.not_equal(table.column(0), "")) if num_columns == 1 else table)


def _stripped(table: pyarrow.Table) -> pyarrow.Table:
    return pyarrow.Table.from_arrays(
        [_ARROW.utf8_trim_whitespace(column) for column in table.columns], names=table.column_names
    )


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    return ((line, row) for line, row in rows_of(text, blanks=False) if any(row) or len(row) > 1)


def _lines(raw: bytes, path: pathlib.Path) -> np.ndarray:
    rows = _rows(decode_unicode(raw, path))
    next(rows)
    return np.fromiter((line for line, _ in rows), dtype=np.int64)


def _row_by_row(raw: bytes, path: pathlib.Path, dialect: Dialect) -> Sheet | None:
    """Read a file with Python's csv reader, which provides the line number for errors."""
    rows = _rows(decode_unicode(raw, path))
    first_line, first_row = next(rows, (0, []))
    if not first_line:
        return None
    lines: list[int] = []
    columns: list[list[str]] = [[] for _ in first_row]
    for line_number, cells in rows:
        check_width(cells, len(first_row), line_number, str(path))
        lines.append(line_number)
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell.strip())
    table = pyarrow.Table.from_arrays(list(map(text_array, columns)), names=[str(i) for i in range(len(first_row))])
    return Sheet([cell.strip() for cell in first_row], table, np.array(lines, dtype=np.int64), first_line, dialect)


def dialect_of(path: pathlib.Path) -> Dialect:
    """Return the dialect (separator and byte order mark) of a readable .csv, .tsv or .txt file, optionally .gz."""
    head = head_of(path)
    return Dialect(separator_in(head.partition(b"\n")[0].decode(errors="replace")), head.startswith(BYTE_ORDER_MARK))


def text_of(names: Sequence[str], cells: pyarrow.Table, dialect: Dialect, *, header: bool = True) -> str:
    """Format cells as delimited text, which is read back unchanged; at least one row is required.

    The first line has the column names, unless `header` is False.
    """
    # A lone empty cell would be an empty line, which is skipped on reading.
    separator = "" if len(names) == 1 else dialect.separator
    columns = [_quoted(column, separator) for column in cells.columns]
    if len(names) == 1:
        columns = [_ARROW.if_else(_ARROW.equal(columns[0], ""), '""', columns[0])]
    lines = _ARROW.binary_join_element_wise(*columns, pyarrow.scalar(dialect.separator, TEXT)).to_pylist()
    names_line = [dialect.separator.join(quote(name, separator) for name in names)] if header else []
    return MARK * dialect.has_bom + "\n".join([*names_line, *lines, ""])


def _cuts(separator: str) -> str:
    return rf'[{";" if separator == ";" else ",;"}\t"\r\n]'


def _quoted(column: pyarrow.ChunkedArray, separator: str) -> pyarrow.ChunkedArray:
    needs_quotes = _ARROW.match_substring_regex(column, _cuts(separator))
    if not _ARROW.any(needs_quotes).as_py():
        return column
    doubled = _ARROW.replace_substring(column, '"', '""')
    quote_char, empty = (pyarrow.scalar(text, TEXT) for text in ('"', ""))
    return _ARROW.if_else(needs_quotes, _ARROW.binary_join_element_wise(quote_char, doubled, quote_char, empty), column)


def quote(word: str, separator: str = "") -> str:
    """Quote a cell if a reader would otherwise split or change it; an empty `separator` stands for any separator."""
    return '"' + word.replace('"', '""') + '"' if re.search(_cuts(separator), word) else word


def read_parquet(path: pathlib.Path) -> pd.DataFrame:
    """Read a .parquet file as a data frame; InputError if the file is damaged."""
    try:
        with parquet.ParquetFile(path) as file:
            metadata, batches, size = file.metadata, [], 0
            group_sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
            check_expanded_size(path, max(sum(group_sizes), LEAST_OF_CELL * metadata.num_rows * metadata.num_columns))
            for batch in file.iter_batches(BATCH):  # the metadata may understate the size
                size += batch.nbytes + sum(map(decoded_dictionary_bytes, batch.columns))
                check_expanded_size(path, size)
                batches.append(batch)
            return pyarrow.Table.from_batches(batches, file.schema_arrow).to_pandas()
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many types on damaged files
        raise InputError(f"cannot be read as parquet ({' '.join(str(error).split())})", file=path) from error


def decoded_dictionary_bytes(column: Any) -> int:
    """Return the decoded size in bytes of a column of dictionary-encoded texts; 0 for other columns."""
    dtype = column.type
    if not types.is_dictionary(dtype) or not (
        types.is_string(dtype.value_type) or types.is_large_string(dtype.value_type)
    ):
        return 0
    lengths = (
        _ARROW.binary_length(chunk.dictionary).take(chunk.indices)
        for chunk in (column.chunks if isinstance(column, pyarrow.ChunkedArray) else [column])
        if len(chunk.dictionary)
    )
    return sum(_ARROW.sum(values).as_py() or 0 for values in lengths)


def write_parquet(make: Callable[[], Any], path: pathlib.Path) -> None:
    """Write the data frame returned by `make` to a .parquet file; InputError if UTF-8 cannot encode a text."""
    buffer = io.BytesIO()
    try:
        make().to_parquet(buffer, index=False)
    except UnicodeEncodeError as error:
        raise InputError(
            f"parquet cannot store the text {error.object!r}", remedy="Write .csv instead", file=path
        ) from error
    replace_file(path, buffer.getvalue())


def check_header(first: Sequence[str], where: str) -> None:
    """Raise an InputError if a column name in the first row is empty or repeated."""
    if "" in first:
        column = list(first).index("") + 1
        raise InputError(
            f"column {column} has no name", remedy="Name the column, or export without row numbers", place=where
        )
    counts = Counter(first)
    repeated = next((name for name in first if counts[name] > 1), None)
    if repeated is not None:
        raise InputError(f"two columns are named {repeated!r}", remedy="Rename one", place=where)


def check_width(cells: Sequence[str], width: int, line: int, where: str) -> None:
    """Raise an InputError if the number of cells in a row is not `width`, the number in the first row."""
    if len(cells) != width:
        raise InputError(
            f"row {line} has {cells_of(len(cells))}",
            expected=f"{width} as in the first row",
            remedy="Fix or remove the row",
            place=where,
        )


def cells_of(count: int) -> str:
    """Return the text "1 cell" or "`count` cells", for messages."""
    return "1 cell" if count == 1 else f"{count} cells"
