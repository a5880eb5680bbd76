"""Molecules steered by a property in closed form, without a trained regressor."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from feller.app.modalities.registration import find_recipe
from feller.control.optimize.lbfgs import LBFGS
from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset, Target
from feller.evaluation.regression_metrics import TrainedRegressor
from feller.models.model import Model
from feller_papers.claims import FAILS, HOLDS
from feller_papers.d_flow.molecules import TARGETS, Row, SampleMetrics, SearchConfig, claims_of, evaluate
from feller_papers.setting import fit_recipe

SIZE = Target(("size",), (2.0,), (0.5,))


class Ruler(TrainedRegressor):
    """Radius of gyration of a molecule without masses, in Å."""

    def __init__(self) -> None:
        self.target = SIZE

    def __call__(self, values: Any, cond: Any) -> Tensor:
        valid = cond["valid"]["place"][:, :, None]
        number = valid.sum(1, keepdim=True)
        place = torch.where(valid, values["place"], 0).double()
        away = torch.where(valid, place - place.sum(1, keepdim=True) / number, 0)
        return (away.square().sum((1, 2)) / number[:, 0, 0]).sqrt()[:, None]

    def predict(self, data: Dataset) -> Tensor:
        with torch.no_grad():
            return self(data.values, data.given)


@pytest.fixture(scope="module")
def data() -> Dataset:
    some = read("example:molecules").subset(torch.arange(24))
    return replace(some, properties={"size": Ruler().predict(some)[:, 0]})


@pytest.fixture(scope="module")
def model(data: Dataset) -> Model:
    _, recipe = find_recipe("molecules", data, "tiny")
    return fit_recipe(replace(recipe, train=replace(recipe.train, warmup=5, ema_decay=0.9)), data, 30, 0)


@pytest.mark.slow
def test_steered_samples_have_a_lower_error(data: Dataset, model: Model) -> None:
    ruler = Ruler()
    targets = data.subset(torch.arange(6))
    row = evaluate(model, ruler, ruler, data, targets, "size", SearchConfig(LBFGS(steps=4, max_line_search=4)), Rng(0))
    assert row.steered.mae < 0.5 * row.unguided.mae
    assert row.steered_finely.mae < row.unguided_finely.mae
    assert row.guide_error == row.steered.mae
    assert row.judge_error < 1e-9
    number = data.given["valid"]["place"].sum(1)
    means = torch.stack([data.properties["size"][number == wanted].mean() for wanted in number[:6]])
    assert row.atom_count_error == pytest.approx((means - data.properties["size"][:6]).abs().mean().item())
    assert 0 <= row.steered.stable_molecules <= row.steered.stable_atoms <= 1


def row(name: str, steered: float, atoms: float = 0.8) -> Row:
    """Return a row whose unguided samples have an error of 1."""
    after, before = SampleMetrics(steered, atoms, 0.1), SampleMetrics(1.0, 0.85, 0.2)
    return Row(
        name, after, before, after, before, guide_error=0.1, atom_count_error=1.2, shuffled_error=2.0, judge_error=0.05
    )


def test_claims() -> None:
    found = [row(name, 1.5 if name in ("gap", "homo", "lumo", "mu") else 0.5, 0.7) for name in TARGETS]
    claims = list(claims_of(found, 6))
    assert [claim.verdict for claim in claims] == [FAILS, HOLDS, FAILS, FAILS, FAILS, HOLDS, FAILS, FAILS, FAILS]
    good = list(claims_of([row(name, 0.4) for name in TARGETS], 6))
    assert all(claim.verdict == HOLDS for claim in good)
    gap = next(claim for claim in good if "the gap of" in claim.claim)
    assert f"{0.4 * 27211.386:.3g} meV steered" in gap.ours
    assert gap.paper == "344 meV steered, 591 unguided"
