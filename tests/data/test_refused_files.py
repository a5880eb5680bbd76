"""Files and frames that hold no data are refused with what they are."""

import os
import pathlib

import numpy as np
import pandas as pd
import pytest

import feller
from feller.core.errors import InputError
from feller.data.loading.dataset_reader import read
from tests.errors import refuses


def test_a_pipe_is_not_called_empty(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    os.mkfifo(path)
    with refuses(InputError, file=str(path), found="a pipe or a device"):
        read(str(path))


def test_a_link_to_itself_is_not_called_missing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.symlink_to(path)
    with refuses(InputError, file=str(path)) as caught:
        feller.fit(str(path))
    assert "link" in caught.value.found


def test_an_empty_array_is_called_empty(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 2)))
    with refuses(InputError) as caught:
        read(str(tmp_path / "a.npy"))
    assert "empty" in caught.value.found


@pytest.mark.parametrize(("cells", "found"), [(["1\x002", "3"], None), ([str(10**30), str(10**30 + 1)], str(10**30))])
def test_cells_that_no_column_holds(tmp_path: pathlib.Path, cells: list[str], found: str | None) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,t\n" + "".join(f"{cell},{'xy'[i % 2]}\n" for i, cell in enumerate(cells * 20)))
    with refuses(InputError, file=str(path), column="n", found=found):
        read(str(path))


def test_rows_of_a_frame_are_counted_alike_by_fit_and_bridge(tmp_path: pathlib.Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["x", "y"])
    damaged = frame.copy()
    damaged.iloc[4, 1] = np.nan
    for use in (
        lambda: feller.fit(damaged, size="tiny", steps=1, out=str(tmp_path / "a")),
        lambda: feller.bridge(damaged, frame, out=str(tmp_path / "b")),
    ):
        with refuses(InputError, file="your DataFrame [30, 2]", row=5, column=2):
            use()


def test_a_cost_of_the_wrong_shape_is_not_a_fault_of_the_data(tmp_path: pathlib.Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["x", "y"])
    with refuses(InputError, file=None, found="[]"):
        feller.bridge(frame, frame + 3, cost=lambda x, t: 3.0, out=str(tmp_path / "b"))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_numbers_of_tables_are_refused_like_those_of_points(value: float) -> None:
    frame = pd.DataFrame({"a": ["x", "y"] * 40, "n": [1.0, value, 2.0, 3.0] * 20})
    with refuses(InputError, column="n", row=2):
        read(frame)
    frame["n"] = ["low", "inf", "high", "high"] * 20  # a word among words
    assert len(read(frame)) == 80
