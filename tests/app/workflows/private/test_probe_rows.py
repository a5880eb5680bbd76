"""User code is probed with random rows: losses may not depend on other rows."""

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from feller.app.modalities.registration import find_recipe
from feller.app.workflows.private.plan_dp_sgd import with_independent_rows
from feller.app.workflows.private.probe_rows import check_row_independence, check_user_code, random_rows
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Target
from feller.data.tables.column import Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.privacy.noise.grid_noise import SeededNoise
from feller.training.engine import get_engine
from feller.training.objective import Objective
from feller.training.objectives.marginal_fitting import MarginalFitting
from tests.errors import refuses

SCHEMA = Schema((Categorical("sex", ("F", "M")), Numerical("age", 0.0, 99.0, bins=10)), "clip")


def table(n=200):
    codes = torch.stack([torch.arange(n) % 2, torch.arange(n) % 10], 1)
    shares = ((0.5, 0.5), (0.1,) * 10)
    return Dataset(codes, {}, Table(SCHEMA, shares))


def pictures(n=40):
    values = (torch.arange(n * 64).reshape(n, 1, 8, 8) % 17).to(torch.uint8)
    return Dataset(values, {"label": torch.arange(n) % 3}, Images(8, 8, 1, 16, ("a", "b", "c")))


def ours(data, name="auto"):
    recipe = with_independent_rows(find_recipe(name, data, "tiny")[1])
    data = data.with_modality(recipe.modality or data.modality)
    return recipe, data, recipe.model_spec(data).build(Rng(0))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (table(), "table"),
        (table(), "table-flow"),
        (pictures(), "auto"),
        (pictures(), "levels-mask"),
        (pictures(), "image-label"),
    ],
)
def test_built_in_recipes_pass(data, name):
    recipe, data, network = ours(data, name)
    check_user_code(name, recipe)
    check_row_independence(name, recipe.objective, network, data, get_engine())


class Wrapped(Objective):
    """An objective whose examples, or losses, are changed."""

    def __init__(self, rule: Objective, examples: Any = lambda one: one, losses: Any = lambda each: each) -> None:
        self.rule, self.examples, self.losses = rule, examples, losses

    def draw(self, batch: Any, rng: Rng, network: Any = None) -> Any:
        return self.examples(self.rule.draw(batch, rng, network))

    def loss(self, network: Any, example: Any) -> Tensor:
        return self.losses(self.rule.loss(network, example))


class Sorted(Wrapped):
    def draw(self, batch: Any, rng: Rng, network: Any = None) -> Any:
        order = batch["x_1"].double().flatten(1).sum(1).argsort()
        return super().draw({**batch, "x_1": batch["x_1"][order]}, rng, network)


def twice(example):
    return {name: value if name == "given" else torch.cat([value, value]) for name, value in example.items()}


def neighbour(example):
    return {**example, "target": example["target"].roll(1, 0)}


@pytest.mark.parametrize(
    ("wrap", "found"),
    [
        (lambda rule: Wrapped(rule, examples=twice), "12 for 6 rows"),
        (lambda rule: Wrapped(rule, losses=torch.mean), "shape []"),
        (lambda rule: Wrapped(rule, losses=lambda each: each - each.mean()), "the losses of other rows"),
        (lambda rule: Wrapped(rule, losses=lambda each: each / len(each)), "removing a row"),
        (lambda rule: Wrapped(rule, examples=neighbour), "the losses of other rows"),
        (Sorted, "the losses of other rows"),
        (lambda rule: Wrapped(rule, losses=lambda each: each * random.random()), "between two calls"),
    ],
    ids=["twice", "one number", "centred", "divided", "neighbour", "sorted", "random"],
)
def test_losses_that_depend_on_other_rows(wrap, found):
    recipe, data, network = ours(pictures())
    with refuses(UsageError) as caught:
        check_row_independence("mine.py:own", wrap(recipe.objective), network, data, get_engine())
    assert "mine.py:own" in str(caught.value)
    assert found in str(caught.value)


class Remembering(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor, given: Any) -> Tensor:
        self.seen += x_t.sum()
        return self.inner(x_t, t, given)


def test_network_that_stores_values_of_rows():
    recipe, data, network = ours(pictures())
    with refuses(UsageError) as caught:
        check_row_independence("mine.py:own", recipe.objective, Remembering(network), data, get_engine())
    assert "in seen" in str(caught.value)


def test_user_objective_in_closed_form_and_user_modality():
    @dataclass(frozen=True)
    class Mine(MarginalFitting):
        pass

    @dataclass(frozen=True)
    class Kind(Table):
        pass

    recipe, data, _ = ours(table())
    counting: Objective = Mine(data.modality.space())  # pyrefly: ignore
    for changes in ({"objective": counting}, {"modality": Kind(SCHEMA)}):
        with refuses(UsageError):
            check_user_code("mine.py:own", replace(recipe, **changes))


def test_random_rows_do_not_depend_on_the_rows():
    for data in (table(), pictures()):
        one = random_rows(data, 50, SeededNoise(0, "x"))
        other = random_rows(data.subset(torch.arange(3)), 50, SeededNoise(0, "x"))
        assert torch.equal(one.values, other.values)
        assert len(one) == 50
        assert one.given.keys() == data.given.keys()
        assert one.modality == data.modality
    assert random_rows(table(), 500, SeededNoise(0, "x")).values.amax(0).tolist() == [1, 9]


def test_random_rows_keep_the_rules_of_a_schema():
    rules = (Constraint("sex", ("M",), "age", ("< 10",)),)
    data = replace(table(), modality=Table(replace(SCHEMA, rules=rules)))
    codes = random_rows(data, 500, SeededNoise(0, "x")).values
    assert (codes[codes[:, 0] == 1, 1] == 0).all()
    assert codes[:, 1].max() == 9


def test_random_targets():
    data = replace(table(), properties={"sex": torch.zeros(200).double()}, target=Target(("sex",), classes=("F", "M")))
    found = random_rows(data, 100, SeededNoise(0, "rows"))
    assert found.target == data.target
    assert 25 < found.properties["sex"].sum() < 75
