"""Reading and writing of crystal files: .cif files, folders of these, and tables with a CIF column."""

import csv
import functools
import io
import math
import pathlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from feller.core.errors import InputError
from feller.data.atoms.elements import formula
from feller.data.crystals.cif import Crystal, cif_text
from feller.data.crystals.figure import picture
from feller.data.files import sample_folder
from feller.data.files.delimited import cells_of
from feller.data.files.plain_text import (
    all_numbers,
    beginning_of,
    files_in,
    parse_number,
    read_letters,
    rows_in,
    rows_of,
)
from feller.data.labels import LABEL_NAMES, TEXT_NAME

ENDINGS = (".cif", ".cif.gz")
"""Suffixes of CIF files."""
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""Suffixes of tables that may have a CIF column."""
COLUMN = "cif"
BEGINS = "_cell_length_a"
"""CIF data name that every crystal contains; it identifies CIF text in a table."""


@dataclass(frozen=True)
class CifText:
    """CIF text of one or more crystals, with their label and properties if the text comes from a table row."""

    text: str
    names: Callable[[int, int], str]
    """Function (index of a crystal, from 1; number of crystals) -> display name of the crystal."""
    alone: bool = False
    """True if the text must hold exactly one crystal."""
    label: str | None = None
    properties: dict[str, float] = field(default_factory=dict)
    """Numeric properties of the crystals, from the table row."""


def holds_crystals(path: pathlib.Path) -> bool:
    """Return True if a table has a CIF column, recognised by name or content, and no text column."""
    if not path.name.lower().endswith(TABLES):
        return False
    try:
        rows = (cells for _, cells in rows_of(beginning_of(path)))
        names = _names(next(rows, []))
        return COLUMN in names or (TEXT_NAME not in names and _cif_among(next(rows, [])) is not None)
    except csv.Error:
        return False


def _cif_among(cells: list[str]) -> int | None:
    """Return the index of the table cell that holds CIF text."""
    return next((i for i, cell in enumerate(cells) if BEGINS in cell and re.search(r"^\s*data_", cell, re.M)), None)


def texts_in(path: pathlib.Path) -> Iterator[CifText]:
    """Yield the CIF texts of a folder, a file, or the rows of a table.

    InputError if there are no files, or a table row has the wrong number of columns.
    """
    if path.is_dir():
        for file in files_in(path, ENDINGS):
            yield CifText(read_letters(file), functools.partial(_named_by_file, file.name))
    elif path.name.lower().endswith(ENDINGS):
        yield CifText(read_letters(path), lambda i, _: f"crystal {i}")
    else:
        yield from _in_table(path)


def _named_by_file(name: str, i: int, count: int) -> str:
    return name if count == 1 else f"{name}, crystal {i}"


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _in_table(path: pathlib.Path) -> Iterator[CifText]:
    """Yield the CIF text of each row of a table; row numbers count the header as row 1."""
    (_, header), *rows = rows_in(path)
    names = _names(header)
    if not rows:
        raise InputError("rows of crystals below the header", "none", file=path)
    if COLUMN not in names:
        column = header[_cif_among(rows[0][1]) or 0].strip()
        raise InputError(
            f"a column {COLUMN!r}", f"CIF in the column {column!r}", f"Rename the column to {COLUMN}", file=path
        )
    cif_column = names.index(COLUMN)
    label_column = next((i for i, name in enumerate(names) if name in LABEL_NAMES), None)
    number_columns = _numbers_among([cells for _, cells in rows], {cif_column, label_column}, len(names))
    for i, (line, cells) in enumerate(rows, 2):
        where = f"row {i} (the header is row 1; ends in line {line})"
        if len(cells) != len(names):
            raise InputError(f"{len(names)} cells in {where}", cells_of(len(cells)), "Correct the row", file=path)
        parsed = {header[j].strip(): parse_number(cells[j].strip()) for j in number_columns if header[j].strip()}
        properties = {name: value for name, value in parsed.items() if value is not None and math.isfinite(value)}
        label_text = None if label_column is None else cells[label_column].strip()
        yield CifText(cells[cif_column], lambda _, __, where=where: where, True, label_text, properties)


def _numbers_among(rows: list[list[str]], excluded: set[int | None], count: int) -> list[int]:
    """Return the indices of the columns whose non-empty cells are all numbers."""
    full_rows = [cells for cells in rows if len(cells) == count]
    return [j for j in range(count) if j not in excluded and all_numbers(cells[j].strip() for cells in full_rows)]


def blocks_of(crystals: list[Crystal]) -> list[str]:
    """Return a numbered CIF block for each crystal."""
    names = sample_folder.numbered_names(len(crystals))
    return [cif_text(crystal, f"sample_{name}") for name, crystal in zip(names, crystals, strict=True)]


def table_of(crystals: list[Crystal]) -> str:
    """Return a CSV table with the formula, the CIF text, and the label and properties of crystals that have them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    has_labels = crystals[0].label is not None
    names = [*dict.fromkeys(name for crystal in crystals for name in crystal.properties)]
    writer.writerow(["formula", "cif", *([LABEL_NAMES[0]] if has_labels else []), *names])
    for crystal, block in zip(crystals, blocks_of(crystals), strict=True):
        numbers = [crystal.properties.get(name, "") for name in names]
        writer.writerow([formula(crystal.atomic_numbers), block, *([crystal.label] if has_labels else []), *numbers])
    return buffer.getvalue()


def write_folder(crystals: list[Crystal], out: pathlib.Path) -> None:
    """Write a CIF file for each crystal, and an overview image."""
    names = sample_folder.numbered_names(len(crystals), ".cif")
    sample_folder.save_files(picture(crystals), out, names, blocks_of(crystals))
