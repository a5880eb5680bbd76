"""Tests of the scene classifier and of text scores."""

from dataclasses import replace

import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.evaluation.document_metrics import is_exact_match, normalized_words, token_f1
from feller_papers.cm3leon.judges import (
    TRAINING,
    SceneClassifier,
    SceneJudge,
    scene_labels,
    train_scene_judge,
    unique_share,
)
from feller_papers.cm3leon.reading import stack_pictures
from feller_papers.scenes.drawing import Scene, Thing, draw_scenes, render


@pytest.fixture(scope="module")
def judge() -> SceneJudge:
    scenes = draw_scenes(2000, Rng(0))
    training = replace(TRAINING, steps=250, batch_size=64, lr=4e-3)
    return train_scene_judge(stack_pictures([render(scene, 16) for scene in scenes]), scenes, Rng(0), training)


def pictures(seed: int, n: int = 500) -> tuple[list[Scene], torch.Tensor]:
    scenes = draw_scenes(n, Rng(seed).fold_in("unseen"))
    return scenes, stack_pictures([render(scene, 16) for scene in scenes])


@pytest.mark.slow
def test_accuracy_on_unseen_scenes(judge: SceneJudge) -> None:
    """Over 80 % after few steps; over 99 % with the default budget and 8,000 scenes."""
    scenes, values = pictures(1)
    accuracy = judge.accuracy(values, scenes)
    assert accuracy["ground"] > 0.98
    assert accuracy["colour"] > 0.93
    assert accuracy["shape"] > 0.8
    shuffled = judge.accuracy(values, scenes[1:] + scenes[:1])
    assert max(shuffled.values()) < 0.3


@pytest.mark.slow
def test_distance_grows_with_corruption(judge: SceneJudge) -> None:
    """Real scenes are closest; noisy scenes and scenes of one shape are farther."""
    _, real = pictures(1)
    other, values = pictures(2)
    floor = judge.distance(values, real)
    noisy = (values + 60 * Rng(3).stream("noise").normal(values.shape)).clamp(0, 255).byte()
    stars = stack_pictures(
        [
            render(replace(scene, things=tuple(replace(thing, shape="star") for thing in scene.things)), 16)
            for scene in other
        ]
    )
    assert 0 < floor < 5
    assert judge.distance(noisy, real) > 2 * floor
    assert judge.distance(stars, real) > 1.7 * floor
    assert judge.distance(real, real) == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="found 1 and 500"):
        judge.distance(values[:1], real)


def test_judge_depends_on_the_seed() -> None:
    scenes, values = pictures(0, 40)
    training = replace(TRAINING, steps=2)
    first, same, other = (train_scene_judge(values, scenes, Rng(seed), training).features(values) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_scene_labels() -> None:
    scene = Scene("orange", (Thing("red", "star", "small", (0, 2)), Thing("gray", "circle", "large", (2, 1))))
    labels = scene_labels([scene])
    assert labels["ground"].tolist() == [1]
    assert labels["colour"].tolist() == [[0, 0, 1, 0, 0, 0, 0, 10, 0]]
    assert labels["shape"].tolist() == [[0, 0, 4, 0, 0, 0, 0, 1, 0]]


@pytest.mark.parametrize("side", [16, 32, 48])
def test_any_side(side: int) -> None:
    ground, colour, shape = SceneClassifier(side)(torch.zeros(2, 3, side, side))
    assert (ground.shape, colour.shape, shape.shape) == ((2, 10), (2, 9, 11), (2, 9, 9))


def test_unique_share() -> None:
    values = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    assert unique_share(values) == 0.25
    values[1, 0, 0, 0] = values[2, 1, 0, 0] = 1
    assert unique_share(values) == 0.75
    with pytest.raises(InputError, match="found none"):
        unique_share(values[:0])


def test_answers_by_hand() -> None:
    assert normalized_words("The red star, at the top-left!") == ["red", "star", "at", "top", "left"]
    assert is_exact_match(" Red. ", "red")
    assert is_exact_match("a red star", "Red star")
    assert not is_exact_match("red star", "star red")
    assert not is_exact_match("", "red")
    assert token_f1("a red star on blue", "the red ring on blue") == pytest.approx(0.75)
    assert token_f1("red", "red star") == pytest.approx(2 / 3)
    assert token_f1("red red", "red star") == pytest.approx(0.5)
    assert token_f1("blue", "red") == 0
    assert token_f1("", "red") == 0
    assert token_f1("", "") == 1
    assert token_f1("3", "3") == 1
