"""Which round of a bridge is kept, and that its drift is what the run is sampled with."""

import json

import numpy as np
import pytest
import torch

from feller.app.workflows.bridges import run_rounds
from feller.app.workflows.bridges.run_rounds import is_better, kept_round_numbers
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.models.model import load_model
from tests.app.asked import run

SHORT = ("--pairs", 32, "--train.steps", 5, "--train.batch-size", 32, "--control.steps", 2, "--nfe", 12)
SHORT += ("--control.mean-knots", 4, "--control.scale-knots", 4)


def row(step, w2, inside=None, floor=2.21):
    met = {} if inside is None else {"inside_paths": inside}
    return {"step": step, "backward": int(step % 2 == 0), "w2": w2, "w2_floor": floor, "objective": 1.0, **met}


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([row(1, 4.15, 0.016), row(3, 5.41, 0.007)], 1),
        ([row(1, 5.41, 0.016), row(3, 4.15, 0.007)], 3),
        ([row(1, 4.15), row(3, 4.3)], 3),
        ([row(1, 4.0), row(3, 4.3), row(5, 4.6)], 3),  # ten per cent a round do not add up
        ([row(1, 2.0), row(3, 2.3)], 3),  # both are as near as real members
        ([row(1, 2.3, 0.4), row(3, 4.0, 0.02)], 3),  # through walls first, then around them
        ([row(1, 2.3, 0.02), row(3, 2.2, 0.4)], 1),
        ([row(1, 2.3, 0.4), row(3, 4.0, 0.02), row(5, 3.9, 0.02)], 5),
        ([row(1, 4.0, 0.4), row(3, 3.9, 0.2)], 3),
    ],
)
def test_the_kept_round(rows, kept):
    best = None
    for i, one in enumerate(rows):
        best = one if is_better(one, best, rows[:i]) else best
    assert best["step"] == kept


def fake(distances):
    def measured(problem, settings, progress, found):
        known = {"backward": int(found.backward), "loss": 0.0, "objective": 1.0, "control_cost": 1.0, "state_cost": 0.0}
        return {**known, "lost": 0.0, "w2": distances[found.number - 1], "w2_floor": 1.0}

    return measured


def drift(folder, way, file):
    tensors = load_tensors(folder / file)[0]
    return {name.removeprefix(way): value for name, value in tensors.items() if name.startswith(f"{way}.")}


@pytest.fixture
def populations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, middle in (("a", 0.0), ("b", 3.0)):
        np.savetxt(f"{name}.csv", rng.normal(middle, 1, (60, 2)), delimiter=",", header="x,y", comments="")
    return tmp_path


def reported(folder):
    return json.loads((folder / "run" / "report.json").read_text())["numbers"]


def test_a_run_keeps_its_best_round(populations, monkeypatch):
    """Round 3 is worse than round 1, round 5 better; a resumed run gives the same weights."""
    monkeypatch.setattr(run_rounds, "round_metrics", fake([2.0, 1.0, 3.0, 1.0, 1.5]))
    monkeypatch.setattr("feller.app.workflows.bridges.bridge_report.MIN_TRAJECTORIES", 60)
    monkeypatch.setattr(EvaluationBudget, "fraction_of", classmethod(lambda cls, *seconds: cls()))
    asked = ("bridge", "a.csv", "b.csv", *SHORT)
    with monkeypatch.context() as patch:
        patch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})
        run(*asked, "--rounds", "1", "--out", "run")
    first = drift(populations / "run", "ahead", "average.safetensors")
    run("bridge", "--resume", "--out", "run", "--rounds", "3")
    numbers = reported(populations)
    assert (numbers["kept_round"], numbers["last_w2"], numbers["rounds"]) == (1, 3.0, 3)
    after = drift(populations / "run", "ahead", "average.safetensors")
    assert all(torch.equal(after[name], value) for name, value in first.items())
    network = load_model(Run(populations / "run")).network.forward_drift.state_dict()
    assert all(torch.equal(network[name.removeprefix(".")], value) for name, value in first.items())
    run("evaluate", "run")
    assert reported(populations)["w2"] == pytest.approx(numbers["w2"])
    run("bridge", "--resume", "--out", "run", "--rounds", "5")
    numbers = reported(populations)
    assert numbers["kept_round"] == 5
    assert "last_w2" not in numbers
    monkeypatch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})
    run(*asked, "--rounds", "5", "--out", "whole")
    for file in ("average.safetensors", "weights.safetensors"):
        one, other = (load_tensors(populations / name / file)[0] for name in ("run", "whole"))
        assert all(torch.equal(one[name], value) for name, value in other.items())


def test_runs_without_a_record_of_it_keep_their_last_round():
    assert kept_round_numbers({}, [row(1, 2.0), row(2, 2.0), row(3, 5.0)]) == {"kept_round": 3}
