"""Training that good images need, and epochs in a training budget."""

import re

import pytest
import torch

from feller.app.modalities.registration import find_recipe
from feller.app.workflows.fitting.image_outlook import (
    epochs_in_budget,
    epochs_trained,
    published_training,
    recommended_size,
    required_training,
)
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.models.cost_estimate import estimate_cost, images_of_shape, network_flops
from feller.training.optimizer import TrainConfig


def quantities(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?![\w.])", text)]


def test_published_training_of_the_next_side() -> None:
    assert published_training(28, 28).examples == published_training(32, 8).examples == 102.4e6
    assert published_training(33, 20).side == 64
    assert published_training(2048, 20).side == 512


def test_reach() -> None:
    data = Dataset(torch.zeros(50, 1, 16, 16, dtype=torch.uint8), {}, Images(16, 16, 1))
    spec = find_recipe("images", data, "tiny")[1].model_spec(data)
    steps = epochs_in_budget(spec, TrainConfig(batch_size=10, steps=20), data)
    assert quantities(steps) == [20, 4]
    assert quantities(epochs_in_budget(spec, TrainConfig(batch_size=10, steps=20), data, 5, 60.0)) == [20, 4, 1]
    # 5 steps in a minute: 2 minutes are 10 steps, 2 epochs, of which 1 is done.
    assert quantities(epochs_in_budget(spec, TrainConfig(batch_size=10, minutes=2.0), data, 5, 60.0)) == [2, 2, 1]
    assert quantities(epochs_trained(data.modality, 50, 20, 10)) == [200, 20, 4]
    moons = read("example:moons")
    assert epochs_in_budget(find_recipe("auto", moons, "tiny")[1].model_spec(moons), TrainConfig(steps=1), moons) == ""
    assert required_training(moons.modality, 100) == required_training(Images(8, 8, 1), 100) == ""


def test_network_flops_are_a_third_of_a_training_step() -> None:
    data = images_of_shape(3, 16, 16)
    recipe = find_recipe("images", data, "tiny")[1]
    assert 3 * network_flops(recipe.model_spec(data)) == pytest.approx(
        estimate_cost(recipe, data).flops_per_example, 0.03
    )


def test_recommended_size() -> None:
    """As many parameters as the U-Net of DDPM for 32 x 32 pixels, 36 million, within a factor of two."""
    size, parameters, _, batch_size = recommended_size(32, 32)
    assert 18e6 < parameters < 72e6
    text, gray = (required_training(Images(32, 32, channels), 1_000_000) for channels in (3, 1))
    assert f"--size {size} " in text
    assert {102, round(102.4e6 / batch_size)} <= {*quantities(text)}
    assert 102 in quantities(gray)
