"""U-Net."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from feller.core.rng import Rng
from feller.networks import UNet
from feller.networks.blocks.conditioning import zero_init
from feller.networks.image.unet import PixelAttention, UNetBlock, UNetLevel, UNetNetwork, group_norm
from tests.networks.checks import perturb_weights


def levels(network: UNetNetwork) -> list[UNetLevel]:
    """Return the blocks of the downward path, the bottom and the upward path."""
    return [part for part in [*network.down, network.mid, *network.up] if isinstance(part, UNetLevel)]


def test_one_level_is_a_plain_residual_network() -> None:
    network = UNet(channels=8, multipliers=(1,), blocks=4).build((1, 8, 8), {}, Rng(0))
    assert sum(isinstance(part, UNetBlock) for part in network.modules()) == 4
    assert not any(isinstance(part, PixelAttention) for part in network.modules())
    assert all(part.stride == (1, 1) for part in network.modules() if isinstance(part, nn.Conv2d))


@pytest.mark.parametrize(
    ("attention", "attends"),
    [((False, True), [False, True, True]), ((True, False, True), [True, False, True]), ((False,), [False] * 3)],
)
def test_levels_with_attention(attention: tuple[bool, ...], attends: list[bool]) -> None:
    settings = UNet(channels=8, multipliers=(1, 2, 4), attention=attention)
    assert [settings.has_attention(level) for level in range(3)] == attends
    network = settings.build((1, 8, 8), {}, Rng(0))
    assert [len(level.attention) > 0 for level in levels(network)] == attends + attends[1::-1]


def test_channels_follow_the_multipliers() -> None:
    network = UNet(channels=8, multipliers=(1, 3, 2), attention=(False,)).build((1, 8, 8), {}, Rng(0))
    assert [len(level.blocks) for level in levels(network)] == [2] * 5
    first = [next(part for part in level.modules() if isinstance(part, nn.Conv2d)) for level in levels(network)]
    assert [part.in_channels for part in first] == [8, 24, 16, 24, 8]


@pytest.mark.parametrize(("width", "groups"), [(1, 1), (8, 1), (12, 1), (20, 2), (32, 4), (48, 6), (64, 8), (100, 4)])
def test_group_norm_groups(width: int, groups: int) -> None:
    assert group_norm(width).num_groups == groups


def test_attention_formula() -> None:
    torch.manual_seed(0)
    module = PixelAttention(8, 2).double()
    nn.init.normal_(module.proj.weight)
    x = torch.randn(2, 8, 3, 2, dtype=torch.float64)
    wanted = torch.empty_like(x)
    for i in range(2):
        pixels = F.group_norm(x[i : i + 1], 1)[0].reshape(8, 6).T
        q, k, v = module.qkv(pixels).split(8, 1)
        heads = [(q[:, h] @ k[:, h].T / 2).softmax(1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
        wanted[i] = x[i] + module.proj(torch.cat(heads, 1)).T.reshape(8, 3, 2)
    torch.testing.assert_close(module(x), wanted)


def slopes(network: UNetNetwork, side: int) -> torch.Tensor:
    """Derivatives of the prediction of the first pixel."""
    x = Rng(0).stream("x").normal((1, 1, side, side), torch.float64).requires_grad_()
    prediction = network(x, torch.tensor([0.5], dtype=torch.float64), {})
    return torch.autograd.grad(prediction[0, 0, 0, 0], x)[0][0, 0]


def test_receptive_field_is_the_whole_image() -> None:
    """With three levels and attention at the last, each pixel of 12 x 12 depends on each other."""
    settings = UNet(channels=8, multipliers=(1, 1, 1), blocks=1, attention=(False, False, True), heads=2)
    assert slopes(perturb_weights(settings.build((1, 12, 12), {}, Rng(0))), 12).all()


def test_skip_connections_pass_detail() -> None:
    network = perturb_weights(UNet(channels=8, multipliers=(1, 2), blocks=1, heads=2).build((1, 5, 5), {}, Rng(0)))
    zero_init(network.upsamplers)
    slope = slopes(network, 5)
    assert slope[:2, :2].unique().numel() == 4
    assert slope.all()  # through the group norms


def test_upsampling_is_aligned_with_downsampling() -> None:
    network = UNet(channels=1, multipliers=(1, 1), blocks=1, attention=(False,)).build((1, 5, 3), {}, Rng(0)).double()
    for layer in (network.conv_in, *network.downsamplers, *network.upsamplers, network.conv_out):
        nn.init.dirac_(next(zero_init(layer).parameters()))
    seen = []
    network.norm.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    x = torch.arange(15, dtype=torch.float64).reshape(1, 1, 5, 3)
    network(x, torch.ones(1, dtype=torch.float64), {})
    below = x[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :5, :3]
    torch.testing.assert_close(seen[0], x + below)


@pytest.mark.parametrize("sides", [(6, 8), (5, 7)])
def test_patches_are_channels_of_a_plain_network(sides: tuple[int, int]) -> None:
    """The network on 2 x 2 patches is the plain one on four times the channels; odd sides repeat the last pixels."""
    settings = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "heads": 2}
    network = perturb_weights(UNet(**settings, patch=2).build((3, *sides), {}, Rng(0)))
    plain = UNet(**settings).build((12, 3, 4), {}, Rng(1)).double()
    plain.load_state_dict(network.state_dict())
    x = Rng(0).stream("x").normal((2, 3, *sides), torch.float64)
    padded = F.pad(x, (0, 8 - sides[1], 0, 6 - sides[0]), mode="replicate")
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    wanted = F.pixel_shuffle(plain(F.pixel_unshuffle(padded, 2), t, {}), 2)[:, :, : sides[0], : sides[1]]
    torch.testing.assert_close(network(x, t, {}), wanted)
