"""Spectral loss of vocoders."""

import math

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.speech.mel import MelConfig
from feller.networks import SpectralVocoder
from feller.spaces import Euclidean
from feller.training.objectives.autoencoding import MIN_AMPLITUDE, SpectralLoss, spectral_difference
from tests.data.speech.clip import TEXTS, clip
from tests.errors import refuses
from tests.oracle import F64, close


def rule(**more) -> SpectralLoss:
    return SpectralLoss(Euclidean((48,)), **{"window_sizes": (4, 16), "segment_size": 32, **more})


def sounds(n: int, length: int) -> torch.Tensor:
    return Rng(0).stream("sounds").normal((n, length), F64)


def test_spectral_difference_of_equal_sounds_is_zero() -> None:
    x = sounds(3, 64).requires_grad_()
    found = spectral_difference(x, x.detach(), 16)
    close(found, torch.zeros(3), 1e-15)
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    silence = torch.zeros(1, 64)
    close(spectral_difference(silence, silence, 16), torch.zeros(1), 1e-15)
    assert (spectral_difference(x.detach().roll(1, 0), x.detach(), 16) > 0.1).all()


def test_spectral_difference_ignores_the_sign() -> None:
    x = sounds(2, 64)
    close(spectral_difference(-x, x, 16), torch.zeros(2), 1e-12)


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_spectral_difference_of_a_gain(gain: float) -> None:
    """|g - 1| and |log g|, where no spectrum is quiet."""
    x = 100 * sounds(2, 64)
    close(spectral_difference(gain * x, x, 16), torch.full((2,), abs(gain - 1) + abs(math.log(gain))), 1e-4)


def test_spectral_difference_formula() -> None:
    made, real = sounds(2, 8)
    hann = torch.tensor([0.5 - 0.5 * math.cos(2 * math.pi * i / 8) for i in range(8)], dtype=F64)
    waves = torch.exp(-2j * math.pi * torch.arange(5)[:, None] * torch.arange(8) / 8)
    a, b = ((waves.to(torch.complex128) @ (hann * x).to(torch.complex128)).abs() for x in (made, real))
    far = ((a - b).square().sum() / b.square().sum()).sqrt()
    logs = (a.clamp(min=MIN_AMPLITUDE).log() - b.clamp(min=MIN_AMPLITUDE).log()).abs().mean()
    close(spectral_difference(made[None], real[None], 8)[0], far + logs, 1e-6)


def test_segments_are_valid_and_uniform() -> None:
    x = torch.arange(1, 49, dtype=F64).expand(4000, 48).clone()
    length = torch.tensor([16, 32, 40, 48]).repeat(1000)
    x *= torch.arange(48) < length[:, None]
    drawn = rule().draw({"x_1": x, "given": {"length": length}}, Rng(0))
    piece = drawn["x_t"]
    assert piece.shape == (4000, 32)
    assert drawn["given"] == {}
    for n in (16, 32, 40, 48):
        first = piece[length == n, 0] - 1
        assert sorted(first.unique().tolist()) == [*range(max(n - 32, 0) + 1)]
    whole = piece[length > 16]
    assert ((whole - whole[:, :1]) == torch.arange(32)).all()  # neighbours stay neighbours
    assert (piece[length == 16, 16:] == 0).all()
    even = torch.bincount((piece[length == 48, 0] - 1).long())
    assert ((even - 1000 / 17).abs() < 5 * (1000 / 17) ** 0.5).all()  # false alarm: about 1e-5


def test_short_sounds_are_zero_padded() -> None:
    x = sounds(2, 20)
    drawn = rule().draw({"x_1": x}, Rng(0))["x_t"]
    assert torch.equal(drawn, torch.nn.functional.pad(x, (0, 12)))


def test_auxiliary_loss_is_added() -> None:
    x = sounds(3, 32)

    def halves(x, t, given):
        return {"state": x / 2, "apart": torch.tensor([1.0, 2.0, 3.0], dtype=F64)}

    example = {"x_t": x, "t": torch.zeros(3), "given": {}}
    plain, whole = (rule(aux_weight=weight).loss(halves, example) for weight in (0.0, 2.0))
    close(whole - plain, (2.0, 4.0, 6.0), 1e-12)
    close(plain, (spectral_difference(x / 2, x, 4) + spectral_difference(x / 2, x, 16)) / 2, 1e-12)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"window_sizes": ()}, {"window_sizes": (2,)}, {"aux_weight": -1.0}, {"segment_size": 15}):
        with refuses(UsageError):
            rule(**wrong)


def test_a_few_steps_reduce_the_loss() -> None:
    """40 steps at three clips: what they are off falls by a fifth, at frames that stay in their places."""
    mel = MelConfig.default_for(8_000)
    clips = [torch.from_numpy(clip(name, 8_000).samples) for name in TEXTS]
    x = torch.stack([sound[:8000] for sound in clips])
    learned = SpectralLoss(Euclidean((8000,)), (128, 512), 2560)
    network = SpectralVocoder(mel, 48, 2).build((8000,), {}, Rng(0))
    optimiser = torch.optim.AdamW(network.parameters(), 4e-3)
    everything = {"x_t": x[:, :7680], "t": torch.zeros(3), "given": {}}
    before = learned.loss(network, everything).mean().item()
    for step in range(40):
        optimiser.zero_grad()
        example = learned.draw({"x_1": x}, Rng(0).fold_in(step), network)
        learned.loss(network, example).mean().backward()
        optimiser.step()
    assert learned.loss(network, everything).mean().item() < 0.8 * before
    with torch.no_grad():
        wanted = mel.log_mel(x[:, :7680])
        made = mel.log_mel(network.synthesize(wanted))
    off, shifted = (made - wanted).abs().mean(), (made[:, 1:] - wanted[:, :-1]).abs().mean()
    assert shifted > 1.5 * off
