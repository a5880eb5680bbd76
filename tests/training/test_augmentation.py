"""Augmentation of images with a condition, and dropout with addressed random numbers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import DiT, UNet
from feller.networks.training_inputs import AUGMENTATION, DROPOUT
from feller.paths import Affine
from feller.spaces import Euclidean
from feller.training.augmentation import NUM_FEATURES, Augmentation, warp
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import FlowMatching
from feller.training.objectives.autoencoding import AutoencodingLoss
from feller.training.optimizer import TrainConfig
from feller.training.training_inputs import example_source
from tests.errors import refuses
from tests.networks.checks import perturb_weights

BOTH = Augmentation(flip=0.5, crop=0.5, max_shift=0.25)
SMALL = UNet(channels=8, multipliers=(1, 2), blocks=1, heads=2, dropout=0.25, augmentation_features=NUM_FEATURES)


def numbered(n: int, channels: int = 1, height: int = 8, width: int = 12) -> Tensor:
    return torch.arange(n * channels * height * width, dtype=torch.float64).reshape(n, channels, height, width)


def test_warp_is_a_crop_of_the_mirrored_image() -> None:
    """Against padding with mirrored edges, one image at a time."""
    images = numbered(6, 2, 4, 8)
    down, right = torch.tensor([0, 1, -1, 2, -4, 4]) / 4, torch.tensor([0, 3, -8, 1, 8, -2]) / 8
    flips = torch.tensor([False, True, False, True, True, False])
    mirrored = torch.cat([images.flip(3), images, images.flip(3)], 3)
    mirrored = torch.cat([mirrored.flip(2), mirrored, mirrored.flip(2)], 2)
    found = warp(images, down, right, flips)
    for i in range(6):
        top, left = 4 - round(4 * down[i].item()), 8 - round(8 * right[i].item())
        expected = mirrored[i, :, top : top + 4, left : left + 8]
        torch.testing.assert_close(found[i], expected.flip(2) if flips[i] else expected, rtol=0, atol=0)


def test_conditions_get_the_same_transformation() -> None:
    """The mean of 2 x 2 pixels of a transformed image is the transformed small image; the label stays."""
    images, label = numbered(40), torch.arange(40)
    small = F.avg_pool2d(images, 2)
    batch, features = BOTH({"x_1": images, "given": {"small": small, "label": label}}, Rng(0))
    torch.testing.assert_close(F.avg_pool2d(batch["x_1"], 2), batch["given"]["small"])
    assert batch["given"]["label"] is label
    is_flipped, shifts = features[:, 0] > 0, features[:, 1:]
    assert 0 < is_flipped.sum() < 40
    assert 0 < shifts.any(1).sum() < 40
    torch.testing.assert_close(shifts * torch.tensor([4, 6]) / 8, (shifts * torch.tensor([4, 6]) / 8).round())
    assert shifts.abs().max() <= 2  # a quarter of the side, in eighths
    untouched = ~features.any(1)
    assert torch.equal(batch["x_1"][untouched], images[untouched])
    assert not torch.equal(batch["x_1"], images)


def test_rates_of_augmentation() -> None:
    """Binomial counts of 4,000 examples; false alarms of 5 standard deviations: below 1e-6."""
    _, features = Augmentation(flip=0.3, crop=0.2)({"x_1": torch.zeros(4000, 1, 8, 8)}, Rng(1))
    assert abs(features[:, 0].sum().item() - 1200) < 5 * (4000 * 0.21) ** 0.5
    cropped = features[:, 1:].any(1).sum().item()  # shifts of -1, 0 and 1 pixels: one of nine leaves the image
    p = 0.2 * 8 / 9
    assert abs(cropped - 4000 * p) < 5 * (4000 * p * (1 - p)) ** 0.5


def test_same_seed_same_example_for_any_split() -> None:
    network = SMALL.build((1, 8, 12), {}, Rng(0))
    source = example_source(FlowMatching(Affine(), Euclidean((1, 8, 12))), BOTH, network)
    images = numbered(300) / 1e4
    whole = source.draw({"x_1": images}, Rng(3), network)
    source.draw({"x_1": images}, Rng(9), network)
    parts = [
        source.draw({"x_1": images[rows]}, replace(Rng(3), first_example=rows.start), network)
        for rows in (slice(0, 7), slice(7, 260), slice(260, 300))
    ]
    for name in (AUGMENTATION, DROPOUT):
        torch.testing.assert_close(torch.cat([part["given"][name] for part in parts]), whole["given"][name])
    torch.testing.assert_close(torch.cat([part["target"] for part in parts]), whole["target"])
    other = source.draw({"x_1": images}, Rng(4), network)
    assert not torch.equal(other["given"][AUGMENTATION], whole["given"][AUGMENTATION])


@pytest.mark.parametrize("config", [SMALL, DiT(width=16, depth=1, heads=2, augmentation_features=NUM_FEATURES)])
def test_absent_augmentation_is_zero(config) -> None:
    """The condition reaches the network, and its absence equals zeros; the same for dropout."""
    network = perturb_weights(config.build((1, 8, 8), {"label": 3}, Rng(0)))
    x, t = Rng(1).stream("x").normal((4, 1, 8, 8), torch.float64), torch.full((4,), 0.3, dtype=torch.float64)
    label = {"label": torch.tensor([0, 1, 2, 3])}
    plain = network(x, t, label)
    torch.testing.assert_close(network(x, t, {**label, AUGMENTATION: torch.zeros(4, 3)}), plain)
    told = network(x, t, {**label, AUGMENTATION: torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])})
    torch.testing.assert_close(told[0], plain[0])
    assert all(not torch.allclose(told[i], plain[i]) for i in (1, 2, 3))
    with pytest.raises(KeyError):
        replace(config, augmentation_features=0).build((1, 8, 8), {}, Rng(0))(x, t, {AUGMENTATION: torch.zeros(4, 3)})


def test_dropout_of_channels() -> None:
    """A mask of uniform numbers above the rate scales all by 1 / (1 - p); the mean over masks is the plain output."""
    network = UNet(channels=8, multipliers=(1,), blocks=1, dropout=0.25).build((1, 4, 4), {}, Rng(0)).double()
    block, x = (
        network.mid.blocks[0],
        Rng(1).stream("x").normal((512, 8, 4, 4), torch.float64)[:1].expand(512, -1, -1, -1),
    )
    nn.init.normal_(block.conv2.weight)
    assert network.training_inputs == {AUGMENTATION: 0, DROPOUT: 8}
    keep = (torch.arange(256)[:, None] >> torch.arange(8)) & 1  # all subsets of channels
    weight = torch.where(keep > 0, 0.75, 0.25).prod(1)
    vector = torch.zeros(1, 32, dtype=torch.float64)
    outputs = block(x[:256], vector.expand(256, -1), keep / 0.75)
    mean = (weight.double()[:, None, None, None] * outputs).sum(0)
    torch.testing.assert_close(mean, block(x[:1], vector)[0])
    seen: list[Tensor] = []
    block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[2]))
    u = torch.tensor([[0.2, 0.3, 0.9, 0.24, 0.26, 0.0, 0.5, 1.0]])
    network(x[:1, :1], torch.zeros(1, dtype=torch.float64), {DROPOUT: u})
    torch.testing.assert_close(seen[0], torch.tensor([[0, 4, 4, 0, 4, 0, 4, 4]]) / 3)


def test_augmentation_that_the_network_is_not_told_is_refused() -> None:
    plain = UNet(channels=8, heads=2)
    for config, objective in (
        (plain, FlowMatching(Affine(), Euclidean((1, 8, 8)))),
        (replace(plain, augmentation_features=2), FlowMatching(Affine(), Euclidean((1, 8, 8)))),
        (SMALL, AutoencodingLoss(Euclidean((1, 8, 8)))),
    ):
        with refuses(UsageError, argument="augmentation"):
            example_source(objective, BOTH, config.build((1, 8, 8), {}, Rng(0)))
    with refuses(UsageError, argument="augmentation", found="data without images"):
        BOTH({"x_1": torch.zeros(3, 2)}, Rng(0))
    for bad in ({"flip": 1.5}, {"crop": -0.1}, {"max_shift": 2.0}):
        with refuses(UsageError, argument=next(iter(bad))):
            Augmentation(**bad)


def test_flips_do_not_leak() -> None:
    """Data are bright on the left: so are samples, although training mirrors half of the images.

    Samples that are told a mirrored image are bright on the right.
    """
    left = torch.tensor([1.0, 1.0, -1.0, -1.0]).expand(1, 2, 4) + 0.1 * Rng(1).stream("x").normal((256, 1, 2, 4))
    config = UNet(channels=16, multipliers=(1,), blocks=1, augmentation_features=NUM_FEATURES)
    training = TrainConfig(batch_size=64, steps=80, lr=1e-2, augmentation=Augmentation(flip=0.5), ema_decay=0.9)
    network, objective = config.build((1, 2, 4), {}, Rng(0)), FlowMatching(Affine(), Euclidean((1, 2, 4)))

    def batches(step: int, rows: slice) -> dict:
        return {"x_1": left[Rng(5).stream("rows", step).randint(256, (rows.stop - rows.start,))], "given": {}}

    for _ in train(make_train_state(network, training), objective, batches, training, rng=Rng(2), engine=get_engine()):
        pass

    def fraction_bright_on_the_left(cond: dict[str, Tensor]) -> float:
        x, process = Rng(3).stream("source").normal((64, 1, 2, 4)), objective.path.process(network, cond)
        for i in range(8):
            x = x + process(x, torch.full((64,), i / 8)).velocity / 8
        return (x[..., :2].mean((1, 2, 3)) > x[..., 2:].mean((1, 2, 3))).float().mean().item()

    with torch.no_grad():
        assert fraction_bright_on_the_left({}) > 0.9
        assert fraction_bright_on_the_left({AUGMENTATION: torch.tensor([1.0, 0, 0]).expand(64, 3)}) < 0.1
