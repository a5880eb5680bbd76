"""Samples of a fit that was stopped say so, with the command that goes on."""

import json
import pathlib

import pytest

from feller.app.cli import main
from feller.app.workflows.run_status import incomplete_notice
from feller.core.errors import InputError
from feller.core.run_folder import Run
from tests.app.asked import refuse


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a fit of three steps, in the folder that we are in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    assert main(["fit", "example:moons", "--size", "tiny", "--steps", "3", "--out", "r"]) == 0
    return Run(pathlib.Path("r"))


def test_samples_of_a_stopped_fit_say_so(run, capsys):
    """A fit that by its counters was stopped after two of three steps."""
    assert incomplete_notice(run) == ""
    counters = json.loads(run.progress.read_text())
    run.progress.write_text(json.dumps({**counters, "step": 2}))
    said = "this run is incomplete: training stopped after 2 of 3 steps; resume with: feller fit --resume --out r"
    assert incomplete_notice(run) == said
    with run.lock():
        assert incomplete_notice(run).endswith("its weights are from step 2 of 3")
    assert main(["sample", "r", "-n", "3", "--out", "made.csv"]) == 0
    assert said in capsys.readouterr().err


def test_record_without_its_recipe(run):
    record = json.loads(run.recipe.read_text())
    run.recipe.write_text(json.dumps({**record, "recipe": {}}))
    for words in ("sample r -n 2 --out made.csv", "evaluate r"):
        refuse(*words.split(), kind=InputError, file="r/recipe.json")
