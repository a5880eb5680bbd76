"""Judges: image classifiers by label or rotation."""

import dataclasses
import pathlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad, vmap

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.safetensors_io import save_tensors
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.evaluation import judge
from feller.evaluation.judge import (
    TRAINING,
    Judge,
    LabelClassification,
    RotationClassification,
    judge_accuracy,
    load_judge,
    save_judge,
    train_judge,
    turn,
    window,
)
from feller.networks.image.classifier import FEATURE_DIM, ImageClassifier
from feller.training.engine import get_engine
from tests.errors import refuses


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "TRAINING", dataclasses.replace(TRAINING, steps=20))


def without_labels(dataset: Dataset) -> Dataset:
    return Dataset(dataset.values, {}, dataset.modality)


def same(a: Judge, b: Judge) -> bool:
    theirs = b.network.state_dict()
    return all(torch.equal(weight, theirs[name]) for name, weight in a.network.state_dict().items())


def test_judge_of_digits(digit_judge: Judge, unseen: Dataset) -> None:
    assert digit_judge.target == "label"
    assert digit_judge.accuracy >= 0.97
    right = (digit_judge.classify(unseen.values) == unseen.given["label"]).double().mean().item()
    assert digit_judge.accuracy == right
    assert digit_judge.data.startswith("1,437 ")


def test_features_do_not_depend_on_the_batch(
    digit_judge: Judge, unseen: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = digit_judge.features(unseen.values)
    assert whole.dtype == torch.float64
    monkeypatch.setattr(judge, "CHUNK", 7)
    torch.testing.assert_close(digit_judge.features(unseen.values), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_judge_of_rotations(digits: Dataset, unseen: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "TRAINING", dataclasses.replace(TRAINING, steps=300))
    turner = train_judge(without_labels(digits), without_labels(unseen), Rng(0), get_engine())
    assert turner.target == "rotation"
    assert "rotations" in turner.data
    assert turner.accuracy > 0.7
    upside_down = unseen.values.rot90(2, (2, 3))
    assert (turner.classify(upside_down) == 2).double().mean() > 0.7


@pytest.mark.usefixtures("briefly")
def test_judge_depends_on_the_seed(digits: Dataset, unseen: Dataset) -> None:
    before = torch.random.get_rng_state()
    one, again, other = (train_judge(digits, unseen, Rng(seed), get_engine()) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(one, again)
    assert one.accuracy == again.accuracy
    assert not same(one, other)


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 64, 48), (1, 5, 9), (3, 1, 20)])
def test_features_of_other_sizes(channels: int, height: int, width: int) -> None:
    values = Rng(0).stream("x").randint(256, (30, channels, height, width)).to(torch.uint8)
    plain = Dataset(values, {}, Images(height, width, channels))
    seen = train_judge(plain, plain, Rng(0), get_engine())
    assert seen.features(values).shape == (30, 32)
    assert torch.isfinite(seen.features(values)).all()


@pytest.mark.usefixtures("briefly")
def test_single_class_trains_on_rotations(digits: Dataset, unseen: Dataset) -> None:
    ones = digits.subset((digits.given["label"] == 1).nonzero()[:, 0])
    assert train_judge(ones, unseen, Rng(0), get_engine()).target == "rotation"


def test_accuracy_without_held_out_labels(digit_judge: Judge, unseen: Dataset) -> None:
    assert judge_accuracy(digit_judge, unseen.subset(torch.arange(0))) is None
    assert judge_accuracy(digit_judge, without_labels(unseen)) is None


def test_points_are_refused() -> None:
    moons = read("example:moons")
    with refuses(InputError, found="rows of numbers"):
        train_judge(moons, moons, Rng(0), get_engine())


def test_save_and_load(digit_judge: Judge, unseen: Dataset, tmp_path: pathlib.Path) -> None:
    save_judge(tmp_path / "judge.safetensors", digit_judge)
    kept = load_judge(tmp_path / "judge.safetensors")
    assert same(digit_judge, kept)
    assert torch.equal(kept.classify(unseen.values), digit_judge.classify(unseen.values))
    for name in ("modality", "target", "data", "accuracy"):
        assert getattr(kept, name) == getattr(digit_judge, name)


def test_invalid_files(digit_judge: Judge, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "judge.safetensors"
    with refuses(InputError, file=str(path), found="none"):
        load_judge(path)
    for note in ({}, {"judge": "{"}, {"judge": "[]"}, {"judge": "{}"}, {"judge": '{"modality": 1, "target": 2}'}):
        save_tensors(path, {"x": torch.zeros(2)}, note)
        with refuses(InputError, file=str(path), found=None):
            load_judge(path)
    save_judge(path, dataclasses.replace(digit_judge, target="rotation"))
    with refuses(InputError, file=str(path), found=None):
        load_judge(path)
    save_judge(path, digit_judge)
    path.write_bytes(path.read_bytes()[:-9])
    with refuses(InputError, file=str(path), found=None):
        load_judge(path)


def pictures(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    return Rng(0).stream("pictures").normal((n, channels, height, width))


@settings(deadline=None, max_examples=15)
@given(channels=st.sampled_from([1, 3]), height=st.integers(1, 64), width=st.integers(1, 64))
def test_classifier_of_any_size(channels: int, height: int, width: int) -> None:
    network = ImageClassifier((channels, height, width), 5, Rng(0))
    x = pictures(2, channels, height, width)
    assert network(x).shape == (2, 5)
    assert network.features(x).shape == (2, FEATURE_DIM)


def test_classifier_weights_depend_on_rng() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (ImageClassifier((1, 8, 8), 3, Rng(seed)).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_window() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = window(x, torch.tensor([-1]), torch.tensor([1]), 3, 3)
    assert seen[0, 0].tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]


def test_turn() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2).repeat(4, 1, 1, 1)
    turned = turn(x, torch.arange(4))[:, 0].tolist()
    assert turned == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]


def test_label_classification_shifts_images() -> None:
    x = pictures(300, 1, 8, 8)
    label = torch.arange(300) % 7
    example = LabelClassification().draw({"x_1": x, "given": {"label": label}}, Rng(0))
    assert torch.equal(example["answer"], label)
    places = [(top, left) for top in (-1, 0, 1) for left in (-1, 0, 1)]
    moved = [window(x, torch.full((300,), top), torch.full((300,), left), 8, 8) for top, left in places]
    found = torch.stack([(example["x"] == y).flatten(1).all(1) for y in moved])
    assert (found.sum(0) == 1).all()
    assert (found.sum(1) > 10).all()  # expected 33, deviation 5.4: a false alarm in 10^5 seeds


def test_rotation_classification() -> None:
    x = torch.arange(20.0).repeat(200, 1, 4, 1)
    example = RotationClassification().draw({"x_1": x, "given": {}}, Rng(0))
    assert example["x"].shape == (200, 1, 4, 4)
    assert example["answer"].unique().tolist() == [0, 1, 2, 3]
    back = turn(example["x"], -example["answer"] % 4)
    assert (back[:, :, :1] == back).all()  # each row is alike again
    assert back.unique().tolist() == list(range(20))


@pytest.mark.parametrize("objective", [LabelClassification(), RotationClassification()])
def test_per_example_gradients(objective) -> None:
    network = ImageClassifier((1, 6, 6), 4, Rng(0)).double()
    batch = {"x_1": pictures(3, 1, 6, 6).double(), "given": {"label": torch.tensor([0, 2, 1])}}
    example = objective.draw(batch, Rng(1), network)
    weights = dict(network.named_parameters())

    def loss(weights: dict, x: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        one = {"x": x[None], "answer": answer[None]}
        return objective.loss(lambda x: functional_call(network, weights, (x,)), one)[0]

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, example["x"], example["answer"])
    objective.loss(network, example).sum().backward()
    for name, weight in weights.items():
        torch.testing.assert_close(each[name].sum(0), weight.grad)
