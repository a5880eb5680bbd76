"""Joint network of an image and its label."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.image.image_label_net import ImageLabelNet, ImageLabelNetwork
from feller.networks.image.unet import UNet
from tests.errors import refuses
from tests.networks.checks import check_record, randomize_weights

PICTURES = UNet(channels=8, multipliers=(1, 2), blocks=1, attention=(False,))
SETTINGS = ImageLabelNet(PICTURES, 4, channels=8)
SHAPE = {"image": (1, 9, 8), "label": ()}
T = torch.tensor([0.2, 0.6, 0.9])


def state() -> dict[str, Tensor]:
    draw = Rng(0).stream("x")
    return {"image": draw.normal((3, 1, 9, 8)), "label": torch.tensor([0, 3, 4])}


def random_network() -> ImageLabelNetwork:
    return randomize_weights(SETTINGS.build(SHAPE, {}, Rng(0)), 0.2)


def test_a_new_network_answers_with_zero() -> None:
    answer = SETTINGS.build(SHAPE, {}, Rng(0))(state(), T, {})
    assert answer["image"].shape == (3, 1, 9, 8)
    assert answer["label"].shape == (3, 4)
    assert all((leaf == 0).all() for leaf in answer.values())
    check_record(SETTINGS)


def test_dependence_between_image_and_label() -> None:
    network, x = random_network(), state()
    answer = network(x, T, {})
    plain = network.image_network(x["image"], T, {"label": x["label"]})
    assert torch.equal(answer["image"], plain)
    other = network({**x, "label": torch.tensor([1, 1, 1])}, T, {})
    assert (other["image"] - answer["image"]).abs().flatten(1).amax(1).min() > 1e-3
    assert torch.equal(other["label"], answer["label"])
    moved = network({**x, "image": x["image"] + 0.3}, T, {})
    assert (moved["label"] - answer["label"]).abs().amax(1).min() > 1e-4
    late = network(x, {"image": T / 2, "label": T}, {})
    assert (late["label"] - answer["label"]).abs().amax(1).min() > 1e-5


@pytest.mark.parametrize("shape", [(1, 8, 8), {"image": (1, 8, 8)}, {"image": (8, 8), "label": ()}])
def test_states_of_other_shapes_are_refused(shape: object) -> None:
    with refuses(UsageError):
        SETTINGS.build(shape, {}, Rng(0))
    with refuses(UsageError):
        SETTINGS.build(SHAPE, {"label": 3}, Rng(0))
    with refuses(UsageError):
        ImageLabelNet(PICTURES, 0)
