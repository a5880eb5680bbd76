"""Reading of text files, compressed or not: decoding, table cells and numbers."""

import csv
import gzip
import io
import json
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from feller.core.errors import InputError
from feller.data.files.decompression import check_text_size, open_text_gzip


def parse_number(cell: str) -> float | None:
    """Return the number in a cell; NaN for an empty cell, None for other text."""
    try:
        return None if "_" in cell else float(cell or "nan")
    except ValueError:
        return None


def all_numbers(cells: Iterable[str]) -> bool:
    """Return True if every cell of a row is a number or empty, so that the row is not a header."""
    return all(parse_number(cell) is not None for cell in cells)


HEAD = 2**16
"""Number of bytes read to detect the file format."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""UTF-8 byte order mark, which some programs write at the start of a file."""


def files_in(folder: pathlib.Path, endings: tuple[str, ...]) -> list[pathlib.Path]:
    """Return the files of a folder whose suffix is in `endings`, sorted by name; InputError if there are none."""
    files = sorted(file for file in folder.iterdir() if file.name.lower().endswith(endings))
    if not files:
        raise InputError(f"files {', '.join(endings)}", "none", file=folder)
    return files


def read_unicode(path: pathlib.Path) -> str:
    """Read a UTF-8 text file; InputError if it cannot be decompressed or is not UTF-8."""
    return decode_unicode(read_decompressed(path), path)


def decode_unicode(content: bytes, path: pathlib.Path) -> str:
    """Decode UTF-8 text, and drop a byte order mark; InputError, with the position, for the first invalid byte."""
    try:
        return content.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        position = error.start + len(content) - len(error.object)
        raise InputError(
            "text in UTF-8",
            f"byte {content[position]:#04x} at position {position:,}",
            "Save the file as UTF-8",
            file=path,
            row=content.count(b"\n", 0, position) + 1,
        ) from error


def json_lines(path: pathlib.Path, expected: str) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of each non-empty line of a JSON Lines file.

    Raises:
        InputError: If a line is not JSON; the message states that `expected`, a noun phrase, was expected.
    """
    for line_number, line in enumerate(read_unicode(path).split("\n"), 1):
        if line.strip():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(expected, repr(line[:40]), file=path, place=f"line {line_number}") from error
            yield line_number, entry


def read_letters(path: pathlib.Path) -> str:
    """Read a text file as Latin-1, for formats with ASCII content; InputError if it cannot be decompressed."""
    return read_decompressed(path).removeprefix(BYTE_ORDER_MARK).decode("latin-1")


def read_decompressed(path: pathlib.Path) -> bytes:
    """Return the decompressed bytes of a text file; InputError if it is damaged or exceeds the size limits."""
    check_text_size(path)
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    try:
        with open_text_gzip(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"cannot be decompressed ({error}); the file is damaged or truncated", file=path) from error


def head_of(path: pathlib.Path) -> bytes:
    """Return the first `HEAD` decompressed bytes of a file; empty if it is damaged, which a later full read reports."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return file.read(HEAD)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return b""


def beginning_of(path: pathlib.Path) -> str:
    """Return the first `HEAD` decompressed bytes of a file as text; empty if the file is damaged."""
    return head_of(path).decode("utf-8-sig", errors="replace")


def rows_in(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """Return (line number, cells) of each row of a table file, as `rows_of` does; InputError if quoting is invalid."""
    try:
        return [*rows_of(read_unicode(path))]
    except csv.Error as error:
        raise InputError(f"is not a valid table of delimited text ({error})", file=path) from error


def separator_in(line: str) -> str:
    """Return the cell separator detected in `line`, the first line of a table: tab, semicolon or comma."""
    unquoted = re.sub(r'"[^"]*("|$)', "", line)  # ignore separators inside quotes
    return "\t" if "\t" in unquoted else ";" if ";" in unquoted else ","


def rows_of(text: str, *, blanks: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each row of a table; the separator is detected from the first line.

    If `blanks` is True, leading blanks are part of a cell. csv.Error if a quote is not closed or is misplaced.
    """
    delimiter = separator_in(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=not blanks, strict=True)
    row_start = 1
    try:
        for cells in reader:
            row_start = reader.line_num + 1
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        if "unexpected end" not in str(error):
            raise
        raise csv.Error(
            f"a quote in the row that starts in line {row_start} is not closed before the end of the file"
        ) from error
