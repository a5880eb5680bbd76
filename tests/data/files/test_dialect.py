"""Rows that are made are written as the table was that they were learned from."""

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


def written(path: pathlib.Path, separator: str, mark: str) -> pathlib.Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(mark)
        csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(ROWS)
    return path


@pytest.mark.parametrize(("separator", "mark"), [(",", ""), (";", "\ufeff"), (";", ""), (",", "\ufeff")])
def test_a_table_is_written_as_it_was(separator: str, mark: str, tmp_path: pathlib.Path) -> None:
    file, out = written(tmp_path / "people.csv", separator, mark), tmp_path / "out.csv"
    kind = read(str(file)).modality
    assert isinstance(kind, Table)
    again = from_dict(Table, json.loads(json.dumps(to_dict(kind))))
    again.write_cells(RawTable(np.array(ROWS[1:], dtype=object), columns=tuple(ROWS[0])), out)
    text = out.read_text(encoding="utf-8")
    assert text.startswith("\ufeff") == bool(mark)
    assert dialect_of(out) == Dialect(separator, bool(mark))
    assert ('"66410,1"' in text) == (separator == ",")
    sheet = read_sheet(out)
    assert sheet is not None
    assert [sheet.first_row, *sheet.head(9)] == ROWS


def test_other_endings_have_separators_of_their_own(tmp_path: pathlib.Path) -> None:
    kind = read(str(written(tmp_path / "people.csv", ";", ""))).modality
    assert isinstance(kind, Table)
    kind.write_cells(RawTable(np.array(ROWS[1:], dtype=object), columns=tuple(ROWS[0])), tmp_path / "out.tsv")
    assert dialect_of(tmp_path / "out.tsv").separator == "\t"


def test_a_run_that_says_nothing_of_it_writes_commas(tmp_path: pathlib.Path) -> None:
    kind = read(str(written(tmp_path / "people.csv", ";", "\ufeff"))).modality
    plain = to_dict(kind)
    del plain["dialect"]
    assert from_dict(Table, plain).dialect == Dialect(",", has_bom=False)
    with refuses(InputError, found="'ab'"):
        Dialect("ab")


def test_a_frame_is_read_from_what_is_written(tmp_path: pathlib.Path) -> None:
    data = read(str(written(tmp_path / "people.csv", ";", "\ufeff")))
    frame = data.frame()
    assert list(frame.columns) == ROWS[0]
    assert len(frame) == 4


def test_one_column_is_read_as_one(tmp_path: pathlib.Path) -> None:
    rows = RawTable(np.array([["66410,1"]], dtype=object), columns=("pay",))
    (tmp_path / "one.csv").write_text(text_of(rows.columns, rows.values, Dialect(";")))
    sheet = read_sheet(tmp_path / "one.csv")
    assert sheet is not None
    assert (sheet.first_row, sheet.head(9)) == (["pay"], [["66410,1"]])
