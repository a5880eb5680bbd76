"""Reading (with Arrow) and writing of delimited text files and Parquet files as tables of text cells."""

import csv
import io
import itertools
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
    start = raw.find(b"\n")
    separator = separator_in(raw[: len(raw) if start < 0 else start].decode(errors="replace"))
    dialect = Dialect(separator, has_bom)
    head = _head(raw, separator) if _is_regular(raw, separator.encode()) else None
    if head is not None:
        line, first, begin = head
        cells = _by_arrow(raw[begin:], separator, len(first))
        if cells is not None:
            rows = len(cells)
            newlines = raw.count(b"\n") + (not raw.endswith(b"\n"))
            plain = newlines == rows + 1 == line + rows
            lines = np.arange(2, rows + 2) if plain else _lines(raw, path)
            return Sheet(first, cells, lines, line, dialect)
    return _row_by_row(raw, path, dialect)


def _is_regular(raw: bytes, separator: bytes) -> bool:
    """Return True if each cell is quoted entirely or not at all, so that all parsers agree."""
    if b"\r" in raw and raw.count(b"\r") != raw.count(b"\r\n"):
        return False
    if b'"' not in raw:
        return True
    parts = raw.replace(b'""', b"").split(b'"')
    ends = (separator, b"\n", b"\r")
    between = parts[2:-1:2]
    outside = all(part.startswith(ends) and part.endswith(ends) for part in between)
    ends_well = not parts[-1] or len(parts) == 1 or parts[-1].startswith(ends)
    return len(parts) % 2 == 1 and outside and ends_well and (not parts[0] or parts[0].endswith(ends[:2]))


def _head(raw: bytes, separator: str) -> tuple[int, list[str], int] | None:
    """Return the first row's line number, its cells, and the offset of the next row; None if ambiguous."""
    begin = 0
    for line in itertools.count(1):
        end = raw.find(b"\n", begin)
        end = len(raw) if end < 0 else end
        text = raw[begin:end].rstrip(b"\r")
        if text.strip():
            if text.count(b'"') % 2:
                return None
            try:
                (cells,) = csv.reader([text.decode()], delimiter=separator, skipinitialspace=True, strict=True)
            except (UnicodeDecodeError, ValueError, csv.Error):
                return None
            return line, [cell.strip() for cell in cells], end + 1
        begin = end + 1
        if begin >= len(raw):
            return None
    return None


def _by_arrow(body: bytes, separator: str, width: int) -> pyarrow.Table | None:
    """Parse the cells of all rows with Arrow; None on any error, which `_row_by_row` then reports."""
    names = [str(i) for i in range(width)]
    if not body.strip():
        return pyarrow.Table.from_arrays([text_array([])] * width, names=names)
    try:
        read = pyarrow.csv.read_csv(
            pyarrow.py_buffer(body),
            pyarrow.csv.ReadOptions(column_names=names, block_size=min(max(len(body), 2**20), LONGEST_ROW)),
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in body),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, TEXT)),
        )
    except (pyarrow.ArrowException, ValueError):
        return None
    return _stripped(read.filter(_ARROW.not_equal(read.column(0), "")) if width == 1 else read)


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
    line, first = next(rows, (0, []))
    if not line:
        return None
    lines: list[int] = []
    columns: list[list[str]] = [[] for _ in first]
    for at, cells in rows:
        check_width(cells, len(first), at, str(path))
        lines.append(at)
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell.strip())
    table = pyarrow.Table.from_arrays(list(map(text_array, columns)), names=[str(i) for i in range(len(first))])
    return Sheet([cell.strip() for cell in first], table, np.array(lines, dtype=np.int64), line, dialect)


def dialect_of(path: pathlib.Path) -> Dialect:
    """Return the dialect (separator and byte order mark) of a readable .csv, .tsv or .txt file, optionally .gz."""
    head = head_of(path)
    return Dialect(separator_in(head.partition(b"\n")[0].decode(errors="replace")), head.startswith(BYTE_ORDER_MARK))


def text_of(names: Sequence[str], cells: pyarrow.Table, dialect: Dialect) -> str:
    """Format column names and cells as delimited text, which is read back unchanged; at least one row is required."""
    # A lone empty cell would be an empty line, which is skipped on reading.
    cut = "" if len(names) == 1 else dialect.separator
    columns = [_quoted(column, cut) for column in cells.columns]
    if len(names) == 1:
        columns = [_ARROW.if_else(_ARROW.equal(columns[0], ""), '""', columns[0])]
    lines = _ARROW.binary_join_element_wise(*columns, pyarrow.scalar(dialect.separator, TEXT)).to_pylist()
    head = dialect.separator.join(quote(name, cut) for name in names)
    return MARK * dialect.has_bom + "\n".join([head, *lines, ""])


def _cuts(separator: str) -> str:
    return rf'[{";" if separator == ";" else ",;"}\t"\r\n]'


def _quoted(column: pyarrow.ChunkedArray, separator: str) -> pyarrow.ChunkedArray:
    odd = _ARROW.match_substring_regex(column, _cuts(separator))
    if not _ARROW.any(odd).as_py():
        return column
    doubled = _ARROW.replace_substring(column, '"', '""')
    mark, none = (pyarrow.scalar(text, TEXT) for text in ('"', ""))
    return _ARROW.if_else(odd, _ARROW.binary_join_element_wise(mark, doubled, mark, none), column)


def quote(word: str, separator: str = "") -> str:
    """Quote a cell if a reader would otherwise split or change it; an empty `separator` stands for any separator."""
    return '"' + word.replace('"', '""') + '"' if re.search(_cuts(separator), word) else word


def read_parquet(path: pathlib.Path) -> pd.DataFrame:
    """Read a .parquet file as a data frame; InputError if the file is damaged."""
    try:
        with parquet.ParquetFile(path) as file:
            about, parts, size = file.metadata, [], 0
            groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
            check_expanded_size(path, max(sum(groups), LEAST_OF_CELL * about.num_rows * about.num_columns))
            for part in file.iter_batches(BATCH):  # the metadata may understate the size
                size += part.nbytes + sum(map(decoded_dictionary_bytes, part.columns))
                check_expanded_size(path, size)
                parts.append(part)
            return pyarrow.Table.from_batches(parts, file.schema_arrow).to_pandas()
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many types on damaged files
        raise InputError(f"cannot be read as parquet ({' '.join(str(error).split())})", file=path) from error


def decoded_dictionary_bytes(column: Any) -> int:
    """Return the decoded size in bytes of a column of dictionary-encoded texts; 0 for other columns."""
    kind = column.type
    if not types.is_dictionary(kind) or not (
        types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
    ):
        return 0
    sizes = (
        _ARROW.binary_length(chunk.dictionary).take(chunk.indices)
        for chunk in (column.chunks if isinstance(column, pyarrow.ChunkedArray) else [column])
        if len(chunk.dictionary)
    )
    return sum(_ARROW.sum(some).as_py() or 0 for some in sizes)


def write_parquet(make: Callable[[], Any], path: pathlib.Path) -> None:
    """Write the data frame returned by `make` to a .parquet file; InputError if UTF-8 cannot encode a text."""
    packed = io.BytesIO()
    try:
        make().to_parquet(packed, index=False)
    except UnicodeEncodeError as error:
        raise InputError(
            f"parquet cannot store the text {error.object!r}", remedy="Write .csv instead", file=path
        ) from error
    replace_file(path, packed.getvalue())


def check_header(first: Sequence[str], where: str) -> None:
    """Raise an InputError if a column name in the first row is empty or repeated."""
    if "" in first:
        column = list(first).index("") + 1
        raise InputError(
            f"column {column} has no name", remedy="Name the column, or export without row numbers", place=where
        )
    counts = Counter(first)
    twice = next((name for name in first if counts[name] > 1), None)
    if twice is not None:
        raise InputError(f"two columns are named {twice!r}", remedy="Rename one", place=where)


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
