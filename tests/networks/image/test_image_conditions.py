"""Images as conditions of U-Net and DiT: null is told apart, sides may differ, and a network learns to copy."""

import math

import pytest
import torch

import feller
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.conditions.image_condition import ImageCondition
from feller.data.conditions.numbers import NumberCondition
from feller.networks.image.dit import DiT
from feller.networks.image.image_conditions import add_noise, resize
from feller.networks.image.unet import UNet
from feller.networks.mlp import MLP
from tests.errors import refuses

CONDITIONS = {"small": ImageCondition(1, 2, 2), "x": NumberCondition(0.0, 1.0, -1.0, 1.0)}
CONFIGS = [UNet(8, (1,), 1, (False,)), DiT(patch=2, width=16, depth=1, heads=2)]


@pytest.mark.parametrize("config", CONFIGS, ids=["unet", "dit"])
def test_images_change_the_prediction_and_null_is_not_a_gray_image(config: UNet | DiT) -> None:
    network = config.build((3, 5, 4), CONDITIONS, Rng(0))
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    assert {*network.null_values} == {"small", "x"}
    x, t, one = torch.randn(1, 3, 5, 4), torch.tensor([0.5]), torch.zeros(1, dtype=torch.float64)
    images = [torch.full((1, 1, 2, 2), value) for value in (-1.0, 0.0, 1.0, math.nan)]
    outputs = [network(x, t, {"small": image, "x": one}).flatten() for image in images]
    assert all(output.isfinite().all() for output in outputs)
    assert torch.pdist(torch.stack(outputs)).min() > 1e-3


@pytest.mark.parametrize("config", CONFIGS, ids=["unet", "dit"])
def test_noise_of_a_shrunk_image_is_told_to_the_network(config: UNet | DiT) -> None:
    """The same image with another level gives another prediction; without a level it has that of sampling."""
    network = config.build((1, 4, 4), {"small": ImageCondition(1, 2, 2, noise=0.5)}, Rng(0))
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    x, t, image = torch.randn(1, 1, 4, 4), torch.tensor([0.5]), torch.zeros(1, 1, 2, 2)
    levels = [torch.cat([image, torch.full_like(image, level)], 1) for level in (0.0, 0.1, 0.5)]
    outputs = torch.stack([network(x, t, {"small": value}).flatten() for value in levels])
    assert torch.pdist(outputs).min() > 1e-3
    noisy = image + 0.1 * network.images.pattern_0
    expected = network(x, t, {"small": torch.cat([noisy, torch.full_like(image, 0.1)], 1)})
    torch.testing.assert_close(network(x, t, {"small": image}), expected)


def test_noise_in_training_has_the_drawn_level() -> None:
    """Residuals divided by the level are standard normal, levels are uniform, and null stays null."""
    images = torch.zeros(4000, 1, 4, 4)
    images[0] = math.nan
    noisy = add_noise({"small": images, "x": torch.zeros(4000)}, {"small": 0.5}, Rng(0).step(3))["small"]
    level, residuals = noisy[1:, 1:, :1, :1], noisy[1:, :1] / noisy[1:, 1:]
    assert noisy[0, 0].isnan().all()
    assert level.min() >= 0
    assert level.max() < 0.5
    assert level.mean().item() == pytest.approx(0.25, abs=0.01)
    assert residuals.mean().item() == pytest.approx(0, abs=0.02)
    assert residuals.std().item() == pytest.approx(1, abs=0.02)
    network = CONFIGS[0].build((1, 4, 4), {"small": ImageCondition(1, 4, 4, noise=0.5)}, Rng(0))
    objective = feller.FlowMatching(feller.Affine(), feller.Euclidean((1, 4, 4)))
    example = objective.draw({"x_1": images[1:9], "small": images[1:9]}, Rng(0).step(0), network)
    assert example["given"]["small"].shape == (8, 2, 4, 4)


def test_other_networks_refuse_images() -> None:
    with refuses(UsageError):
        MLP(width=8, depth=1).build((2,), CONDITIONS, Rng(0))


def test_resizing_keeps_the_mean() -> None:
    image = torch.rand(2, 1, 8, 6)
    for size in ((4, 3), (16, 3), (4, 12), (16, 12)):
        assert resize(image, size).shape[2:] == size
    torch.testing.assert_close(resize(image, (4, 3)).mean(), image.mean())
    torch.testing.assert_close(resize(image, (2, 2))[:, :, 0, 0], image[:, :, :4, :3].mean((2, 3)))


def test_a_small_network_learns_to_copy() -> None:
    """The data are the conditioned images; samples given new images are close to these."""
    torch.manual_seed(0)
    network = UNet(16, (1,), 1, (False,)).build((1, 4, 4), {"small": ImageCondition(1, 4, 4)}, Rng(0))
    objective = feller.FlowMatching(feller.Affine(), feller.Euclidean((1, 4, 4)), null={"small": math.nan})
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(300):
        images = torch.randint(0, 2, (32, 1, 4, 4)).float() * 2 - 1
        loss = objective.loss(network, objective.draw({"x_1": images, "small": images}, Rng(0).step(step))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, x = torch.randint(0, 2, (16, 1, 4, 4)).float() * 2 - 1, torch.randn(16, 1, 4, 4)
    steps = 20
    with torch.no_grad():
        for i in range(steps):
            t = torch.full((16,), i / steps)
            x = x + network(x, t, {"small": images}) / steps
    assert (x.sign() == images).float().mean() > 0.97
