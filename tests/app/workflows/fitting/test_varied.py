"""Equal rows are refused before training."""

import pytest

from feller.core.errors import InputError
from tests.app.asked import refuse


@pytest.mark.parametrize("rows", ["x,y\n" + "1,1\n" * 30, "x,kind\n" + "1,a\n" * 30])
def test_equal_rows(rows, tmp_path):
    (tmp_path / "const.csv").write_text(rows)
    words = ("--steps", 2, "--out", tmp_path / "run")
    refuse("fit", tmp_path / "const.csv", *words, kind=InputError, found="30 equal rows")
    assert not (tmp_path / "run" / "weights.safetensors").exists()
