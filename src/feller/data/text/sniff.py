"""What a file of letters is: a table of numbers, a list of texts, or one long text."""

import csv
import itertools
import pathlib
from collections.abc import Sequence

from feller.data.files.data_plain_text import HEAD, beginning_of, rows_of
from feller.data.files.plain_text import number
from feller.data.labels import LABEL_NAMES, TEXT_NAME

LOOKED = 20
"""Rows that are looked at."""
FEWEST = 20
"""Lines of a list, at least."""
SHORT = 64
"""Characters of the middle line of a list, at most."""
ALIKE = 8
"""How much longer the longest line of a list is than the middle one, at most."""
BLANK = 0.02
"""Share of empty lines in a list, at most."""


def holds_texts(path: pathlib.Path) -> bool:
    """Tell whether a file holds texts rather than numbers.

    A .txt does unless it is a table: more than half of the cells below its first row, but for labels, are numbers. A
    table does if a column is called text, or if the only one beside the label holds words. JSON lines do unless they
    hold the places of atoms.
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
    """Return which column holds the texts: the one called text, or else the only one beside the label."""
    others = [i for i, name in enumerate(names) if name.lower() not in LABEL_NAMES]
    called = [i for i in others if names[i].lower() == TEXT_NAME]
    return called[0] if called else others[0] if len(others) == 1 else None


def is_list(text: str) -> bool:
    """Tell whether each line is a text of its own: many lines, short, alike in length, hardly any empty."""
    lines = text.removesuffix("\n").split("\n")
    lengths = sorted(len(line) for line in lines if line.strip())
    middle = lengths[len(lengths) // 2] if lengths else 0
    few_blank = len(lines) - len(lengths) <= BLANK * len(lines)
    return len(lengths) > FEWEST and middle <= SHORT and lengths[-1] <= ALIKE * middle and few_blank


def _head_rows(path: pathlib.Path) -> list[list[str]]:
    """Return the first rows of a table; none where there are quotes that no table has."""
    text = beginning_of(path)
    text = text.rpartition("\n")[0] if len(text) > HEAD // 4 and "\n" in text else text
    try:
        rows = (cells for _, cells in rows_of(text) if any(map(str.strip, cells)))
        return list(itertools.islice(rows, LOOKED))
    except csv.Error:
        return []


def _numbers(rows: list[list[str]]) -> bool:
    names = [name.strip().lower() for name in rows[0]] if rows else []
    labels = {i for i, name in enumerate(names) if name in LABEL_NAMES}
    cells = [cell.strip() for row in rows[1:] or rows for i, cell in enumerate(row) if i not in labels]
    return 2 * sum(number(cell) is not None for cell in cells) > len(cells)
