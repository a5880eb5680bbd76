"""HiFi-GAN generator: size, formulas, loading of weights."""

import pytest
import torch
from torch.nn.utils import weight_norm

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.networks import count_parameters
from feller.networks.audio.hifigan import HiFiGAN, HiFiGANNetwork, load_generator, remove_weight_norm
from tests.errors import refuses
from tests.oracle import close

TINY = HiFiGAN((5, 2), (11, 4), 8, (3, 5), ((1, 2), (1, 3)))


def test_parameter_counts_of_the_paper() -> None:
    """Those of the published sizes: 13.9 million of version 1, and 13 of ours, by the layers."""
    with torch.device("meta"):
        ours, published = (HiFiGANNetwork(HiFiGAN(), 80), HiFiGANNetwork(HiFiGAN((8, 8, 2, 2), (16, 16, 4, 4)), 80))
    assert (
        round(count_parameters(published) / 1e4) == 1393
    )  # 13.92 M in table 1 of the paper, in which biases are counted
    assert 12.5e6 < count_parameters(ours) < 13.5e6
    assert HiFiGAN().hop == 160


def test_frames_have_hop_samples() -> None:
    network = HiFiGANNetwork(TINY, 4)
    for frames in (1, 2, 7):
        made = network.synthesize(Rng(0).stream("mel").normal((2, frames, 4)))
        assert made.shape == (2, frames * 10)
        assert made.abs().max() <= 1


def test_frames_are_aligned_with_samples() -> None:
    network = HiFiGANNetwork(TINY, 4).double()
    mel = Rng(0).stream("mel").normal((1, 41, 4), torch.float64)
    other = mel.clone()
    other[0, 20] += 1
    moved = (network.synthesize(mel) - network.synthesize(other))[0].abs() > 1e-12
    first, last = moved.nonzero()[0, 0], moved.nonzero()[-1, 0]
    assert abs(int(first + last) - (200 + 209)) <= 10
    assert last - first < 200


def test_forward_pass_formula() -> None:
    settings = HiFiGAN((2,), (4,), 2, (3,), ((1, 2),))
    network = HiFiGANNetwork(settings, 1).double()
    mel, f = Rng(0).stream("mel").normal((1, 5, 1), torch.float64), torch.nn.functional
    w = dict(network.named_parameters())

    def leaky(x: torch.Tensor, slope: float = 0.1) -> torch.Tensor:
        return torch.where(x > 0, x, slope * x)

    def conv(name: str, x: torch.Tensor, dilation: int = 1) -> torch.Tensor:
        kernel = w[f"{name}.weight"]
        return f.conv1d(x, kernel, w[f"{name}.bias"], padding=dilation * (kernel.shape[2] // 2), dilation=dilation)

    h = conv("conv_pre", mel.mT)
    h = f.conv_transpose1d(leaky(h), w["ups.0.weight"], w["ups.0.bias"], 2, 1)
    for i, dilation in enumerate((1, 2)):
        h = h + conv(f"resblocks.0.convs2.{i}", leaky(conv(f"resblocks.0.convs1.{i}", leaky(h), dilation)))
    close(network.synthesize(mel), torch.tanh(conv("conv_post", leaky(h, 0.01)))[:, 0], 1e-12)


@pytest.mark.parametrize("old", [True, False])
def test_weight_norm_is_folded(old: bool) -> None:
    plain = HiFiGANNetwork(TINY, 4)
    normed = HiFiGANNetwork(TINY, 4)
    normed.load_state_dict(plain.state_dict())
    for module in list(normed.modules()):
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            if old:
                weight_norm(module)
            else:
                torch.nn.utils.parametrizations.weight_norm(module)
    weights = {
        name: value + (0.3 if name.endswith(("_g", "0")) else 0.0) for name, value in normed.state_dict().items()
    }
    normed.load_state_dict(weights)
    assert any("weight_g" in name or "original0" in name for name in weights)
    mel = Rng(0).stream("mel").normal((1, 3, 4))
    made = load_generator(TINY, 4, weights).synthesize(mel)
    close(made, normed.synthesize(mel), 1e-5)
    assert (made - plain.synthesize(mel)).abs().max() > 1e-3
    assert remove_weight_norm(weights).keys() == plain.state_dict().keys()


def test_mismatched_weights_are_refused() -> None:
    right = HiFiGANNetwork(TINY, 4).state_dict()
    load_generator(TINY, 4, right)
    for weights in (
        {**right, "conv_post.bias": torch.zeros(2)},
        {name: value for name, value in right.items() if name != "conv_post.bias"},
        {**right, "more": torch.zeros(1)},
        {**right, "ups.0.weight_g": torch.zeros(8, 1, 1)},
    ):
        with refuses(InputError):
            load_generator(TINY, 4, weights)
    with refuses(InputError, found="(8, 4, 7)"):
        load_generator(TINY, 5, right)


@pytest.mark.parametrize(
    "wrong",
    [
        {"upsample_rates": (5,)},
        {"upsample_kernel_sizes": (10, 8, 8, 4)},
        {"upsample_kernel_sizes": (3, 8, 8, 4)},
        {"resblock_kernel_sizes": (3, 7, 10)},
        {"resblock_dilation_sizes": ((1,),)},
        {"upsample_initial_channel": 24},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with refuses(InputError):
        HiFiGAN(**wrong)
