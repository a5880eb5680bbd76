"""Text files: .txt, .jsonl, table columns and folders; format detection, reading and writing."""

import csv
import io
import itertools
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from feller.core.errors import InputError, error_context
from feller.data.files.delimited import cells_of
from feller.data.files.plain_text import HEAD, beginning_of, json_lines, parse_number, read_unicode, rows_in, rows_of
from feller.data.labels import LABEL_NAMES, TEXT_NAME, abbreviated, encode_labels
from feller.data.loading.class_folders import DEFAULT_FOLDERS, FolderOptions, list_class_folders
from feller.data.loading.raw import RawTexts, object_array
from feller.data.text.vocabulary import check_encodable

SNIFF_ROWS = 20
"""Number of table rows read to detect whether a file holds texts."""
MIN_LIST_LINES = 20
"""Number of non-empty lines that a file must exceed to count as a list of texts, one per line."""
SHORT = 64
"""Maximum median line length of a list of texts, in characters."""
ALIKE = 8
"""Maximum ratio of the longest line length to the median line length in a list of texts."""
BLANK = 0.02
"""Maximum fraction of empty lines in a list of texts."""


def holds_texts(path: pathlib.Path) -> bool:
    """Return True if a file contains texts rather than numbers.

    A .txt file holds texts unless more than half of its cells, without header and labels, are numbers. A table holds
    texts if it has a column `text`, or only one column of words besides the label. JSON Lines hold texts unless they
    have coordinates.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        return '"coords"' not in next((line for line in beginning_of(path).split("\n") if line.strip()), "")
    rows = _head_rows(path)
    if name.endswith(".txt"):
        return not _numbers(rows)
    names = [name.strip() for name in rows[0]] if rows else []
    if TEXT_NAME in map(str.lower, names):
        return True
    return len(rows) > 1 and text_column(names) is not None and not _numbers(rows)


def text_column(names: Sequence[str]) -> int | None:
    """Return the index of the column `text`, or else of the only column besides the label; None if there is neither."""
    candidates = [i for i, name in enumerate(names) if name.lower() not in LABEL_NAMES]
    named_text = [i for i in candidates if names[i].lower() == TEXT_NAME]
    return named_text[0] if named_text else candidates[0] if len(candidates) == 1 else None


def is_list(text: str) -> bool:
    """Return True if each line looks like a separate text: many short lines of similar length, few of them empty."""
    lines = text.removesuffix("\n").split("\n")
    lengths = sorted(len(line) for line in lines if line.strip())
    median = lengths[len(lengths) // 2] if lengths else 0
    has_few_blank = len(lines) - len(lengths) <= BLANK * len(lines)
    return len(lengths) > MIN_LIST_LINES and median <= SHORT and lengths[-1] <= ALIKE * median and has_few_blank


def _head_rows(path: pathlib.Path) -> list[list[str]]:
    """Return the first rows of a table; empty if the quoting is invalid."""
    text = beginning_of(path)
    text = text.rpartition("\n")[0] if len(text) > HEAD // 4 and "\n" in text else text
    try:
        rows = (cells for _, cells in rows_of(text) if any(map(str.strip, cells)))
        return list(itertools.islice(rows, SNIFF_ROWS))
    except csv.Error:
        return []


def _numbers(rows: list[list[str]]) -> bool:
    names = [name.strip().lower() for name in rows[0]] if rows else []
    labels = {i for i, name in enumerate(names) if name in LABEL_NAMES}
    cells = [cell.strip() for row in rows[1:] or rows for i, cell in enumerate(row) if i not in labels]
    return 2 * sum(parse_number(cell) is not None for cell in cells) > len(cells)


LINES_FILE = "samples.txt"
"""Name of the file with one text per line in a sample folder."""
JSON_LINES_FILE = "samples.jsonl"
"""Name of the additional file for information that plain lines lose: labels, or tokens that do not round-trip."""


def load_text(path: pathlib.Path) -> RawTexts:
    """Read a .txt file as one text; `text_dataset` decides whether its lines are separate examples."""
    return RawTexts(object_array([re.sub("\r\n?", "\n", read_unicode(path))]), documents=False)


def load_json_lines(path: pathlib.Path) -> RawTexts:
    """Read JSON Lines, each a string, or an object with `text` or one other string and an optional `label`.

    Raises:
        InputError: If a line has a different structure, or only some lines have a label.
    """
    texts: list[str] = []
    labels: list[str | None] = []
    lines: list[int] = []
    tokens: list[Any] = []
    for line_number, entry in json_lines(path, "a JSON object with text"):
        entry = {TEXT_NAME: entry} if isinstance(entry, str) else entry
        text, label = _fields(entry, f"{path}: line {line_number}")
        texts.append(text)
        labels.append(label)
        lines.append(line_number)
        tokens.append(entry.get("tokens"))
    if not texts:
        raise InputError("the file contains no text", file=path)
    return _documents(texts, labels, lines, str(path), tokens=_equal_rows(tokens))


def _fields(entry: Any, where: str) -> tuple[str, str | None]:
    """Return the text and the optional label in a JSON object; InputError for other values."""
    if not isinstance(entry, dict):
        raise InputError("a JSON object with text", repr(str(entry)[:40]), place=where)
    if not isinstance(entry.get(TEXT_NAME, ""), str):
        raise InputError(f"a string in the field {TEXT_NAME!r}", f"{entry[TEXT_NAME]!r:.40}", place=where)
    string_keys = [key for key, value in entry.items() if isinstance(value, str) and key.lower() not in LABEL_NAMES]
    key = TEXT_NAME if TEXT_NAME in string_keys else string_keys[0] if len(string_keys) == 1 else None
    if key is None:
        found = ", ".join(entry) or "none"
        raise InputError(f"the field {TEXT_NAME!r}, or exactly one string field", found, place=where)
    label = next((value for name, value in entry.items() if name.lower() in LABEL_NAMES), None)
    if not isinstance(label, str | int | None):
        raise InputError("a label that is a string or an integer", repr(str(label)[:40]), place=where)
    with error_context(where):
        return check_encodable(entry[key]), None if label is None else str(label)


def load_text_column(path: pathlib.Path) -> RawTexts:
    """Read the texts of a table from the column `text`, or else from the only column besides the label.

    Raises:
        InputError: If rows differ in length, or only some rows have a label.
    """
    rows = rows_in(path)
    names = [name.strip() for name in rows[0][1]]
    label = next((i for i, name in enumerate(names) if name.lower() in LABEL_NAMES), None)
    column = text_column(names)
    for line, cells in rows:
        if len(cells) != len(names):
            raise InputError(
                f"row {line} has {cells_of(len(cells))}",
                expected=f"{len(names)} as in the first row",
                remedy="Quote texts that contain commas",
                file=path,
            )
    body = rows[1:]
    if column is None:
        found = ", ".join(names)
        raise InputError(f"a column named {TEXT_NAME}, or a single column besides the label", found, file=path)
    if not body:
        raise InputError(expected="at least one row below the header", file=path)
    labels = [None if label is None else cells[label].strip() or None for _, cells in body]
    ignored = [name for i, name in enumerate(names) if i not in (column, label)]
    notes = [f"the texts are the column {names[column]!r}"]
    if ignored:
        notes.append(f"ignored the columns {', '.join(ignored)}")
    return _documents([cells[column] for _, cells in body], labels, [line for line, _ in body], str(path), notes=notes)


def _documents(
    texts: list[str],
    labels: list[str | None],
    lines: list[int],
    where: str,
    *,
    notes: Sequence[str] = (),
    tokens: np.ndarray | None = None,
) -> RawTexts:
    """Combine texts with labels, which all or none must have."""
    missing = [line for line, label in zip(lines, labels, strict=True) if label is None]
    if missing and len(missing) < len(labels):
        raise InputError(
            f"line {missing[0]} has no label, but {len(labels) - len(missing)} other lines do",
            remedy="Add the label, or remove all labels",
            place=where,
        )
    given = [label for label in labels if label is not None]
    class_indices, classes = encode_labels(given, f"{where} (label)") if given else (None, ())
    return RawTexts(
        object_array(texts),
        class_indices,
        classes,
        notes=tuple(notes),
        lines=np.array(lines),
        documents=True,
        tokens=tokens,
    )


def _equal_rows(rows: list[Any]) -> np.ndarray | None:
    """Return equally long lists of integers as an array, else None."""
    try:
        values = np.array(rows)
    except ValueError:
        return None
    return values.astype(np.int64) if values.ndim == 2 and values.dtype.kind in "iu" else None


ENDINGS = (".txt", ".txt.gz")
FILES_LOOKED = 100
"""Number of files in a folder that are read to distinguish texts from numeric tables."""


def are_texts(files: list[pathlib.Path]) -> bool:
    """Return True if all files have the suffix of a text file and most of them contain texts."""
    if not files or not all(path.name.lower().endswith(ENDINGS) for path in files):
        return False
    sampled = [path for path in files if path.stat().st_size][:FILES_LOOKED]
    return 2 * sum(map(holds_texts, sampled)) > len(sampled)


def load_text_folder(folder: pathlib.Path, folders: FolderOptions = DEFAULT_FOLDERS) -> RawTexts:
    """Read each file in a folder as one text; subfolder names are the classes. A single file is read as one long text.

    Raises:
        InputError: If there are no texts, if some texts lie outside the class subfolders, or if a file is not UTF-8.
    """
    listing = list_class_folders(folder, ENDINGS, "texts", folders)
    texts = [re.sub("\r\n?", "\n", read_unicode(path)) for path in listing.files]
    names = [path.relative_to(folder).as_posix() for path in listing.files]
    kept_files = [i for i, text in enumerate(texts) if text.strip()]
    empty = [name for name, text in zip(names, texts, strict=True) if not text.strip()]
    if not kept_files:
        raise InputError("the files contain no text", file=folder)
    is_single = len(kept_files) == 1
    notes = [*listing.notes, *([] if is_single else [f"each of the {len(kept_files):,} files is an example"])]
    if empty:
        notes.append(f"skipped {len(empty):,} of {len(texts):,} files without text: {abbreviated(empty)}")
    labels = None if listing.labels is None else listing.labels[kept_files]
    classes = tuple(listing.classes) if labels is not None else ()
    if labels is not None:  # a class may have lost all its files
        present = np.unique(labels)
        labels, classes = np.searchsorted(present, labels), tuple(classes[i] for i in present)
    return RawTexts(
        object_array([texts[i] for i in kept_files]),
        labels,
        classes,
        notes=tuple(notes),
        names=() if is_single else tuple(names[i] for i in kept_files),
        documents=not is_single,
    )


ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\ufeff": "\\ufeff"}
"""Escape of each character that ends a line or that file readers drop."""
_PLAIN = {escape: sign for sign, escape in ESCAPES.items()}


def to_lines(texts: Sequence[str]) -> str:
    r"""Return texts as lines, one per text; a newline inside a text becomes \n, a backslash \\."""
    return "".join(re.sub("[\\\\\n\r\ufeff]", lambda sign: ESCAPES[sign[0]], text) + "\n" for text in texts)


def lines_of(content: str) -> list[str]:
    r"""Return the text of each line, including empty lines; \n in a line is a newline, \\ a backslash."""
    lines = content.removesuffix("\n").split("\n")
    return [re.sub(r"\\(\\|n|r|ufeff)", lambda escape: _PLAIN[escape[0]], line) for line in lines]


def to_json_lines(texts: Sequence[str], labels: Sequence[str] | None, tokens: Sequence[list[int]] | None) -> str:
    """Return JSON Lines with one object per text: `text`, and `label` and `tokens` if given."""
    lines = []
    for i, text in enumerate(texts):
        entry: dict[str, str | list[int]] = {TEXT_NAME: text}
        if labels is not None:
            entry[LABEL_NAMES[0]] = labels[i]
        if tokens is not None:
            entry["tokens"] = tokens[i]
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    return "".join(lines)


def to_table(texts: Sequence[str], labels: Sequence[str] | None) -> str:
    """Return a comma-separated table with the column `text`, and the column `label` if labels are given."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    names, columns = ([TEXT_NAME], [texts]) if labels is None else ([TEXT_NAME, LABEL_NAMES[0]], [texts, labels])
    writer.writerows([names, *zip(*columns, strict=True)])
    return file.getvalue()
