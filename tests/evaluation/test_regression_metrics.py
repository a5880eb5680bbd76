"""Regression errors, and trained regressors as rewards."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.crystals.modality import Crystals
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Modality, Target
from feller.data.molecules.modality import Molecules
from feller.data.points.euclidean_points import Points
from feller.evaluation.regression_metrics import TrainedRegressor, regression_errors
from feller.models.families.path_process import PathProcess
from feller.models.families.predictive_models import RegressionModel
from feller.models.model import Model
from feller.models.spec import ModelSpec
from feller.networks import EGNN, MLP, ConvClassifier, NetworkConfig, Regressor, TokenCodec
from feller.paths import Affine
from tests.errors import refuses
from tests.oracle import close

F64 = torch.float64
ONE = Target(("y",), (10.0,), (2.0,))


def model(modality: Modality, architecture: NetworkConfig, target: Target = ONE) -> Model:
    """Return a model whose weights are not zero."""
    about = ModelSpec(modality, modality.space(), RegressionModel(target), architecture)
    network, generator = about.build(Rng(0)), torch.Generator().manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.2, generator=generator)
    return Model.from_spec(about, network)


def test_errors_of_numeric_targets() -> None:
    told, truth = torch.tensor([[1.0], [2.0], [6.0]], dtype=F64), torch.tensor([[1.0], [4.0], [4.0]], dtype=F64)
    found = regression_errors(Target(("y",), (2.0,), (1.0,)), told, truth)
    assert found == pytest.approx({"mae": 4 / 3, "mae_constant": 5 / 3, "r2": 1 - 8 / 6})
    two = regression_errors(
        Target(("a", "b"), (0.0, 2.0), (1.0, 1.0)), torch.cat([truth, told], 1), torch.cat([truth] * 2, 1)
    )
    assert two["mae_a"] == 0
    assert two["r2_a"] == 1
    assert two["mae_b"] == found["mae"]
    assert two["mae_constant_a"] == 3
    assert regression_errors(ONE, told, torch.full_like(told, 3.0))["r2"] is None


def test_errors_of_classes() -> None:
    target = Target(("label",), classes=("x", "y", "z"))
    logits = torch.eye(3, dtype=F64)[torch.tensor([0, 1, 2, 0])]
    found = regression_errors(target, logits, torch.tensor([[0], [1], [1], [1]], dtype=F64))
    assert found == {"accuracy": 0.5, "accuracy_constant": 0.75}
    two = Target(("label",), classes=("x", "y"))
    scores = torch.stack([torch.zeros(4, dtype=F64), torch.tensor([0.1, 0.4, 0.35, 0.8], dtype=F64)], 1)
    ranked = regression_errors(two, scores, torch.tensor([[0], [0], [1], [1]], dtype=F64))
    assert ranked["auc"] == 0.75
    assert regression_errors(two, scores, torch.ones(4, 1, dtype=F64))["auc"] is None


def test_regressor_matches_elements_by_symbol() -> None:
    """A model with other numbers for elements, another scale and more room says the same of the same molecules."""
    data = read("example:molecules").subset(torch.arange(6))
    kind: Any = data.modality
    assert isinstance(kind, Molecules)
    symbols = (*reversed(kind.elements), "Si")
    other = replace(kind, elements=symbols, scale=2 * kind.scale, longest=kind.longest + 3)
    ours = model(kind, Regressor(EGNN({"element": TokenCodec(len(kind.elements), has_mask=False)}, width=8), 1))
    valid = data.given["valid"]["element"]
    places = torch.tensor([symbols.index(symbol) for symbol in kind.elements])
    values = {
        "element": nn.functional.pad(places[data.values["element"]], (0, 3)),
        "place": nn.functional.pad(data.values["place"], (0, 0, 0, 3), value=5.0),
    }
    marks = nn.functional.pad(valid, (0, 3))
    expected = TrainedRegressor(ours, kind)(data.values, data.given)
    assert expected.std() > 1e-3
    oracle = TrainedRegressor(ours, replace(other, elements=symbols[:-1]))
    close(oracle(values, {"valid": {"element": marks, "place": marks}}), expected, 1e-5)
    with refuses(UsageError):
        TrainedRegressor(ours, other)


def test_regressor_matches_columns_by_name() -> None:
    kind = Points(("a", "b"), (1.0, 2.0), (3.0, 4.0))
    oracle = TrainedRegressor(model(kind, Regressor(MLP(8, 1), 1)), Points(("c", "b", "a"), (0.0,) * 3, (1.0,) * 3))
    values = torch.tensor([[7.0, 1.0, 2.0], [9.0, -3.0, 0.5]], dtype=F64, requires_grad=True)
    answer = oracle(values, {})
    close(answer, TrainedRegressor(model(kind, Regressor(MLP(8, 1), 1)), kind)(values[:, [2, 1]], {}), 1e-6)
    (slope,) = torch.autograd.grad(answer.sum(), values)
    assert (slope[:, 0] == 0).all()
    h = 0.01
    step = torch.tensor([0.0, 0.0, h], dtype=F64)
    ratio = (oracle(values + step, {}) - oracle(values - step, {}))[:, 0] / (2 * h)
    close(slope[:, 2], ratio.detach(), 1e-3)
    with refuses(UsageError):
        TrainedRegressor(model(kind, Regressor(MLP(8, 1), 1)), Points(("a",), (0.0,), (1.0,)))


def test_regressor_units() -> None:
    kind = Points(("a",), (0.0,), (1.0,))
    constant = model(kind, Regressor(MLP(8, 1), 1))
    for name, weight in constant.network.named_parameters():
        weight.data.fill_(0.5 if name == "linear_head.bias" else 0.0)
    close(TrainedRegressor(constant, kind)(torch.zeros(3, 1, dtype=F64), {}), [[11.0]] * 3, 1e-6)


def test_regressor_of_images_with_other_levels() -> None:
    kind = Images(8, 8, 1, 16)
    teller = model(kind, ConvClassifier(3), Target(("label",), classes=("x", "y", "z")))
    values = Rng(0).stream("x").uniform((4, 1, 8, 8)) * 16
    expected = TrainedRegressor(teller, kind)(values, {})
    close(
        TrainedRegressor(teller, replace(kind, levels=255, classes=("p", "q")))(values * (255 / 16), {}), expected, 1e-5
    )
    both = LabelledImages(replace(kind, classes=("p", "q")))
    close(
        TrainedRegressor(teller, both)({"image": values, "label": torch.zeros(4, dtype=torch.long)}, {}), expected, 1e-5
    )
    with refuses(UsageError):
        TrainedRegressor(teller, Images(8, 9, 1, 16))


def test_regressor_of_other_modalities() -> None:
    kind = Points(("a",), (0.0,), (1.0,))
    crystals = read("example:perovskites").modality
    assert isinstance(crystals, Crystals)
    with refuses(UsageError):
        TrainedRegressor(model(kind, Regressor(MLP(8, 1), 1)), crystals)
    about = ModelSpec(kind, kind.space(), PathProcess(Affine()), MLP(8, 1))
    with refuses(UsageError):
        TrainedRegressor(Model.from_spec(about, about.build(Rng(0))), kind)
