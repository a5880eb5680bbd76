"""The recipe `table-flow`, plain and private."""

import json
import math
import pathlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.app.cli import main
from feller.app.modalities.registration import find_recipe
from feller.app.workflows.private.plan_dp_sgd import plan_dp_sgd
from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.private_statistics import measure_statistics
from feller.app.workflows.private.table_schema import SchemaCost
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema, write_schema
from feller.models.recipes.recipe import Recipe
from feller.paths.time_distributions import Stratified, Uniform
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.noise.grid_noise import SeededNoise
from feller.sampling.sampler_config import SamplerConfig
from feller.training.loop import train
from feller.training.objective import FlowMatching
from tests.errors import refuses
from tests.models.recipes.trained import trained
from tests.oracle import close
from tests.privacy.layers_here import shaken

SCHEMA = Schema(
    (
        Numerical("age", 0.0, 99.0, bins=20),
        Categorical("job", ("none", "clerk", "smith")),
        Numerical("pay", 0.0, 999.0, bins=10, heavy=(0.0,), digits=True),
        Categorical("rich", ("no", "yes")),
    ),
    rules=(Constraint("job", ("none",), "pay", ("0",)),),
)
TABLE = Table(SCHEMA)


def rows(n: int, seed: int = 0) -> Dataset:
    """Draw people of whom the old have pay, and the well-paid are rich."""
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 20, n)
    job = np.where(age < 5, 0, rng.integers(1, 3, n))
    pay = np.where(job == 0, 0, np.clip(age * 40 + rng.integers(0, 200, n), 1, 999))
    codes = np.stack([age, job, pay, (pay > 500).astype(int)], 1)
    return Dataset(torch.from_numpy(codes.astype(np.int64)), {}, TABLE)


def recipe_for(data: Dataset) -> Recipe:
    name, recipe = find_recipe("table-flow", data, "tiny")
    assert name == "table-flow"
    return recipe


@pytest.mark.slow
def test_dependence_of_columns_is_learned() -> None:
    data = rows(2000)
    recipe = recipe_for(data)
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe
    short = replace(recipe, train=replace(recipe.train, batch_size=256, ema_decay=0.98))
    model = trained(replace(short, sampling=SamplerConfig("midpoint", 24)), data.with_modality(MixedTable(TABLE)), 250)
    drawn = model.sample_dataset(1000, rng=Rng(1)).values
    assert ((drawn[:, 1] > 0) | (drawn[:, 2] == 0)).all()  # the rule
    assert (drawn >= 0).all()
    assert (drawn < torch.tensor(TABLE.counts)).all()
    rich, real = drawn[:, 3].bool(), data.values[:, 3].bool()
    assert abs(rich.double().mean() - real.double().mean()) < 0.08  # 5 standard errors
    assert drawn[rich, 2].double().mean() - drawn[~rich, 2].double().mean() > 300  # real: some 500
    assert drawn[rich, 0].double().mean() - drawn[~rich, 0].double().mean() > 4  # real: some 9
    with refuses(UsageError):
        model.parse_conditions(3, {"rich": "yes"}, Rng(0))


def test_numeric_columns_alone() -> None:
    table = Table(Schema((SCHEMA.columns[0],)))
    data = Dataset(Rng(0).stream("x").randint(20, (64, 1)), {}, table)
    recipe = recipe_for(data)
    model = trained(recipe, data.with_modality(recipe.modality or table), 2)
    assert model.sample_dataset(5, rng=Rng(1)).values.shape == (5, 1)


def test_ghost_clipping_matches_loop() -> None:
    data = rows(7)
    recipe = recipe_for(data)
    kind = MixedTable(TABLE)
    network = shaken(recipe.model_spec(data.with_modality(kind)).build(Rng(0)), size=0.05)
    state = {
        name: leaf.double() if leaf.is_floating_point() else leaf for name, leaf in kind.encode(data.values).items()
    }
    objective = recipe.objective
    example = objective.draw({"x_1": state, "given": {}}, Rng(3), network)
    assert (example["t"]["numbers"].unique().numel(), example["t"]["words"].unique().numel()) == (7, 7)
    norms = clipped_by_loop(objective.loss, network, example, math.inf).norms
    clip = norms.median().item()  # some rows are cut, and some are not
    assert norms.min() < clip < norms.max()
    expected = clipped_by_loop(objective.loss, network, example, clip).sums
    gradient = DPSGD(sigma=0.0, clip=FixedClipNorm(clip), noise=SeededNoise(0))
    gradient(objective.loss, network, [example], 1.0)
    for name, weight in network.named_parameters():
        assert weight.grad is not None
        close(weight.grad, expected[name], 1e-9)
    assert gradient._ghost_unsupported[network] == ""  # neither vmap nor a loop
    nobody = objective.draw({"x_1": kind.encode(data.values[:0]), "given": {}}, Rng(3, global_batch_size=7), network)
    gradient(objective.loss, network, [nobody], 1.0)  # as a Poisson batch may be
    close(next(network.parameters()).grad, expected[next(iter(expected))], 1e-9)


def test_private_recipe_gets_noisy_marginals() -> None:
    data = rows(4000)
    exact = TABLE.with_marginals_of(data.values).marginals
    wish = PrivacyConfig(epsilon=1.0, unsafe_seed=0)
    for seen in (data, data.with_modality(MixedTable(TABLE.with_marginals_of(data.values)))):
        guarded = measure_statistics(wish, seen, seen, SchemaCost())
        recipe, planned = plan_dp_sgd(wish, guarded, find_recipe("table-flow", guarded.dataset, "tiny")[1])
        assert isinstance(recipe.modality, MixedTable)
        assert isinstance(guarded.dataset.modality, Table)
        assert recipe.modality.table == guarded.dataset.modality
        assert recipe.modality.table.marginals != exact
        assert [type(expense).__name__ for expense in guarded.ledger.events] == ["GaussianMechanism"]
        assert planned.steps == recipe.train.steps
        assert isinstance(recipe.objective, FlowMatching)
        assert recipe.objective.time_distribution == Uniform()


def test_private_recipe_has_uniform_times() -> None:
    data = rows(4000)
    wish = PrivacyConfig(epsilon=1.0, unsafe_seed=0)
    guarded = measure_statistics(wish, data, data, SchemaCost())
    recipe = recipe_for(data)
    assert isinstance(recipe.objective, FlowMatching)
    combed = replace(recipe, objective=replace(recipe.objective, time_distribution=Stratified()))
    planned, _ = plan_dp_sgd(wish, guarded, combed)
    assert isinstance(planned.objective, FlowMatching)
    assert planned.objective.time_distribution == Uniform()


@pytest.mark.slow
@pytest.mark.parametrize("private", [True, False])
def test_commands(private: bool, tmp_path: pathlib.Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    data, run = rows(600), tmp_path / "run"
    TABLE.write(data.values, {}, tmp_path / "people.csv")
    write_schema(SCHEMA, tmp_path / "schema.json")
    asked = ["fit", str(tmp_path / "people.csv"), "--schema", str(tmp_path / "schema.json"), "--recipe", "table-flow"]
    asked += ["--size", "tiny", "--steps", "4", "--sampling.nfe", "8", "--out", str(run), "--json"]
    asked += ["--epsilon", "3", "--unsafe-seed", "1"] if private else []
    seeds: list[int] = []

    def spy(*args, rng: Rng, **others):
        seeds.append(rng.seed)
        return train(*args, rng=rng, **others)

    monkeypatch.setattr("feller.training.trainer.train", spy)
    assert main(asked) == 0
    assert (seeds != [0]) == private  # times and noise of rows hang on no number that is written down
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["valid"] == 1
    assert 0 <= numbers["tv2"] <= 1
    model = json.loads((run / "model.json").read_text())
    assert model["modality"]["is"] == "MixedTable"
    if private:
        assert 2.9 < numbers["epsilon"] <= 3
        exact = [list(share) for share in TABLE.with_marginals_of(data.values).marginals]
        assert model["modality"]["table"]["marginals"] != exact
        assert "loss" not in (run / "metrics.jsonl").read_text()
    assert main(["sample", str(run), "-n", "20", "--out", str(tmp_path / "made.csv")]) == 0
    made = (tmp_path / "made.csv").read_text().splitlines()
    assert made[0] == "age,job,pay,rich"
    assert len(made) == 21
    assert main(["evaluate", str(run), "--samples", str(tmp_path / "made.csv")]) == 0
    capsys.readouterr()
    assert main(["sample", str(run), "-n", "2", "--given", "rich=yes"]) == 2
    if not private:
        assert main(["fit", "--resume", "--steps", "6", "--out", str(run), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["steps"] == 6
