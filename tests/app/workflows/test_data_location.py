"""Data of a run are found from its own place, from wherever it is called."""

import json
import os
import pathlib

import pytest

from feller.app.workflows.run_config import read_fit_record, resolve_data_path
from feller.core.run_folder import Run


@pytest.fixture
def run(tmp_path):
    """A run of data beside its folder of runs, as a fit in `work` makes it."""
    folder = tmp_path / "work" / "runs" / "one"
    folder.mkdir(parents=True)
    (tmp_path / "work" / "people.csv").write_text("a\n1\n")
    (tmp_path / "elsewhere").mkdir()
    (folder / "recipe.json").write_text(
        json.dumps({"format": 1, "asked": {"data": "people.csv", "recipe": "table", "size": "tiny", "seed": 0}})
    )
    return Run(folder)


def test_from_another_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = resolve_data_path("people.csv", Run(pathlib.Path("../work/runs/one")))
    assert found == os.path.join("..", "work", "people.csv")
    assert read_fit_record(run).data == found
    monkeypatch.chdir(run.path)  # where all its names are short
    assert resolve_data_path("people.csv", Run(pathlib.Path())) == os.path.join("..", "..", "people.csv")


def test_what_lies_here_comes_first_and_what_is_nowhere_stays(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("gone.csv", "example:moons", "", "../work/people.csv", str(tmp_path / "gone.csv")):
        assert resolve_data_path(name, run) == name
    pathlib.Path("people.csv").write_text("a\n2\n")
    assert resolve_data_path("people.csv", run) == "people.csv"
