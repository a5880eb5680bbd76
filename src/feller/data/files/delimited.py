"""Delimited text and parquet: separators, encodings, and cells."""

import contextlib
import csv
import gzip
import importlib.util
import io
import pathlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from feller.core.errors import InputError, UsageError
from feller.core.serialization import replace_file
from feller.data.files.decompression import check_letters, check_packed_letters, check_unpacked, open_letters

SEPARATORS = ",;\t"
"""What may stand between cells."""
MARK = "\ufeff"
"""What programs for tables write before UTF-8, and look for."""


@dataclass(frozen=True)
class Dialect:
    """Of a file; nothing of its rows."""

    separator: str = ","
    marked: bool = False
    """Whether it begins with the mark of UTF-8."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1 or self.separator not in SEPARATORS:
            raise InputError(f"expected a comma, a semicolon or a tab between cells, got {self.separator!r}")

    def text(self, rows: list[list[str]]) -> str:
        """Return rows of cells, the names first, as text that is read as the same; one row or more."""
        alone = len(rows[0]) == 1  # an empty cell alone would be an empty line, which is no row
        cut = "" if alone else self.separator
        lines = (self.separator.join(quoted(cell, cut) for cell in row) or '""' * alone for row in rows)
        return MARK * self.marked + "".join(f"{line}\n" for line in lines)


def quoted(word: str, separator: str = "") -> str:
    """Quote a word that would otherwise be cut, or not be read as it is, with any separator or with one."""
    cuts = ";\t" if separator == ";" else ",;\t"
    return '"' + word.replace('"', '""') + '"' if re.search(rf'[{cuts}"\r\n]', word) else word


def separator_in(line: str) -> str:
    """Return what separates the cells of a first line."""
    first = re.sub(r'"[^"]*("|$)', "", line)  # what is quoted separates nothing
    return "\t" if "\t" in first else ";" if ";" in first else ","


Row = tuple[int, list[str]]
"""Number of a line in the file, and its cells."""
LEAST_OF_CELL = 64
"""Bytes of a cell of .parquet in memory, at least, as the text that it is read as."""
BATCH = 4_096
"""Rows of .parquet that are read together."""


@contextlib.contextmanager
def open_rows(path: pathlib.Path) -> Generator[Iterator[Row], None, None]:
    """Yield the rows of .csv, .tsv, .txt, also packed as .gz, or of .parquet; blanks around cells are no part of them.

    Raises:
        InputError: If the file is damaged; also while rows are read.
    """
    if path.suffix.lower() == ".parquet":
        yield _rows_of_frame(path)
        return
    try:
        with _open(path) as file:
            yield _rows(file)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8, got byte {error.object[error.start]:#04x}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); it was damaged or cut off") from error
    except csv.Error as error:
        raise InputError(f"{path}: is no table of text ({error})") from error


def _open(path: pathlib.Path) -> io.TextIOWrapper:
    check_letters(path)
    packed = path.suffix.lower() == ".gz"
    if packed:
        check_packed_letters(path)
    raw = open_letters(path) if packed else path.open("rb")  # closed with its wrapper
    return io.TextIOWrapper(raw, newline="", encoding="utf-8-sig")


def dialect_of(path: pathlib.Path) -> Dialect:
    """Return how a readable .csv, .tsv or .txt is written, also packed as .gz."""
    raw = open_letters(path) if path.suffix.lower() == ".gz" else path.open("rb")
    with io.TextIOWrapper(raw, newline="", encoding="utf-8") as file:
        first = file.readline()
    return Dialect(separator_in(first), first.startswith(MARK))


def _rows(file: io.TextIOWrapper) -> Iterator[Row]:
    delimiter = separator_in(file.readline())
    file.seek(0)
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
    begun = 1
    try:
        for cells in reader:
            begun = reader.line_num + 1
            if any(cells) or len(cells) > 1:  # an empty line is no row
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        if "unexpected end" not in str(error):
            raise
        raise csv.Error(f"a quote in the row that begins in line {begun} is never closed, up to the end") from error


def _rows_of_frame(path: pathlib.Path) -> Iterator[Row]:
    frame = read_parquet(path)
    yield 1, list(map(str, frame.columns))
    filled = frame.astype(object).where(frame.notna(), "")
    for i, row in enumerate(filled.itertuples(index=False), start=2):
        yield i, list(map(str, row))


def read_parquet(path: pathlib.Path) -> Any:
    """Return the data frame that a .parquet holds.

    Raises:
        InputError: If it is damaged.
        UsageError: If what reads it is not installed.
    """
    need_pyarrow("reading")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            about, parts, size = file.metadata, [], 0
            groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
            check_unpacked(path, max(sum(groups), LEAST_OF_CELL * about.num_rows * about.num_columns))
            for part in file.iter_batches(BATCH):  # a file may hold more than it says
                size += part.nbytes + sum(map(spread, part.columns))
                check_unpacked(path, size)
                parts.append(part)
            return pyarrow.Table.from_batches(parts, file.schema_arrow).to_pandas()
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many kinds on damaged files
        raise InputError(f"{path}: cannot be read as parquet ({' '.join(str(error).split())})") from error


def spread(column: Any) -> int:
    """Return the bytes that texts take when each stands in its row, where a column packs them; 0 of other columns."""
    import pyarrow
    import pyarrow.compute as compute
    from pyarrow import types

    kind = column.type
    if not types.is_dictionary(kind) or not (
        types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
    ):
        return 0
    sizes = (
        compute.call_function("binary_length", [chunk.dictionary]).take(chunk.indices)
        for chunk in (column.chunks if isinstance(column, pyarrow.ChunkedArray) else [column])
        if len(chunk.dictionary)
    )
    return sum(compute.call_function("sum", [some]).as_py() or 0 for some in sizes)


def write_parquet(make: Callable[[], Any], path: pathlib.Path) -> None:
    """Write a data frame as parquet.

    Args:
        make: Returns the frame; names that it cannot hold are found out as it is made.
        path: Where it goes.

    Raises:
        UsageError: If pyarrow is not installed.
        InputError: If a name or a word is none that such a file can hold.
    """
    need_pyarrow("writing")
    packed = io.BytesIO()
    try:
        make().to_parquet(packed, index=False)
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: {error.object!r} is no text that parquet can hold; write .csv instead") from error
    replace_file(path, packed.getvalue())


def need_pyarrow(purpose: str) -> None:
    """Refuse .parquet where nothing can read or write it.

    Raises:
        UsageError: Then.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError(f"{purpose} .parquet needs pyarrow: pip install pyarrow, or use .csv")


def check_header(first: list[str], where: str) -> None:
    """Refuse names of columns of which one is empty, or two are the same.

    Raises:
        InputError: Then.
    """
    if "" in first:
        column = first.index("") + 1
        raise InputError(f"{where}: column {column} has no name; give it one, or write without row numbers")
    counts = Counter(first)
    twice = next((name for name in first if counts[name] > 1), None)
    if twice is not None:
        raise InputError(f"{where}: two columns are called {twice!r}; rename one")


def check_width(cells: list[str], width: int, line: int, where: str) -> None:
    """Refuse a row that is longer or shorter than the first.

    Raises:
        InputError: Then.
    """
    if len(cells) != width:
        raise InputError(
            f"{where}: row {line} has {cells_of(len(cells))}, expected {width} as in the first; mend or drop it"
        )


def cells_of(count: int) -> str:
    """Say how many cells there are."""
    return "1 cell" if count == 1 else f"{count} cells"
