"""Spectral vocoder network."""

import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.speech.griffin_lim import Vocoder
from feller.data.speech.mel import MelConfig
from feller.networks import SpectralVocoder
from feller.networks.audio.spectral_vocoder import NeuralVocoder, SpectralVocoderNetwork, band_interpolation, istft
from tests.data.speech.clip import clip
from tests.errors import refuses
from tests.oracle import F64, close

MELS = [
    MelConfig.default_for(16_000),
    MelConfig.default_for(8_000),
    MelConfig(400, 16, 8, 4, 3, 200),
    MelConfig(400, 8, 4, 4, 3, 200),
]


def small(mel: MelConfig) -> SpectralVocoderNetwork:
    return SpectralVocoder(mel, 16, 2).build((mel.hop_length,), {}, Rng(0))


def spectra(sound: torch.Tensor, mel: MelConfig) -> torch.Tensor:
    """Return the spectra of the frames of `MelConfig`, with phases at their middles, one frame after the other."""
    beside = (mel.win_length - mel.hop_length) // 2
    longer = torch.nn.functional.pad(sound[None], (beside, beside), mode="reflect")[0]
    found = []
    for start in range(0, len(sound) // mel.hop_length * mel.hop_length, mel.hop_length):
        frame = longer[start : start + mel.win_length] * torch.hann_window(mel.win_length, dtype=sound.dtype)
        turn = torch.exp(
            2j * torch.pi * torch.arange(mel.n_fft // 2 + 1, dtype=F64) * (mel.win_length // 2) / mel.n_fft
        )
        found.append(torch.fft.rfft(frame, n=mel.n_fft) * turn)
    return torch.stack(found)[None]


@pytest.mark.parametrize("mel", MELS[:3], ids=str)
def test_spectra_are_inverted(mel: MelConfig) -> None:
    sound = Rng(0).stream("sound").normal((7 * mel.hop_length,), F64)
    close(istft(spectra(sound, mel), mel)[0], sound, 1e-9)


@pytest.mark.parametrize("mel", MELS, ids=str)
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_frames_have_hop_samples(mel: MelConfig, frames: int) -> None:
    made = small(mel).synthesize(Rng(0).stream("mel").normal((3, frames, mel.n_mels)) - 4)
    assert made.shape == (3, frames * mel.hop_length)
    assert made.isfinite().all()


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_frames_are_aligned_with_samples(rate: int) -> None:
    mel = MelConfig.default_for(rate)
    wanted = torch.full((1, 41, mel.n_mels), -9.0)
    wanted[0, 20] = 0.0
    made = mel.log_mel(small(mel).synthesize(wanted))[0].mean(1)
    assert made.argmax() == 20
    assert (made[18:20] - made[21:23].flip(0)).abs().max() < 1.0  # and not a hop earlier or later


@pytest.mark.parametrize("mel", MELS[:2], ids=str)
def test_initial_amplitudes_are_those_of_the_bands(mel: MelConfig) -> None:
    network, bins = small(mel), torch.arange(mel.n_fft // 2 + 1)
    for log_amplitude in (torch.full(bins.shape, -2.0), -3 * bins / len(bins)):
        told = (mel.filters @ log_amplitude.exp()).log()
        found = network._band_log_amplitudes(told[None, None])[0, 0]
        inside = mel.filters.sum(0) > 0
        assert (found - log_amplitude)[inside].abs().max() < 0.2  # the last is half a band away
    close(band_interpolation(mel).sum(0), torch.ones(len(bins)), 1e-5)


def test_all_weights_are_trained() -> None:
    network = small(MelConfig.default_for(8_000))
    x = 0.1 * Rng(0).stream("x").normal((2, 2560))
    answer = network(x, torch.zeros(2), {})
    assert answer["state"].shape == x.shape
    (answer["apart"].sum() + answer["state"].square().sum()).backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in network.parameters())


def test_error_of_log_mels() -> None:
    mel, x = MelConfig.default_for(8_000), 0.1 * Rng(0).stream("x").normal((2, 2560))
    answer = small(mel)(x, torch.zeros(2), {})
    off = [(mel.log_mel(a) - mel.log_mel(b)).abs().mean() for a, b in zip(answer["state"], x, strict=True)]
    close(answer["apart"], torch.stack(off), 1e-5)


def test_records_and_settings_out_of_range() -> None:
    settings = SpectralVocoder(MelConfig.default_for(8_000), 8, 1)
    assert from_dict(SpectralVocoder, to_dict(settings)) == settings
    with refuses(UsageError):
        SpectralVocoder(width=0)
    for shape in ((1, 160), (161,)):
        with refuses(UsageError):
            SpectralVocoder().build(shape, {}, Rng(0))


def test_weights_come_from_the_seed() -> None:
    first, again, other = (SpectralVocoder(width=8, depth=1).build((160,), {}, Rng(seed)) for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.embed.weight, other.embed.weight)


def test_a_network_is_a_vocoder() -> None:
    mel = MelConfig.default_for(8_000)
    vocoder: Vocoder = NeuralVocoder(small(mel), mel)
    wanted = mel.log_mel(torch.from_numpy(clip("LJ001-0008.flac", 8_000).samples))
    made = vocoder.synthesize(wanted, mel)
    assert made.shape == (len(wanted) * mel.hop_length,)
    assert made.dtype == torch.float32
    assert not made.requires_grad
    assert torch.equal(made, vocoder.synthesize(wanted.double(), mel))
    assert vocoder.synthesize(torch.full((3, 40), 1e9), mel).isfinite().all()
    with refuses(InputError):
        vocoder.synthesize(torch.zeros(5, 80), MelConfig())
    for wrong in (torch.zeros(5, 80), torch.zeros(0, 40), torch.full((5, 40), torch.nan)):
        with refuses(InputError):
            vocoder.synthesize(wrong, mel)
