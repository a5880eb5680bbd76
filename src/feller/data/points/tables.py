"""Tables of numbers as text, with missing cells."""

import itertools
import pathlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.delimited import Row, check_header, check_width, open_rows, quoted, write_parquet
from feller.data.files.plain_text import all_numbers, number
from feller.data.labels import LABEL_NAMES, classify
from feller.data.loading.raw import FoundRows
from feller.data.points.columns import check_finite, torsions_among

MOST = 0.25
"""Share of the rows above which a column with missing cells is left out, rather than these rows."""


def complete(found: FoundRows, where: str, others: list[str]) -> tuple[FoundRows, list[int]]:
    """Leave out columns where much is missing, then rows where anything is; say so, and which rows are left.

    Raises:
        InputError: If nothing is left.
    """
    missing = np.isnan(found.values)
    sparse = missing.mean(0) > MOST
    kept = np.flatnonzero(~missing[:, ~sparse].any(1))
    if sparse.all() or not len(kept):
        raise InputError(f"{where}: every row misses one of {', '.join(found.columns)}; fill them, or drop a column")
    notes = list(found.notes)
    if others:
        notes.append(f"left out the columns {', '.join(others)}, which are not among the angles")
    for i in np.flatnonzero(sparse):
        notes.append(f"left out the column {found.columns[i]}, which {missing[:, i].mean():.0%} of the rows miss")
    if len(kept) < len(missing):
        notes.append(f"left out {len(missing) - len(kept):,} of {len(missing):,} rows, which miss an angle")
    columns = tuple(name for name, out in zip(found.columns, sparse, strict=True) if not out)
    lines = None if found.lines is None else found.lines[kept]
    values = found.values[np.ix_(kept, ~sparse)]
    return replace(found, values=values, columns=columns, notes=tuple(notes), lines=lines), kept.tolist()


Choose = Callable[[Sequence[str]], tuple[str, ...]]
"""Names of a header -> the angles to read, where cells may be missing; none for all columns, which must be complete."""


def find_table(path: pathlib.Path, choose: Choose = torsions_among) -> FoundRows:
    """Read .csv, .tsv, .txt (comma, semicolon or tab between cells), also packed as .gz, or .parquet.

    Raises:
        InputError: If rows differ in length, a cell is no finite number, or nothing is there.
    """
    with open_rows(path) as rows:
        return rows_found(rows, str(path), choose)


def _has_header(first: list[str], second: list[str] | None, where: str) -> bool:
    """Tell whether the first row holds names, or counts the columns as pandas does where they have none."""
    if all_numbers(first):
        counts = len(first) > 1 and first == [str(i) for i in range(len(first))]
        return counts and any("." in cell for cell in second or ())
    check_header(first, where)
    return True


def _label_column(names: list[str], where: str) -> int | None:
    found = [i for i, name in enumerate(names) if name.lower() in LABEL_NAMES]
    if len(found) > 1:
        raise InputError(f"{where}: expected one column called label or class, got {len(found)}; drop or rename one")
    if found and len(names) == 1:
        raise InputError(f"{where}: expected columns of numbers, there is only {names[0]!r}")
    return found[0] if found else None


def rows_found(rows: Iterator[Row], where: str, choose: Choose) -> FoundRows:
    """Turn rows of text into numbers and labels; arguments and errors as for `find_table`."""
    start = list(itertools.islice(rows, 2))
    if not start:
        raise InputError(f"{where}: expected rows of numbers, the file is empty")
    first = start[0][1]
    has_header = _has_header(first, start[1][1] if len(start) > 1 else None, where)
    if has_header and len(start) == 1:
        raise InputError(f"{where}: expected rows of numbers below the header, there are none")
    label = _label_column(first, where) if has_header else None
    chosen = choose(first) if has_header else ()
    places = [i for i in range(len(first)) if i != label and (not chosen or first[i] in chosen)]
    columns = tuple(first[i] for i in places) if has_header else ()
    values, lines = array("d"), array("q")  # a list takes four times that
    labels: list[str] = []
    empty: set[int] = set()
    for line, cells in itertools.chain(start[has_header:], rows):
        check_width(cells, len(first), line, where)
        lines.append(line)
        if label is not None:
            labels.append(cells[label])
        for i in places:
            value = number(cells[i])
            if value is None:
                raise InputError(
                    f"{where}: expected a number in column {repr(first[i]) if has_header else i + 1}, row {line}"
                    f"{', the header counted' if has_header else ''}, got {cells[i][:40]!r}; mend it, or drop the"
                    f" column; one of classes is to be called {LABEL_NAMES[0]}, and one of texts text"
                )
            if not cells[i]:
                empty.add(len(values))
            values.append(value)
    found = FoundRows(
        np.array(values).reshape(len(lines), -1),
        columns=() if all_numbers(columns) else columns,
        notes=("the first row counts the columns and was left out",) if has_header and all_numbers(first) else (),
        lines=np.array(lines),
    )
    if chosen:
        others = [name for i, name in enumerate(first) if i not in (*places, label)]
        found, kept = complete(found, where, others)
        if not choose(found.columns):
            lost = ", ".join(name for name in columns if name not in found.columns)
            raise InputError(f"{where}: too many rows miss {lost}; fill these cells, or drop the column or these rows")
        labels = [labels[i] for i in kept] if labels else labels
        places, empty = [first.index(name) for name in found.columns], set()  # rows with one are left out
    check_finite(found.values, where, found.columns, found.lines, places, empty)
    if "" in labels:
        raise InputError(f"{where}: row {found.row(labels.index(''))} has no {first[label or 0]}; fill it, or drop it")
    positions, classes = (None, ()) if label is None else classify(labels, f"{where} ({first[label]})")
    return replace(found, labels=positions, classes=classes)


def write_table(columns: tuple[str, ...], values: np.ndarray, labels: list[str] | None, path: pathlib.Path) -> None:
    """Write numbers [n, d] under their names, labels last; tabs between cells in .tsv and .txt, else commas."""
    names = [*columns, LABEL_NAMES[0]] if labels is not None else list(columns)
    if path.suffix.lower() == ".parquet":
        return write_parquet(lambda: _frame(columns, values, labels), path)
    between = "\t" if path.suffix.lower() in (".tsv", ".txt") else ","
    lines = [[quoted(name) for name in names], *([repr(value) for value in row] for row in values.tolist())]
    if labels is not None:
        for line, label in zip(lines[1:], labels, strict=True):
            line.append(quoted(label))
    replace_file(path, "".join(between.join(line) + "\n" for line in lines))


def _frame(columns: tuple[str, ...], values: np.ndarray, labels: list[str] | None) -> Any:
    """Return numbers as a data frame of pandas, labels last."""
    import pandas as pd

    data = {name: values[:, i] for i, name in enumerate(columns)}
    return pd.DataFrame({**data, LABEL_NAMES[0]: labels} if labels is not None else data)
