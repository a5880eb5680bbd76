"""Fréchet distance in the features of a network trained on ImageNet, with the package that has its weights."""

import importlib.util
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation import imagenet_features as module
from feller.evaluation import sample_quality
from feller.evaluation.comparison import ComparedSets
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.imagenet_features import ImageNetFeatures, imagenet_metrics, load_imagenet_features, suits
from feller.evaluation.judge import Judge, _network
from feller.evaluation.two_sample import frechet, frechet_of_few
from feller.training.engine import get_engine
from tests.errors import refuses

COLOUR = Images(32, 32, 3)


class Means(ImageNetFeatures):
    """Means of the colours as features."""

    def __init__(self) -> None:
        super().__init__({}, COLOUR)

    def features(self, values):
        return values.double().mean((2, 3))


def pictures(n: int, shade: int, seed: int = 0) -> Dataset:
    values = Rng(seed).stream("x").randint(20, (n, 3, 1, 1)).to(torch.uint8) + shade
    return Dataset(values.expand(n, 3, 32, 32).contiguous(), {}, COLOUR)


def test_frechet_of_few_points() -> None:
    a, b = Rng(0).stream("a").normal((7, 30)), 2 * Rng(0).stream("b").normal((11, 30)) + 1
    assert frechet_of_few(a, b) == pytest.approx(frechet(a, b), rel=1e-8)
    assert frechet_of_few(a, a) == pytest.approx(0, abs=1e-8)


def test_distances_and_floor() -> None:
    sets = ComparedSets(pictures(60, 50), pictures(70, 0, 1), pictures(60, 0, 2))
    found, notes = imagenet_metrics(sets, Means(), Rng(0), EvaluationBudget(), get_engine())
    assert found["fd_imagenet"] == pytest.approx(
        frechet(*(data.values.double().mean((2, 3)) for data in (sets.samples, sets.real)))
    )
    assert found["fd_imagenet"] > 50**2 > 100 * found["fd_imagenet_floor"]
    assert notes == ()
    few = ComparedSets(pictures(40, 50), pictures(70, 0, 1), None)
    assert set(imagenet_metrics(few, Means(), Rng(0), EvaluationBudget(), get_engine())[0].values()) == {None}


def test_reports_say_how_to_get_the_network(monkeypatch) -> None:
    monkeypatch.setattr(sample_quality, "is_installed", lambda: False)
    data = pictures(60, 0)
    judge = Judge(_network(COLOUR, "rotation", Rng(0)).eval(), COLOUR, "rotation", "")
    found = sample_quality.measure_quality(data, data, data, Rng(0), get_engine(), judge=judge)
    assert "fd_imagenet" not in found.numbers
    assert sum("feller[imagenet]" in note for note in found.notes) == 1
    assert not suits(Images(28, 64, 1))


@pytest.fixture(scope="module")
def network() -> ImageNetFeatures:
    pytest.importorskip(module.PACKAGE)
    return load_imagenet_features(COLOUR, torch.device("cpu"))


def test_network_of_the_package(network, monkeypatch) -> None:
    """Gray images equal colour images of the same shades; other weights are refused."""
    x = Rng(0).stream("x").randint(256, (2, 1, 32, 32)).to(torch.uint8)
    features = network.features(x)
    assert features.shape == (2, 1280)
    assert torch.equal(features, network.features(x.expand(-1, 3, -1, -1)))
    assert 4_600_000 < sum(weight.numel() for weight in network.weights.values()) < 4_800_000
    monkeypatch.setattr(module, "WEIGHTS_SHA256", "0")
    with refuses(InputError):
        load_imagenet_features(COLOUR, torch.device("cpu"))


@pytest.mark.slow
def test_classes_of_photographs(network) -> None:
    """scikit-image's pictures: a cat is an Egyptian cat (285), coffee an espresso (967); also at 64 x 64 pixels."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-image is not installed")
    for name, label in (("chelsea", 285), ("coffee", 967)):
        picture = np.array(Image.open(pathlib.Path(spec.origin).parent / "data" / f"{name}.png").convert("RGB"))
        side, (height, width) = min(picture.shape[:2]), picture.shape[:2]
        top, left = (height - side) // 2, (width - side) // 2
        x = torch.from_numpy(picture[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(x.float(), (64, 64), mode="area").round().to(torch.uint8)
        assert network.classify(x).item() == network.classify(small).item() == label
