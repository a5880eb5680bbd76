"""Rows that are all the same are refused with words before anything is trained."""

import pathlib

import pytest

import feller
from feller.app.cli import main
from feller.core.errors import InputError
from tests.errors import numbers, refuses


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("x,y\n" + "1,1\n" * 30, ["30"]),
        ("x,kind\n" + "1,a\n" * 30, ["30"]),
        ("x,y\n1,2\n", ["1"]),
        ("x,kind\n1,a\n", ["1"]),
        ("x,kind\n" + "".join(f"a sentence of {i} words,b\n" for i in range(30)), ["30"]),
    ],
)
def test_there_is_nothing_to_learn_of_equal_rows(
    rows: str, found: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "const.csv"
    path.write_text(rows)
    with refuses(InputError, argument="data", file=str(path)) as caught:
        feller.fit(str(path), steps=2, out=str(tmp_path / "run"))
    assert numbers(caught.value.found)[:1] == found
    assert main(["fit", str(path), "--steps", "2", "--out", str(tmp_path / "run")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_columns_that_are_not_modelled_are_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("remark,kind\n" + "".join(f"a sentence of {i} words,b\n" for i in range(30)))
    with refuses(InputError, argument="data") as caught:
        feller.fit(str(path), steps=2, out=str(tmp_path / "run"))
    assert "remark" in caught.value.found
