"""Samples of a fit that was stopped say so, with the command that goes on."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from feller.app.cli import main
from feller.app.webui.loaded_run import load_runs
from feller.app.webui.run_state import Phase, read_state
from feller.app.workflows.run_status import incomplete_notice
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.training import held_out
from feller.training.checkpoint import STOPPED_KEY, read_counters
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


def test_early_stopping_completes_a_run(run):
    """Two of three steps, without and with the record that the training itself stopped; on resumption it goes on."""
    record = json.loads(run.recipe.read_text())
    record["recipe"]["train"]["keep_best"] = True
    run.recipe.write_text(json.dumps(record))
    counters = {**json.loads(run.progress.read_text()), "step": 2}
    for early in (False, True):
        run.progress.write_text(json.dumps({**counters, STOPPED_KEY: early}))
        assert (incomplete_notice(run) == "") is early
        assert (read_state(load_runs([run])[0]).phase is Phase.UNREPORTED) is early
    run.progress.write_text(json.dumps({**counters, STOPPED_KEY: "yes"}))
    refuse("sample", "r", "-n", "3", "--out", "made.csv", kind=InputError, argument=STOPPED_KEY)


@pytest.mark.parametrize("words", [(), ("--person", "id", "--order", "day")], ids=["rows", "histories"])
def test_overfitted_table_is_complete(tmp_path, monkeypatch, capsys, words):
    """Rows of noise, of which few are trained on: the held-out loss soon rises."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(held_out, "PATIENCE", 1)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    u = np.random.default_rng(0).integers(0, 8, (480, 4))
    index = np.arange(480)
    frame = pd.DataFrame(
        {
            "id": [f"p{i}" for i in index // 2],
            "day": index % 9,
            **{name: [f"w{i}" for i in u[:, k]] for k, name in enumerate("abcd")},
        }
    )
    frame.drop(columns=[] if words else ["id", "day"]).to_csv("noise.csv", index=False)
    assert main(["fit", "noise.csv", *words, "--size", "tiny", "--steps", "600", "--out", "r"]) == 0
    run = Run(pathlib.Path("r"))
    step = read_counters(run)["step"]
    assert step < 600
    assert incomplete_notice(run) == ""
    capsys.readouterr()
    assert main(["fit", "--resume", "--out", "r", "--steps", "700"]) == 0
    assert "nothing left to train" in capsys.readouterr().err
    assert read_counters(run)["step"] == step
    assert incomplete_notice(run) == ""
    assert main(["fit", "--resume", "--out", "r", "--train.no-keep-best", "--steps", str(step + 2)]) == 0
    assert read_counters(run)["step"] == step + 2


def test_record_without_its_recipe(run):
    record = json.loads(run.recipe.read_text())
    run.recipe.write_text(json.dumps({**record, "recipe": {}}))
    for words in ("sample r -n 2 --out made.csv", "evaluate r"):
        refuse(*words.split(), kind=InputError, file="r/recipe.json")
