"""Delimited text and parquet: sheets of cells, read by Arrow, and written."""

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

_ARROW: Any = pyarrow.compute  # whose functions are made as it is imported
MARK = BYTE_ORDER_MARK.decode()
LEAST_OF_CELL = 64
"""Bytes of a cell of .parquet in memory, at least, as the text that it is read as."""
BATCH = 65_536
"""Rows of .parquet that are read together."""
LONGEST_ROW = 2**27
"""Bytes of a row, at most."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """The first row of a file, and the cells below it; blanks around cells are no part of them."""

    first_row: list[str]
    """Names of the columns, or cells like those below."""
    cells: pyarrow.Table
    """Texts, in as many columns as the first row has, which are called 0, 1, ...; without types as they were."""
    lines: np.ndarray
    """Line of each row in its file, [n]."""
    first_line: int = 1
    dialect: Dialect = Dialect()  # noqa: RUF009 - frozen
    dtypes: tuple[str, ...] = ()
    """Types of the columns of a data frame."""

    def head(self, count: int) -> list[list[str]]:
        """Return the first rows below the first."""
        return [list(row) for row in zip(*(c.to_pylist() for c in self.cells.slice(0, count).columns), strict=True)]


def read_sheet(path: pathlib.Path) -> Sheet | None:
    """Read .csv, .tsv or .txt, also packed as .gz; None where there is no row.

    InputError if the file is damaged, or rows differ in length; names the line.
    """
    raw = read_decompressed(path)
    try:
        return _parsed(raw.removeprefix(BYTE_ORDER_MARK), raw.startswith(BYTE_ORDER_MARK), path)
    except csv.Error as error:
        raise InputError(f"is no table of text ({error})", file=path) from error


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
    """Tell whether cells are quoted as a whole or not at all, so that all readers cut rows alike."""
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
    """Return the line and the cells of the first row, and where the next begins; None where that is hard to tell."""
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
    """Return the cells of rows; None where something is wrong, which is told by who reads row by row."""
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
    """Yield the line and the cells of each row; an empty line is none."""
    return ((line, row) for line, row in rows_of(text, blanks=False) if any(row) or len(row) > 1)


def _lines(raw: bytes, path: pathlib.Path) -> np.ndarray:
    rows = _rows(decode_unicode(raw, path))
    next(rows)
    return np.fromiter((line for line, _ in rows), dtype=np.int64)


def _row_by_row(raw: bytes, path: pathlib.Path, dialect: Dialect) -> Sheet | None:
    """Read by Python's own reader, which knows the line of what is wrong."""
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
    """Return how a readable .csv, .tsv or .txt is written, also packed as .gz."""
    head = head_of(path)
    return Dialect(separator_in(head.partition(b"\n")[0].decode(errors="replace")), head.startswith(BYTE_ORDER_MARK))


def text_of(names: Sequence[str], cells: pyarrow.Table, dialect: Dialect) -> str:
    """Return cells below their names as text that is read as the same; one row or more."""
    cut = "" if len(names) == 1 else dialect.separator  # an empty cell alone would be an empty line, which is no row
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
    """Quote a word that would otherwise be cut, or not be read as it is, with any separator or with one."""
    return '"' + word.replace('"', '""') + '"' if re.search(_cuts(separator), word) else word


def read_parquet(path: pathlib.Path) -> pd.DataFrame:
    """Return the data frame that a .parquet holds; InputError if it is damaged."""
    try:
        with parquet.ParquetFile(path) as file:
            about, parts, size = file.metadata, [], 0
            groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
            check_expanded_size(path, max(sum(groups), LEAST_OF_CELL * about.num_rows * about.num_columns))
            for part in file.iter_batches(BATCH):  # a file may hold more than it says
                size += part.nbytes + sum(map(decoded_dictionary_bytes, part.columns))
                check_expanded_size(path, size)
                parts.append(part)
            return pyarrow.Table.from_batches(parts, file.schema_arrow).to_pandas()
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many kinds on damaged files
        raise InputError(f"cannot be read as parquet ({' '.join(str(error).split())})", file=path) from error


def decoded_dictionary_bytes(column: Any) -> int:
    """Return the bytes that texts take when each stands in its row, where a column packs them; 0 of other columns."""
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
    """Write the data frame that `make` returns; InputError if a name or a word is none that such a file can hold."""
    packed = io.BytesIO()
    try:
        make().to_parquet(packed, index=False)
    except UnicodeEncodeError as error:
        raise InputError(
            f"{error.object!r} is no text that parquet can hold", remedy="Write .csv instead", file=path
        ) from error
    replace_file(path, packed.getvalue())


def check_header(first: Sequence[str], where: str) -> None:
    """Raise an InputError on names of columns of which one is empty, or two are the same."""
    if "" in first:
        column = list(first).index("") + 1
        raise InputError(
            f"column {column} has no name", remedy="Give it one, or write without row numbers", place=where
        )
    counts = Counter(first)
    twice = next((name for name in first if counts[name] > 1), None)
    if twice is not None:
        raise InputError(f"two columns are called {twice!r}", remedy="Rename one", place=where)


def check_width(cells: Sequence[str], width: int, line: int, where: str) -> None:
    """Raise an InputError on a row that is longer or shorter than the first."""
    if len(cells) != width:
        raise InputError(
            f"row {line} has {cells_of(len(cells))}",
            expected=f"{width} as in the first",
            remedy="Mend or drop it",
            place=where,
        )


def cells_of(count: int) -> str:
    """Say how many cells there are."""
    return "1 cell" if count == 1 else f"{count} cells"
