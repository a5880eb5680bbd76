"""Rows that are all the same are refused with words before anything is trained."""

import pytest

from feller.app.cli import main


@pytest.mark.parametrize("rows", ["x,y\n" + "1,1\n" * 30, "x,kind\n" + "1,a\n" * 30])
def test_there_is_nothing_to_learn_of_equal_rows(rows, tmp_path, capsys):
    (tmp_path / "const.csv").write_text(rows)
    assert main(["fit", str(tmp_path / "const.csv"), "--steps", "2", "--out", str(tmp_path / "run")]) == 1
    assert "found 30 equal rows" in capsys.readouterr().err
    assert not (tmp_path / "run" / "weights.safetensors").exists()
