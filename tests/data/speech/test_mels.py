"""Log mels against a second implementation, and frames against the clock."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.core.serialization import from_dict, to_dict
from feller.data.speech.mel import MelConfig, Statistics
from tests.data.speech.clip import TEXTS, clip
from tests.errors import refuses

RATES = (16_000, 8_000)


def test_the_usual_settings() -> None:
    assert MelConfig.default_for(16_000) == MelConfig(
        sample_rate=16_000, n_fft=1024, win_length=640, hop_length=160, n_mels=80, f_max=8_000
    )
    assert MelConfig.default_for(8_000) == MelConfig(
        sample_rate=8_000, n_fft=512, win_length=320, hop_length=80, n_mels=40, f_max=4_000
    )
    assert from_dict(MelConfig, to_dict(MelConfig.default_for(8_000))) == MelConfig.default_for(8_000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", TEXTS)
def test_a_second_implementation_agrees(rate: int, name: str) -> None:
    """librosa pads the whole transform and we the window; its frames without centring are ours."""
    mel, samples = MelConfig.default_for(rate), clip(name, rate).samples
    beside = (mel.n_fft - mel.hop_length) // 2
    amplitude = librosa.feature.melspectrogram(
        y=np.pad(samples, beside, mode="reflect"),
        sr=rate,
        n_fft=mel.n_fft,
        win_length=mel.win_length,
        hop_length=mel.hop_length,
        center=False,
        power=1.0,
        n_mels=mel.n_mels,
        fmax=mel.f_max,
    )
    ours = mel.log_mel(torch.from_numpy(samples))
    np.testing.assert_allclose(ours.numpy(), np.log(np.maximum(amplitude, 1e-5)).T, atol=2e-3)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(400, 4000), rate=st.sampled_from(RATES))
def test_there_are_as_many_frames_as_whole_tens_of_milliseconds(n: int, rate: int) -> None:
    mel = MelConfig.default_for(rate)
    assert mel.log_mel(torch.ones(n)).shape == (n // mel.hop_length, mel.n_mels)
    assert mel.frames(n) == n // mel.hop_length


@settings(deadline=None, max_examples=40)
@given(frame=st.integers(3, 46), rate=st.sampled_from(RATES))
def test_a_click_is_loudest_in_the_frame_of_its_time(frame: int, rate: int) -> None:
    """A click in the middle of the 10 ms from i / 100 s; its neighbours are equally loud: windows are symmetric."""
    mel = MelConfig.default_for(rate)
    samples = torch.zeros(rate // 2)
    samples[frame * mel.hop_length + mel.hop_length // 2] = 1
    loudness = mel.log_mel(samples).exp().sum(1)
    assert int(loudness.argmax()) == frame
    torch.testing.assert_close(loudness[frame - 1], loudness[frame + 1], rtol=1e-3, atol=0)
    assert loudness[frame] > 1.1 * loudness[frame - 1]
    assert loudness[frame + 3] == pytest.approx(1e-5 * mel.n_mels, rel=1e-3)


@pytest.mark.parametrize("offset", [0.05, 0.95])
def test_a_click_at_the_edge_of_a_frame_stays_in_it(offset: float) -> None:
    mel = MelConfig()
    samples = torch.zeros(8_000)
    samples[20 * mel.hop_length + int(offset * mel.hop_length)] = 1
    assert int(mel.log_mel(samples).exp().sum(1).argmax()) == 20


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_is_loudest_in_its_band(rate: int) -> None:
    mel = MelConfig.default_for(rate)
    edges = librosa.mel_frequencies(n_mels=mel.n_mels + 2, fmax=mel.f_max)
    for band in (10, 20, 30):
        samples = torch.sin(2 * torch.pi * edges[band + 1] * torch.arange(rate) / rate).float()
        assert int(mel.log_mel(samples)[50].argmax()) == band


def test_twice_the_amplitude_adds_the_logarithm_of_2() -> None:
    samples = torch.from_numpy(clip("sense-0880.flac").samples)
    quiet, loud = MelConfig().log_mel(samples), MelConfig().log_mel(2 * samples)
    audible = quiet > np.log(1e-5) + 1e-3
    torch.testing.assert_close(loud[audible], quiet[audible] + np.log(2), atol=1e-4, rtol=0)
    assert quiet.min() >= np.log(1e-5) - 1e-4


def test_log_mels_have_a_gradient() -> None:
    samples = torch.from_numpy(clip("LJ001-0008.flac").samples[:4000]).requires_grad_()
    MelConfig().log_mel(samples).sum().backward()
    assert samples.grad is not None
    assert torch.isfinite(samples.grad).all()
    assert samples.grad.abs().max() > 0


def test_too_short_a_sound_is_refused() -> None:
    assert MelConfig().log_mel(torch.ones(241)).shape == (1, 80)
    with refuses(InputError, found="240"):
        MelConfig().log_mel(torch.ones(240))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hop_length": 80}, "100 frames"),
        ({"win_length": 2000}, "window <= fft"),
        ({"f_max": 9000}, "half the sample rate"),
        ({"n_fft": 2**40}, "at most 32,768 FFT points"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MelConfig(**fields)


def test_no_usual_settings_at_other_rates() -> None:
    with pytest.raises(InputError, match="found 44,100"):
        MelConfig.default_for(44_100)


def test_statistics_are_those_of_all_numbers_together() -> None:
    parts = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 9.0]])]
    found = Statistics.of(parts)
    assert found.mean == pytest.approx(4)
    assert found.std == pytest.approx(np.std([1, 2, 3, 4, 5, 9]))
    with pytest.raises(InputError, match="positive standard deviation"):
        Statistics.of([torch.ones(2, 2)])
