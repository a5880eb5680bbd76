"""People who have several rows: one of each is learned, and which hangs on that person's rows alone."""

import pathlib
from dataclasses import replace

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.loading.raw import FoundTable
from feller.data.loading.read import read
from feller.data.tables.column import Categorical
from feller.data.tables.modality import first_of_each
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Identifier

SCHEMA = Schema((Identifier("who"), Categorical("drug", ("a", "b", "c"))), unit="who")
ROWS = [("7", "a"), ("7", "b"), ("3", "c"), ("7", "a"), ("9", "b"), ("3", "b")]


def table(rows: list[tuple[str, str]]) -> FoundTable:
    return FoundTable(np.array(rows, dtype=object), columns=("who", "drug"), lines=np.arange(2, 2 + len(rows)))


def rows(found: FoundTable) -> list[tuple[str, ...]]:
    return [*zip(*map(found.column, found.columns), strict=True)]


def test_the_first_row_of_each() -> None:
    found = first_of_each(table(ROWS), "who")
    assert rows(found) == [("7", "a"), ("3", "c"), ("9", "b")]
    assert found.lines is not None
    assert found.lines.tolist() == [2, 4, 6]
    assert rows(first_of_each(table(ROWS), "row")) == ROWS


def test_without_one_person_the_others_are_the_same() -> None:
    whole = rows(first_of_each(table(ROWS), "who"))
    for person in ("7", "3", "9"):
        fewer = rows(first_of_each(table([row for row in ROWS if row[0] != person]), "who"))
        assert fewer == [row for row in whole if row[0] != person]


def test_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "t.csv").write_text("who,drug\n" + "".join(",".join(row) + "\n" for row in ROWS))
    data = read(str(tmp_path / "t.csv"), schema=SCHEMA)
    assert data.values[:, 0].tolist() == [0, 2, 1]
    assert "one row of each who is learned, 3 of 6" in data.notes
    assert len(read(str(tmp_path / "t.csv"), schema=replace(SCHEMA, unit="row"))) == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [("who,drug\n7,a\n,b\n", "row 3, column 'who' does not say whose"), ("drug\na\nb\n", "no column 'who'")],
)
def test_rows_of_nobody(text: str, said: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read(str(tmp_path / "t.csv"), schema=SCHEMA)
