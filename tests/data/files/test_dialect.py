"""Separator and byte order bom of write_table tables."""

import csv
import json
import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.core.serialization import from_dict, to_dict
from feller.data.files.delimited import dialect_of, read_sheet, text_of
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import Dialect, RawTable
from feller.data.tables.modality import Table
from tests.errors import refuses

ROWS = [["town; and land", "pay"], ["Zürich", "66410,1"], ["Łódź", "5,0"], ["Łódź", "7,25"], ["", "8,5"]]


def write_table(path: pathlib.Path, separator: str, bom: str) -> pathlib.Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(bom)
        csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(ROWS)
    return path


@pytest.mark.parametrize(("separator", "bom"), [(",", ""), (";", "\ufeff")])
def test_dialect_is_kept(separator: str, bom: str, tmp_path: pathlib.Path) -> None:
    file, out = write_table(tmp_path / "people.csv", separator, bom), tmp_path / "out.csv"
    modality = read(str(file)).modality
    reloaded = from_dict(Table, json.loads(json.dumps(to_dict(modality))))
    reloaded.write_cells(RawTable(np.array(ROWS[1:], dtype=object), columns=tuple(ROWS[0])), out)
    content = out.read_text(encoding="utf-8")
    assert content.startswith("\ufeff") == bool(bom)
    assert dialect_of(out) == Dialect(separator, bool(bom))
    assert ('"66410,1"' in content) == (separator == ",")
    sheet = read_sheet(out)
    assert [sheet.first_row, *sheet.head(9)] == ROWS


def test_defaults_of_dialect(tmp_path: pathlib.Path) -> None:
    """Runs recorded without a dialect write commas; a .tsv file always has tabs."""
    data = read(str(write_table(tmp_path / "people.csv", ";", "\ufeff")))
    assert list(data.frame().columns) == ROWS[0]
    assert len(data.frame()) == 4
    modality = data.modality
    record = to_dict(modality)
    del record["dialect"]
    assert from_dict(Table, record).dialect == Dialect(",", has_bom=False)
    with refuses(InputError, found="'ab'"):
        Dialect("ab")
    modality.write_cells(RawTable(np.array(ROWS[1:], dtype=object), columns=tuple(ROWS[0])), tmp_path / "out.tsv")
    assert dialect_of(tmp_path / "out.tsv").separator == "\t"


def test_single_column_with_decimal_commas(tmp_path: pathlib.Path) -> None:
    rows = RawTable(np.array([["66410,1"]], dtype=object), columns=("pay",))
    (tmp_path / "one.csv").write_text(text_of(rows.columns, rows.values, Dialect(";")))
    sheet = read_sheet(tmp_path / "one.csv")
    assert (sheet.first_row, sheet.head(9)) == (["pay"], [["66410,1"]])
