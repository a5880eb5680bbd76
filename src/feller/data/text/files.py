"""Files of text: .txt, .jsonl, and tables with a column of texts."""

import csv
import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from feller.data.found import FoundTexts, about
from feller.data.labels import LABEL_NAMES, classify
from feller.data.text.sniff import COLUMN, rows_of, text_column
from feller.data.text.vocabulary import check_whole
from feller.errors import InputError

LINES = "samples.txt"
"""In a folder of ours: a text a line."""
WHOLE = "samples.jsonl"
"""Beside the lines where they do not tell all: labels, or symbols that are not those that the text is read as."""


def read_text(path: pathlib.Path) -> str:
    """Read a file of text in UTF-8, packed or not.

    Raises:
        InputError: If it cannot be unpacked or is no UTF-8; says at which byte.
    """
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
        return content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        place = error.start + len(content) - len(error.object)
        raise InputError(
            f"{path}: expected text in UTF-8, got byte {content[place]:#04x} at position {place:,}; save it as UTF-8"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); it was damaged or cut off") from error


def find_text(path: pathlib.Path) -> FoundTexts:
    """Read a .txt as one text; whether it is a list of lines is decided later."""
    return FoundTexts(array([re.sub("\r\n?", "\n", read_text(path))]), documents=False)


def find_json_lines(path: pathlib.Path) -> FoundTexts:
    """Read objects, one a line, with `text` or one other string, and perhaps `label`; or strings.

    Raises:
        InputError: If a line is of another kind, or if some have a label and others none.
    """
    texts: list[str] = []
    labels: list[str | None] = []
    lines: list[int] = []
    tokens: list[Any] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            where = f"{path}: line {number}"
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: expected a JSON object with text, got {line[:40]!r}") from error
            entry = {COLUMN: entry} if isinstance(entry, str) else entry
            text, label = _fields(entry, where)
            texts.append(text)
            labels.append(label)
            lines.append(number)
            tokens.append(entry.get("tokens"))
    if not texts:
        raise InputError(f"{path}: the file holds no text")
    return _documents(texts, labels, lines, str(path), tokens=_equal_rows(tokens))


def _fields(entry: Any, where: str) -> tuple[str, str | None]:
    """Return the text of an object, and its label where it has one."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected a JSON object with text, got {str(entry)[:40]!r}")
    if not isinstance(entry.get(COLUMN, ""), str):
        raise InputError(f"{where}: expected a string in the field {COLUMN!r}, got {entry[COLUMN]!r:.40}")
    words = [key for key, value in entry.items() if isinstance(value, str) and key.lower() not in LABEL_NAMES]
    key = COLUMN if COLUMN in words else words[0] if len(words) == 1 else None
    if key is None:
        got = ", ".join(entry) or "none"
        raise InputError(f"{where}: expected the field {COLUMN!r}, or a single one that holds a string, got {got}")
    label = next((value for name, value in entry.items() if name.lower() in LABEL_NAMES), None)
    if not isinstance(label, str | int | None):
        raise InputError(f"{where}: expected a label that is a word or a whole number, got {str(label)[:40]!r}")
    with about(where):
        return check_whole(entry[key]), None if label is None else str(label)


def find_column(path: pathlib.Path) -> FoundTexts:
    """Read a table with a column called text, or one column beside the label.

    Raises:
        InputError: If a row has another number of cells, or if some have a label and others none.
    """
    text = read_text(path)
    try:
        rows = list(rows_of(text))
    except csv.Error as error:
        raise InputError(f"{path}: is no table of text ({error})") from error
    names = [name.strip() for name in rows[0][1]]
    label = next((i for i, name in enumerate(names) if name.lower() in LABEL_NAMES), None)
    column = text_column(names)
    for line, cells in rows:
        if len(cells) != len(names):
            raise InputError(
                f"{path}: row {line} has {len(cells)} cells, expected {len(names)} as in the first; put texts with"
                " commas in quotes"
            )
    body = rows[1:]
    if not body or column is None:
        raise InputError(f"{path}: expected rows of texts after the first, there are none")
    labels = [None if label is None else cells[label].strip() or None for _, cells in body]
    left = [name for i, name in enumerate(names) if i not in (column, label)]
    notes = [f"the texts are the column {names[column]!r}"]
    if left:
        notes.append(f"left out the columns {', '.join(left)}")
    return _documents([cells[column] for _, cells in body], labels, [line for line, _ in body], str(path), notes=notes)


def array(texts: Sequence[str]) -> np.ndarray:
    """Return texts as an array [n] of Python's strings, which keeps each as long as it is."""
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    return values


def _documents(
    texts: list[str],
    labels: list[str | None],
    lines: list[int],
    where: str,
    *,
    notes: Sequence[str] = (),
    tokens: np.ndarray | None = None,
) -> FoundTexts:
    """Put texts together with their labels, which all have or none."""
    missing = [line for line, label in zip(lines, labels, strict=True) if label is None]
    if missing and len(missing) < len(labels):
        raise InputError(
            f"{where}: line {missing[0]} has no label, and {len(labels) - len(missing)} others have one; add it, or"
            " drop all of them"
        )
    given = [label for label in labels if label is not None]
    positions, classes = classify(given, f"{where} (label)") if given else (None, ())
    return FoundTexts(
        array(texts),
        positions,
        classes,
        notes=tuple(notes),
        lines=np.array(lines),
        documents=True,
        tokens=tokens,
    )


def _equal_rows(rows: list[Any]) -> np.ndarray | None:
    """Return lists of whole numbers as an array, if each text has one and they are equally long."""
    try:
        values = np.array(rows)
    except ValueError:
        return None
    return values.astype(np.int64) if values.ndim == 2 and values.dtype.kind in "iu" else None
