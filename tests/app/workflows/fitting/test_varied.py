"""Equal rows are refused before training."""

import pytest

import feller
from feller.core.errors import InputError
from tests.app.asked import refuse
from tests.errors import numbers, refuses


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ("x,y\n" + "1,1\n" * 30, "30"),
        ("x,kind\n" + "1,a\n" * 30, "30"),
        ("x,y\n1,2\n", "1"),
        ("x,kind\n1,a\n", "1"),
        ("x,kind\n" + "".join(f"a sentence of {i} words,b\n" for i in range(30)), "30"),
    ],
)
def test_equal_rows(rows, count, tmp_path):
    path = tmp_path / "const.csv"
    path.write_text(rows)
    with refuses(InputError, argument="data", file=str(path)) as caught:
        feller.fit(str(path), steps=2, out=str(tmp_path / "run"))
    assert numbers(caught.value.found)[0] == count
    refuse("fit", path, "--steps", 2, "--out", tmp_path / "run", kind=InputError)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_columns_that_are_not_modelled_are_named(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("remark,kind\n" + "".join(f"a sentence of {i} words,b\n" for i in range(30)))
    with refuses(InputError, argument="data") as caught:
        feller.fit(str(path), steps=2, out=str(tmp_path / "run"))
    assert "remark" in caught.value.found
