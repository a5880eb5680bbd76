"""Recipes that start from another run."""

import json
import pathlib

import pytest
import torch

from feller.app.cli import main
from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.workflows.fit import fit
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.loading.dataset_reader import read
from feller.models.model import load_model
from feller.paths import Affine
from feller.sampling import Midpoint, simulate
from feller.spaces import Euclidean
from feller.training.objective import TrainingContext
from feller.training.objectives.distillation import Distillation
from tests.errors import refuses
from tests.oracle import Normal

TINY = ("--size", "tiny", "--train.batch-size", "64", "--json")


@pytest.fixture
def older(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "example:moons", *TINY, "--steps", "150", "--out", "older"]) == 0
    return Run(pathlib.Path("older"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reflow", "distil", "points"])
def test_initial_weights_of_the_start_run(older: Run, name: str, capsys: pytest.CaptureFixture) -> None:
    words = ["--reflow-pairs", "256"] if name == "reflow" else []
    command = ["fit", "example:moons", *TINY, "--recipe", name, "--start-from", "older", "--steps", "1", "--out", "new"]
    assert main([*command, "--train.lr", "1e-9", *words]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < numbers["straightness"] <= 1
    before, after = (load_model(Run(pathlib.Path(path))).network.state_dict() for path in ("older", "new"))
    # The average of the older run is where the new one starts.
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)


@pytest.mark.slow
def test_sample_pairs(older: Run) -> None:
    model = load_model(older)
    pairs = model.sample_pairs(300, Rng(0))
    again = model.sample_dataset(300, rng=Rng(0))
    assert torch.equal(model.spec.modality.decode(pairs["x_1"]), again.values)
    assert pairs["x_0"].mean().abs() < 0.3  # 5 standard errors of 600 normal numbers are 0.2


def test_reflow_and_distil_need_a_start_run(capsys: pytest.CaptureFixture) -> None:
    for name in ("reflow", "distil"):
        assert main(["fit", "example:moons", "--recipe", name, "--steps", "1"]) == 2
        assert "--start-from" in capsys.readouterr().err


@pytest.mark.slow
def test_resume_with_a_changed_start_run(older: Run) -> None:
    config = config_of(
        FitConfig, data="example:moons", recipe="distil", size="tiny", start_from="older", out="new", steps=2
    )
    fit(config)
    fit(config_of(FitConfig, resume=True, out="new", steps=3))
    older.ema_weights.write_bytes(older.weights.read_bytes())
    with refuses(InputError, file="older"):
        fit(config_of(FitConfig, resume=True, out="new", steps=4))


def test_distillation_target_of_two_teacher_steps() -> None:
    normal, path = Normal(), Affine()

    def teacher(x, t, given):
        return normal.flow(x, t).velocity

    objective = Distillation(path, Euclidean((1,)), nfe=4, teacher_steps=2, cond_dropout=0.0).build(
        TrainingContext(teacher=teacher)
    )
    example = objective.draw({"x_1": 1 + 0.5 * Rng(1).stream("x").normal((64, 1), torch.float64)}, Rng(0))
    assert set(example["t"].tolist()) == {0.0, 0.25, 0.5, 0.75}
    for start in (0.0, 0.25, 0.5, 0.75):
        rows = example["t"] == start
        x = example["x_t"][rows]
        grid = [start, start + 0.125, start + 0.25]
        truth = simulate(path.process(teacher, {}), x, grid, Midpoint(), Rng(0))
        assert torch.allclose(x + 0.25 * example["target"][rows], truth, atol=1e-6)


@pytest.mark.slow
def test_read_like_the_start_run(older: Run) -> None:
    modality = load_model(older).spec.modality
    assert read("example:moons/test", like=modality).modality == modality
