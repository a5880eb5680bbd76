"""Recipes that start from another run."""

import json
import pathlib

import pytest
import torch

from feller.app.cli import main
from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.workflows.fit import fit
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.loading.dataset_reader import read
from feller.models.model import Model, load_model
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import FLOW_MAPS, RECIPES
from feller.models.recipes.stages import flow_map
from feller.paths import Affine
from feller.sampling import Midpoint, simulate
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Euclidean
from feller.training.objective import TrainingContext
from feller.training.objectives.distillation import Distillation
from tests.errors import refuses
from tests.oracle import Normal

DIGITS = ("images", "example:digits")
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
@pytest.mark.parametrize("name", FLOW_MAPS)
def test_flow_maps_of_a_run_and_of_data(older: Run, name: str, capsys: pytest.CaptureFixture) -> None:
    """The first weights are those of the run; samples, evaluation, export and a map of the map follow."""
    command = ["fit", "example:moons", *TINY, "--recipe", name, "--steps", "1", "--report", "none"]
    assert main([*command, "--start-from", "older", "--out", "new", "--train.lr", "1e-9"]) == 0
    before, after = (load_model(Run(pathlib.Path(path))) for path in ("older", "new"))
    weights = after.network.state_dict()
    for key, value in before.network.state_dict().items():
        assert torch.allclose(value, weights[key], atol=1e-6)
    assert weights.keys() - before.network.state_dict().keys() == {"conditioning.end.weight"}
    midpoint = SamplerConfig("midpoint", 16)
    first, second = (model.sample_dataset(8, sampling=midpoint).values for model in (before, after))
    assert torch.allclose(first, second, atol=0.1 if name == "mean-flow" else 1e-4)  # mean-flow drops fast octaves
    solver = "consistency" if name == "consistency" else "euler"
    assert (after.spec.sampling.solver, after.spec.sampling.nfe) == (solver, 2 if name == "consistency" else 4)
    assert main(["sample", "new", "-n", "4", "--nfe", "1", "--out", "one.csv"]) == 0
    assert main(["sample", "new", "-n", "4", "--nfe", "3", "--solver", "euler"]) == (2 if name == "consistency" else 0)
    assert main(["sample", "older", "-n", "4", "--solver", "consistency"]) == 2
    assert main(["export", "new", "--to", "torch-export", "--out", "new.pt2"]) == 0
    inputs = json.loads(pathlib.Path("new.pt2.json").read_text())["inputs"]
    assert [tensor["name"] for tensor in inputs] == ["x", "t", "end"]
    pathlib.Path("reward.py").write_text("def first(x, given):\n    return x[:, 0]\n")
    assert main(["tune", "new", "--reward", "reward.py:first", "--steps", "1", "--out", "tuned"]) == 2
    assert main([*command, "--start-from", "new", "--out", "again"]) == 0
    assert main([*command, "--out", "alone"]) == 0
    assert not load_recipe("alone").objective.distills
    assert load_recipe("again").objective.distills
    capsys.readouterr()


def load_recipe(folder: str) -> Recipe:
    run = Run(pathlib.Path(folder))
    return run.read_as(Recipe, run.recipe, "recipe")


def test_flow_maps_refuse_other_models() -> None:
    """Discrete teachers, models without a process, other states, and data without a flow."""
    points, images = (RECIPES[name](read(data), "tiny") for name, data in (("points", "example:moons"), DIGITS))

    def model(recipe: Recipe, data: str) -> Model:
        spec = recipe.model_spec(read(data).with_modality(recipe.modality or read(data).modality))
        return Model.from_spec(spec, spec.build(Rng(0)))

    levels = RECIPES["levels-mask"](read("example:digits"), "tiny")
    with refuses(UsageError, argument="start_from"):
        flow_map(points, model(images, "example:digits"))
    with refuses(UsageError, argument="path"):
        flow_map(images, model(levels, "example:digits"))
    with refuses(UsageError, argument="path"):
        flow_map(levels, None)
    with refuses(UsageError, argument="recipe"):
        flow_map(RECIPES["table-marginals"](read("example:adult"), "tiny"), None)


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
