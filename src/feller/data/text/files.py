"""Files of text: .txt, .jsonl, and tables with a column of texts."""

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from feller.core.errors import InputError
from feller.data.files.data_plain_text import read_unicode, rows_in
from feller.data.files.delimited import cells_of
from feller.data.labels import LABEL_NAMES, TEXT_NAME, classify
from feller.data.loading.raw import FoundTexts, about, as_objects
from feller.data.text.sniff import text_column
from feller.data.text.vocabulary import check_whole

LINES = "samples.txt"
"""In a folder of ours: a text a line."""
WHOLE = "samples.jsonl"
"""Beside the lines where they do not tell all: labels, or symbols that are not those that the text is read as."""


def find_text(path: pathlib.Path) -> FoundTexts:
    """Read a .txt as one text; whether it is a list of lines is decided later."""
    return FoundTexts(as_objects([re.sub("\r\n?", "\n", read_unicode(path))]), documents=False)


def find_json_lines(path: pathlib.Path) -> FoundTexts:
    """Read objects, one a line, with `text` or one other string, and perhaps `label`; or strings.

    Raises:
        InputError: If a line is of another kind, or if some have a label and others none.
    """
    texts: list[str] = []
    labels: list[str | None] = []
    lines: list[int] = []
    tokens: list[Any] = []
    for number, line in enumerate(read_unicode(path).split("\n"), 1):
        if line.strip():
            where = f"{path}: line {number}"
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: expected a JSON object with text, got {line[:40]!r}") from error
            entry = {TEXT_NAME: entry} if isinstance(entry, str) else entry
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
    if not isinstance(entry.get(TEXT_NAME, ""), str):
        raise InputError(f"{where}: expected a string in the field {TEXT_NAME!r}, got {entry[TEXT_NAME]!r:.40}")
    words = [key for key, value in entry.items() if isinstance(value, str) and key.lower() not in LABEL_NAMES]
    key = TEXT_NAME if TEXT_NAME in words else words[0] if len(words) == 1 else None
    if key is None:
        got = ", ".join(entry) or "none"
        raise InputError(f"{where}: expected the field {TEXT_NAME!r}, or a single one that holds a string, got {got}")
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
    rows = rows_in(path)
    names = [name.strip() for name in rows[0][1]]
    label = next((i for i, name in enumerate(names) if name.lower() in LABEL_NAMES), None)
    column = text_column(names)
    for line, cells in rows:
        if len(cells) != len(names):
            raise InputError(
                f"{path}: row {line} has {cells_of(len(cells))}, expected {len(names)} as in the first; put texts with"
                " commas in quotes"
            )
    body = rows[1:]
    if column is None:
        held = ", ".join(names)
        raise InputError(f"{path}: expected a column called {TEXT_NAME}, or one beside the label, got {held}")
    if not body:
        raise InputError(f"{path}: expected rows of texts after the first, there are none")
    labels = [None if label is None else cells[label].strip() or None for _, cells in body]
    left = [name for i, name in enumerate(names) if i not in (column, label)]
    notes = [f"the texts are the column {names[column]!r}"]
    if left:
        notes.append(f"left out the columns {', '.join(left)}")
    return _documents([cells[column] for _, cells in body], labels, [line for line, _ in body], str(path), notes=notes)


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
        as_objects(texts),
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
