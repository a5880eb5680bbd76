"""Tables of numbers as text, with missing cells."""

import math
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
from jaxtyping import Float64

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.delimited import Sheet, check_header, quote, read_sheet, write_parquet
from feller.data.files.plain_text import all_numbers, parse_number
from feller.data.labels import LABEL_NAMES, encode_labels
from feller.data.loading.raw import RawPoints, text_array
from feller.data.points.columns import check_finite, torsions_among

_ARROW: Any = pyarrow.compute  # whose functions are made as it is imported
MAX_MISSING_FRACTION = 0.25
"""Share of the rows above which a column with missing cells is left out, rather than these rows."""


def drop_missing(raw: RawPoints, where: str, others: list[str]) -> tuple[RawPoints, list[int]]:
    """Leave out columns where much is missing, then rows where anything is; say so, and which rows are left.

    InputError if nothing is left.
    """
    missing = np.isnan(raw.values)
    sparse = missing.mean(0) > MAX_MISSING_FRACTION
    kept = np.flatnonzero(~missing[:, ~sparse].any(1))
    if sparse.all() or not len(kept):
        raise InputError(
            f"every row misses one of {', '.join(raw.columns)}", remedy="Fill them, or drop a column", place=where
        )
    notes = list(raw.notes)
    if others:
        notes.append(f"left out the columns {', '.join(others)}, which are not among the angles")
    for i in np.flatnonzero(sparse):
        notes.append(f"left out the column {raw.columns[i]}, which {missing[:, i].mean():.0%} of the rows miss")
    if len(kept) < len(missing):
        notes.append(f"left out {len(missing) - len(kept):,} of {len(missing):,} rows, which miss an angle")
    columns = tuple(name for name, out in zip(raw.columns, sparse, strict=True) if not out)
    lines = None if raw.lines is None else raw.lines[kept]
    values = raw.values[np.ix_(kept, ~sparse)]
    return replace(raw, values=values, columns=columns, notes=tuple(notes), lines=lines), kept.tolist()


ColumnSelector = Callable[[Sequence[str]], tuple[str, ...]]
"""Names of a header -> the angles to read, where cells may be missing; none for all columns, which must be complete."""


def load_table_rows(path: pathlib.Path, choose: ColumnSelector = torsions_among) -> RawPoints:
    """Read .csv, .tsv or .txt (comma, semicolon or tab between cells), also packed as .gz; errors as `parse_rows`."""
    return parse_rows(read_sheet(path), str(path), choose)


def _has_header(sheet: Sheet, where: str) -> bool:
    """Tell whether the first row holds names, or counts the columns as pandas does where they have none."""
    if all_numbers(sheet.first_row):
        counts = len(sheet.first_row) > 1 and sheet.first_row == [str(i) for i in range(len(sheet.first_row))]
        return counts and any("." in cell for row in sheet.head(1) for cell in row)
    check_header(sheet.first_row, where)
    return True


def _label_column(names: list[str], where: str) -> int | None:
    found = [i for i, name in enumerate(names) if name.lower() in LABEL_NAMES]
    if len(found) > 1:
        raise InputError("one column called label or class", len(found), "Drop or rename one", place=where)
    if found and len(names) == 1:
        raise InputError(expected=f"columns of numbers, there is only {names[0]!r}", place=where)
    return found[0] if found else None


def parse_rows(sheet: Sheet | None, where: str, choose: ColumnSelector = torsions_among) -> RawPoints:
    """Turn the cells of a sheet into numbers and labels.

    InputError if a cell is no finite number, or nothing is there.
    """
    if sheet is None:
        raise InputError(expected="rows of numbers, the file is empty", place=where)
    first = sheet.first_row
    has_header = _has_header(sheet, where)
    if not has_header:
        above = pyarrow.Table.from_arrays([text_array([cell]) for cell in first], names=sheet.cells.column_names)
        cells, lines = pyarrow.concat_tables([above, sheet.cells]), np.append(sheet.first_line, sheet.lines)
    else:
        cells, lines = sheet.cells, sheet.lines
    if not len(lines):
        raise InputError(expected="rows of numbers below the header, there are none", place=where)
    label = _label_column(first, where) if has_header else None
    chosen = choose(first) if has_header else ()
    places = [i for i in range(len(first)) if i != label and (not chosen or first[i] in chosen)]
    columns = tuple(first[i] for i in places) if has_header else ()
    values, words = np.empty((len(lines), len(places))), np.full(len(places), len(lines))
    for j, i in enumerate(places):
        values[:, j], words[j] = numbers_in(cells.column(i).combine_chunks())
    if len(places) and words.min() < len(lines):
        row = int(words.min())
        i = places[int(words.argmin())]
        raise InputError(
            f"a number in column {repr(first[i]) if has_header else i + 1}, row"
            f" {lines[row]}{', the header counted' if has_header else ''}",
            repr(cells.column(i)[row].as_py()[:40]),
            f"Mend it, or drop the column; one of classes is to be called {LABEL_NAMES[0]}, and one of texts text",
            place=where,
        )
    labels = [] if label is None else cells.column(label).to_pylist()
    raw = RawPoints(
        values,
        columns=() if all_numbers(columns) else columns,
        notes=("the first row counts the columns and was left out",) if has_header and all_numbers(first) else (),
        lines=lines,
    )
    if chosen:
        others = [name for i, name in enumerate(first) if i not in (*places, label)]
        raw, kept = drop_missing(raw, where, others)
        if not choose(raw.columns):
            lost = ", ".join(name for name in columns if name not in raw.columns)
            raise InputError(
                f"too many rows miss {lost}", remedy="Fill these cells, or drop the column or these rows", place=where
            )
        labels = [labels[i] for i in kept] if labels else labels
        places = [first.index(name) for name in raw.columns]
    empty = [row * len(places) + j for row, j in np.argwhere(np.isnan(raw.values))[:1].tolist()]
    if empty and cells.column(places[empty[0] % len(places)])[empty[0] // len(places)].as_py():
        empty = []
    check_finite(raw.values, where, raw.columns, raw.lines, places, empty)
    if "" in labels:
        raise InputError(
            f"row {raw.row_number(labels.index(''))} has no {first[label or 0]}",
            remedy="Fill it, or drop it",
            place=where,
        )
    positions, classes = (None, ()) if label is None else encode_labels(labels, f"{where} ({first[label]})")
    return replace(raw, labels=positions, classes=classes)


def numbers_in(cells: pyarrow.Array) -> tuple[Float64[np.ndarray, " n"], int]:
    """Return the numbers of cells, not-a-number for empty ones, and which is the first that holds a word."""
    gone = _ARROW.equal(cells, "")
    try:
        plain = _ARROW.if_else(gone, "nan", cells)
        return np.asarray(plain.cast(pyarrow.float64())), len(cells)
    except pyarrow.ArrowInvalid:  # a word, or a number as Python writes some
        read = [parse_number(cell) for cell in cells.to_pylist()]
        word = next((i for i, value in enumerate(read) if value is None), len(read))
        return np.array([math.nan if value is None else value for value in read]), word


def write_table(columns: tuple[str, ...], values: np.ndarray, labels: list[str] | None, path: pathlib.Path) -> None:
    """Write numbers [n, d] under their names, labels last; tabs between cells in .tsv and .txt, else commas."""
    names = [*columns, LABEL_NAMES[0]] if labels is not None else list(columns)
    if path.suffix.lower() == ".parquet":
        return write_parquet(lambda: frame_of(columns, values, labels), path)
    between = "\t" if path.suffix.lower() in (".tsv", ".txt") else ","
    lines = [[quote(name) for name in names], *([repr(value) for value in row] for row in values.tolist())]
    if labels is not None:
        for line, label in zip(lines[1:], labels, strict=True):
            line.append(quote(label))
    replace_file(path, "".join(between.join(line) + "\n" for line in lines))


def frame_of(columns: tuple[str, ...], values: np.ndarray, labels: list[str] | None) -> pd.DataFrame:
    """Return numbers as a data frame, labels last."""
    data = {name: values[:, i] for i, name in enumerate(columns)}
    return pd.DataFrame({**data, LABEL_NAMES[0]: labels} if labels is not None else data)
