"""Code of a person's own is tried on random rows: those that look at each other are refused, ours are not."""

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from feller.app.modalities.registration import find_recipe
from feller.app.workflows.private.plan_dp_sgd import with_independent_times
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
from feller.models.recipes.recipe import Recipe
from feller.privacy.noise.grid_noise import SeededNoise
from feller.training.engine import get_engine
from feller.training.objective import Objective
from feller.training.objectives.marginal_fitting import MarginalFitting

SCHEMA = Schema((Categorical("sex", ("F", "M")), Numerical("age", 0.0, 99.0, bins=10)), "clip")


def table(n: int = 200) -> Dataset:
    codes = torch.stack([torch.arange(n) % 2, torch.arange(n) % 10], 1)
    shares = ((0.5, 0.5), (0.1,) * 10)
    return Dataset(codes, {}, Table(SCHEMA, shares))


def pictures(n: int = 40) -> Dataset:
    values = (torch.arange(n * 64).reshape(n, 1, 8, 8) % 17).to(torch.uint8)
    return Dataset(values, {"label": torch.arange(n) % 3}, Images(8, 8, 1, 16, ("a", "b", "c")))


def ours(data: Dataset, name: str = "auto") -> tuple[Recipe, Dataset, nn.Module]:
    recipe = with_independent_times(find_recipe(name, data, "tiny")[1])
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
def test_recipes_of_ours_pass(data: Dataset, name: str) -> None:
    recipe, data, network = ours(data, name)
    check_user_code(name, recipe)
    check_row_independence(name, recipe.objective, network, data, get_engine())


class Wrapped(Objective):
    """An objective of ours with something wrong about it."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    def draw(self, batch: Any, rng: Rng, network: Any = None) -> Any:
        return self.rule.draw(batch, rng, network)

    def loss(self, network: Any, example: Any) -> Tensor:
        return self.rule.loss(network, example)


class Twice(Wrapped):
    def draw(self, batch: Any, rng: Rng, network: Any = None) -> Any:
        once = super().draw(batch, rng, network)
        return {name: value if name == "given" else torch.cat([value, value]) for name, value in once.items()}


class OneNumber(Wrapped):
    def loss(self, network: Any, example: Any) -> Tensor:
        return super().loss(network, example).mean()


class Centred(Wrapped):
    def loss(self, network: Any, example: Any) -> Tensor:
        each = super().loss(network, example)
        return each - each.mean()


class Divided(Wrapped):
    def loss(self, network: Any, example: Any) -> Tensor:
        each = super().loss(network, example)
        return each / len(each)


class Neighbour(Wrapped):
    def draw(self, batch: Any, rng: Rng, network: Any = None) -> Any:
        example = super().draw(batch, rng, network)
        return {**example, "target": example["target"].roll(1, 0)} if "target" in example else example


class Ranked(Wrapped):
    """Rows are drawn in an order that follows from all of them."""

    def draw(self, batch: Any, rng: Rng, network: Any = None) -> Any:
        order = batch["x_1"].double().flatten(1).sum(1).argsort()
        return super().draw({**batch, "x_1": batch["x_1"][order]}, rng, network)


class ByChance(Wrapped):
    def loss(self, network: Any, example: Any) -> Tensor:
        return super().loss(network, example) * random.random()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Twice, "found 12 for 6 rows"),
        (OneNumber, r"found shape \[\]"),
        (Centred, "the losses of other rows"),
        (Divided, "removing a row changes the losses"),
        (Neighbour, "the losses of other rows"),
        (Ranked, "the losses of other rows"),
        (ByChance, "differ between two calls"),
    ],
)
def test_rows_that_look_at_each_other_are_refused_by_name(kind: type[Wrapped], told: str) -> None:
    recipe, data, network = ours(pictures())
    with pytest.raises(UsageError, match=f"does not support the recipe mine.py:own: .*{told}"):
        check_row_independence("mine.py:own", kind(recipe.objective), network, data, get_engine())


class Remembering(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor, given: Any) -> Tensor:
        self.seen += x_t.sum()
        return self.inner(x_t, t, given)


def test_a_network_that_keeps_numbers_of_rows_is_refused() -> None:
    recipe, data, network = ours(pictures())
    with pytest.raises(UsageError, match="stores values of rows without noise, in seen"):
        check_row_independence("mine.py:own", recipe.objective, Remembering(network), data, get_engine())


def test_a_way_of_counting_or_a_kind_of_data_of_ones_own_is_refused() -> None:
    @dataclass(frozen=True)
    class Mine(MarginalFitting):
        pass

    recipe, data, _ = ours(table())
    counting: Objective = Mine(data.modality.space())  # pyrefly: ignore
    with pytest.raises(UsageError, match="its one-shot objective is user code"):
        check_user_code("mine.py:own", replace(recipe, objective=counting))

    @dataclass(frozen=True)
    class Kind(Table):
        pass

    with pytest.raises(UsageError, match="its modality is user code"):
        check_user_code("mine.py:own", replace(recipe, modality=Kind(SCHEMA)))


def test_stand_ins_are_of_the_kind_and_hang_on_no_row() -> None:
    for data in (table(), pictures()):
        one = random_rows(data, 50, SeededNoise(0, "x"))
        other = random_rows(data.subset(torch.arange(3)), 50, SeededNoise(0, "x"))
        assert torch.equal(one.values, other.values)
        assert len(one) == 50
        assert one.given.keys() == data.given.keys()
        assert one.modality == data.modality
    assert random_rows(table(), 500, SeededNoise(0, "x")).values.amax(0).tolist() == [1, 9]


def test_stand_ins_keep_the_rules_of_a_schema() -> None:
    rules = (Constraint("sex", ("M",), "age", ("< 10",)),)
    data = replace(table(), modality=Table(replace(SCHEMA, rules=rules)))
    codes = random_rows(data, 500, SeededNoise(0, "x")).values
    assert (codes[codes[:, 0] == 1, 1] == 0).all()
    assert codes[:, 1].max() == 9


def test_a_class_that_is_asked_for_is_drawn_too() -> None:
    data = replace(table(), properties={"sex": torch.zeros(200).double()}, target=Target(("sex",), classes=("F", "M")))
    found = random_rows(data, 100, SeededNoise(0, "rows"))
    assert found.target == data.target
    assert 25 < found.properties["sex"].sum() < 75
