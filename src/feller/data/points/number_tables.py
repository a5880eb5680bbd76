"""Reading of numeric tables from text cells, some of which may be missing."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
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

_ARROW: Any = pyarrow.compute  # its functions are created at import
MAX_MISSING_FRACTION = 0.25
"""Fraction of missing cells above which a column is dropped; in other columns, rows with missing cells are dropped."""


def drop_missing(raw: RawPoints, where: str, others: list[str]) -> tuple[RawPoints, list[int]]:
    """Drop columns with many missing cells, then rows with missing cells.

    Args:
        raw: Numeric rows; NaN stands for a missing cell.
        where: Name of the file, for errors.
        others: Names of columns that were not read, for a note.

    Returns:
        The data with notes on what was dropped, and the indices of the kept rows.

    Raises:
        InputError: If no rows are left.
    """
    missing = np.isnan(raw.values)
    sparse = missing.mean(0) > MAX_MISSING_FRACTION
    kept = np.flatnonzero(~missing[:, ~sparse].any(1))
    if sparse.all() or not len(kept):
        raise InputError(
            f"every row has a missing value in {', '.join(raw.columns)}",
            remedy="Fill the cells, or remove a column",
            place=where,
        )
    notes = list(raw.notes)
    if others:
        notes.append(f"ignored the columns {', '.join(others)}, which are not angles")
    for i in np.flatnonzero(sparse):
        notes.append(f"dropped the column {raw.columns[i]}, missing in {missing[:, i].mean():.0%} of the rows")
    if len(kept) < len(missing):
        notes.append(f"dropped {len(missing) - len(kept):,} of {len(missing):,} rows with a missing angle")
    columns = tuple(name for name, is_sparse in zip(raw.columns, sparse, strict=True) if not is_sparse)
    lines = None if raw.lines is None else raw.lines[kept]
    values = raw.values[np.ix_(kept, ~sparse)]
    return replace(raw, values=values, columns=columns, notes=tuple(notes), lines=lines), kept.tolist()


ColumnSelector = Callable[[Sequence[str]], tuple[str, ...]]
"""Function from all column names to the names of the columns to read, which may have missing cells; if it returns no
names, all columns are read, and none may have missing cells."""


def load_table_rows(path: pathlib.Path) -> RawPoints:
    """Read a .csv, .tsv or .txt file (or .gz) of numbers, separated by comma, semicolon or tab; see `parse_rows`."""
    return parse_rows(read_sheet(path), str(path))


def _has_header(sheet: Sheet, where: str) -> bool:
    """Return True if the first row is a header, including column numbers as pandas writes them."""
    if all_numbers(sheet.first_row):
        is_numbered = len(sheet.first_row) > 1 and sheet.first_row == [str(i) for i in range(len(sheet.first_row))]
        return is_numbered and any("." in cell for row in sheet.head(1) for cell in row)
    check_header(sheet.first_row, where)
    return True


def _label_column(names: list[str], where: str) -> int | None:
    matches = [i for i, name in enumerate(names) if name.lower() in LABEL_NAMES]
    if len(matches) > 1:
        raise InputError("one column named label or class", len(matches), "Remove or rename one", place=where)
    if matches and len(names) == 1:
        raise InputError(expected=f"numeric columns besides {names[0]!r}", place=where)
    return matches[0] if matches else None


def parse_rows(sheet: Sheet | None, where: str, choose: ColumnSelector = torsions_among) -> RawPoints:
    """Parse the text cells of a sheet into points and class labels.

    Args:
        sheet: Text cells; None for an empty file.
        where: Name of the file, for errors.
        choose: Function that selects the columns to read, by default columns with torsion angles. If it selects none,
            all columns are read.

    InputError if a cell is not a finite number, or there are no rows.
    """
    if sheet is None:
        raise InputError(expected="rows of numbers, but the file is empty", place=where)
    header = sheet.first_row
    has_header = _has_header(sheet, where)
    if not has_header:
        first_row = pyarrow.Table.from_arrays([text_array([cell]) for cell in header], names=sheet.cells.column_names)
        cells, lines = pyarrow.concat_tables([first_row, sheet.cells]), np.append(sheet.first_line, sheet.lines)
    else:
        cells, lines = sheet.cells, sheet.lines
    if not len(lines):
        raise InputError(expected="rows of numbers below the header", place=where)
    label = _label_column(header, where) if has_header else None
    chosen = choose(header) if has_header else ()
    indices = [i for i in range(len(header)) if i != label and (not chosen or header[i] in chosen)]
    columns = tuple(header[i] for i in indices) if has_header else ()
    values, first_text = np.empty((len(lines), len(indices))), np.full(len(indices), len(lines))
    for j, i in enumerate(indices):
        values[:, j], first_text[j] = numbers_in(cells.column(i).combine_chunks())
    if len(indices) and first_text.min() < len(lines):
        row = int(first_text.min())
        i = indices[int(first_text.argmin())]
        raise InputError(
            f"a number in column {repr(header[i]) if has_header else i + 1}, row"
            f" {lines[row]}{', counting the header' if has_header else ''}",
            repr(cells.column(i)[row].as_py()[:40]),
            f"Correct the cell or remove the column; name a column of classes {LABEL_NAMES[0]}, a column of texts text",
            place=where,
        )
    labels = [] if label is None else cells.column(label).to_pylist()
    raw = RawPoints(
        values,
        columns=() if all_numbers(columns) else columns,
        notes=("skipped the first row, which numbers the columns",) if has_header and all_numbers(header) else (),
        lines=lines,
    )
    if chosen:
        ignored = [name for i, name in enumerate(header) if i not in (*indices, label)]
        raw, kept_rows = drop_missing(raw, where, ignored)
        if not choose(raw.columns):
            lost_columns = ", ".join(name for name in columns if name not in raw.columns)
            raise InputError(
                f"too many rows have no value in {lost_columns}",
                remedy="Fill the cells, or remove the column or the rows",
                place=where,
            )
        labels = [labels[i] for i in kept_rows] if labels else labels
        indices = [header.index(name) for name in raw.columns]
    empty_cells = [row * len(indices) + j for row, j in np.argwhere(np.isnan(raw.values))[:1].tolist()]
    if empty_cells and cells.column(indices[empty_cells[0] % len(indices)])[empty_cells[0] // len(indices)].as_py():
        empty_cells = []
    check_finite(raw.values, where, raw.columns, raw.lines, indices, empty_cells)
    if "" in labels:
        raise InputError(
            f"row {raw.row_number(labels.index(''))} has no {header[label or 0]}",
            remedy="Fill the cell, or remove the row",
            place=where,
        )
    class_indices, classes = (None, ()) if label is None else encode_labels(labels, f"{where} ({header[label]})")
    return replace(raw, labels=class_indices, classes=classes)


def numbers_in(cells: pyarrow.Array) -> tuple[Float64[np.ndarray, " n"], int]:
    """Parse cells as numbers, NaN if empty; also return the index of the first text cell (len(cells) if none)."""
    is_empty = _ARROW.equal(cells, "")
    try:
        filled = _ARROW.if_else(is_empty, "nan", cells)
        return np.asarray(filled.cast(pyarrow.float64())), len(cells)
    except pyarrow.ArrowInvalid:  # text, or a number that only Python parses
        numbers = [parse_number(cell) for cell in cells.to_pylist()]
        first_text = next((i for i, value in enumerate(numbers) if value is None), len(numbers))
        return np.array([math.nan if value is None else value for value in numbers]), first_text


def write_table(
    columns: tuple[str, ...],
    values: np.ndarray,
    labels: list[str] | None,
    path: pathlib.Path,
    conditions: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> None:
    """Write numbers [n, d], conditions and labels as a table with a header; with tabs in .tsv and .txt, else commas."""
    if path.suffix.lower() == ".parquet":
        return write_parquet(lambda: frame_of(columns, values, labels, conditions), path)
    separator = "\t" if path.suffix.lower() in (".tsv", ".txt") else ","
    texts = {name: column.tolist() for name, column in conditions.items()}
    texts |= {} if labels is None else {LABEL_NAMES[0]: labels}
    lines = [[quote(name) for name in (*columns, *texts)], *([repr(value) for value in row] for row in values.tolist())]
    for cells in texts.values():
        for line, cell in zip(lines[1:], cells, strict=True):
            line.append(quote(cell) if isinstance(cell, str) else "" if cell != cell else repr(cell))
    replace_file(path, "".join(separator.join(line) + "\n" for line in lines))


def frame_of(
    columns: tuple[str, ...],
    values: np.ndarray,
    labels: list[str] | None,
    conditions: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> pd.DataFrame:
    """Return numbers [n, d] as a data frame, followed by conditions, with labels in the last column."""
    data = {**{name: values[:, i] for i, name in enumerate(columns)}, **conditions}
    return pd.DataFrame({**data, LABEL_NAMES[0]: labels} if labels is not None else data)
