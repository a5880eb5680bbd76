"""Tables that cannot be modelled are refused at once, with row and column."""

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

import feller
from feller.core.errors import InputError
from feller.data.loading.file_formats import load_table
from tests.app import asked
from tests.errors import refuses


@pytest.mark.parametrize("values", [[["x"], ["y", "z"], []], [{"x": 1}, {"x": 2}, {"x": 3}], [b"1", b"2", None]])
def test_nested_and_binary_columns_of_parquet(tmp_path, values):
    parquet.write_table(pyarrow.table({"word": ["u", "v", "w"], "tags": values}), tmp_path / "a.parquet")
    with refuses(InputError, column="tags"):
        load_table(tmp_path / "a.parquet")
    with refuses(InputError, column="tags"):
        feller.read(tmp_path / "a.parquet")


def test_mixed_encodings_name_the_row(tmp_path):
    lines = [b"name,age", *["Zoë,3".encode()] * 5, "Jürgen,4".encode("latin-1"), b"Bob,5"]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines) + b"\n")
    with refuses(InputError, row=7):
        load_table(tmp_path / "a.csv")


def test_thousands_of_columns_cost_no_budget(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 3, (60, 3000))).add_prefix("c").assign(word="a")
    frame.to_csv(tmp_path / "wide.csv", index=False)
    words = ("fit", tmp_path / "wide.csv", "--out", tmp_path / "run")
    for options in ((), ("--epsilon", 3, "--recipe", "table-marginals")):
        error = asked.refuse(*words, *options, kind=InputError)
        assert "3,001" in (error.found or "")
    assert not (tmp_path / "run" / "ledger.json").exists()


def test_skipped_columns_do_not_count():
    names = [f"c{i}" for i in range(3000)]
    columns = {name: {"kind": "skip"} for name in names} | {"a": {"kind": "categorical", "values": ["x", "y"]}}
    columns |= {"b": {"kind": "boolean", "true": "yes", "false": "no"}}
    frame = pd.DataFrame({"a": ["x", "y"] * 30, "b": ["yes", "no"] * 30})
    assert feller.read(frame, schema={"columns": columns}).values.shape == (60, 2)
