"""Text files, compressed or not, their cells, and numbers in text."""

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
    """Return a number, not-a-number for an empty cell, or None for a word."""
    try:
        return None if "_" in cell else float(cell or "nan")
    except ValueError:
        return None


def all_numbers(cells: Iterable[str]) -> bool:
    """Tell whether no cell is a word; such a row is not one of names."""
    return all(parse_number(cell) is not None for cell in cells)


HEAD = 2**16
"""Bytes that are looked at, to tell what a file is."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Of UTF-8, which some programs write first."""


def files_in(folder: pathlib.Path, endings: tuple[str, ...]) -> list[pathlib.Path]:
    """Return the files of a folder with one of the endings, by their names; InputError if there is none."""
    files = sorted(file for file in folder.iterdir() if file.name.lower().endswith(endings))
    if not files:
        raise InputError(f"files {', '.join(endings)}", "none", file=folder)
    return files


def read_unicode(path: pathlib.Path) -> str:
    """Read a file of text in UTF-8; InputError if it cannot be unpacked or is no UTF-8; says at which byte."""
    return decode_unicode(read_decompressed(path), path)


def decode_unicode(content: bytes, path: pathlib.Path) -> str:
    """Decode the content of a file of text in UTF-8; InputError if it is no UTF-8; says at which byte."""
    try:
        return content.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        place = error.start + len(content) - len(error.object)
        raise InputError(
            "text in UTF-8", f"byte {content[place]:#04x} at position {place:,}", "Save it as UTF-8", file=path
        ) from error


def json_lines(path: pathlib.Path, expected: str) -> Iterator[tuple[int, Any]]:
    """Yield the number and the content of each line that is not empty; InputError names one that is no JSON."""
    for number, line in enumerate(read_unicode(path).split("\n"), 1):
        if line.strip():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(expected, repr(line[:40]), file=path, place=f"line {number}") from error
            yield number, entry


def read_letters(path: pathlib.Path) -> str:
    """Read a file in which letters beyond ASCII do not matter; InputError if it cannot be unpacked."""
    return read_decompressed(path).removeprefix(BYTE_ORDER_MARK).decode("latin-1")


def read_decompressed(path: pathlib.Path) -> bytes:
    """Return the bytes of a file of letters; InputError if it cannot be unpacked, or is larger than an honest one."""
    check_text_size(path)
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    try:
        with open_text_gzip(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"cannot be unpacked ({error}); it was damaged or cut off", file=path) from error


def head_of(path: pathlib.Path) -> bytes:
    """Return the first bytes of a file; none where it cannot be read, which is told by who reads the whole."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return file.read(HEAD)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return b""


def beginning_of(path: pathlib.Path) -> str:
    """Return the beginning of a file, as `head_of`."""
    return head_of(path).decode("utf-8-sig", errors="replace")


def rows_in(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """Return the line and the cells of each row of a file, as `rows_of`; InputError if it is no such table."""
    try:
        return [*rows_of(read_unicode(path))]
    except csv.Error as error:
        raise InputError(f"is no table of text ({error})", file=path) from error


def separator_in(line: str) -> str:
    """Return what separates the cells of a first line."""
    first = re.sub(r'"[^"]*("|$)', "", line)  # what is quoted separates nothing
    return "\t" if "\t" in first else ";" if ";" in first else ","


def rows_of(text: str, *, blanks: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row of a table, tabs, semicolons or commas between them.

    Blanks before a cell are part of it, if you say so. csv.Error if a quote is not closed, or stands where none may.
    """
    delimiter = separator_in(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=not blanks, strict=True)
    begin = 1
    try:
        for cells in reader:
            begin = reader.line_num + 1
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        if "unexpected end" not in str(error):
            raise
        raise csv.Error(f"a quote in the row that begins in line {begin} is never closed, up to the end") from error
