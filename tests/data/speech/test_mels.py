"""Log mel spectrograms."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.speech.mel import MelConfig, Statistics
from tests.data.speech.clip import TEXTS, clip
from tests.errors import refuses

RATES = (16_000, 8_000)


@pytest.mark.parametrize(("rate", "name"), [*zip((16_000, 16_000, 8_000), TEXTS, strict=True)])
def test_log_mels_equal_librosa(rate: int, name: str) -> None:
    """librosa pads the transform instead of the window, so the samples are padded before."""
    mel, samples = MelConfig.default_for(rate), clip(name, rate).samples
    padding = (mel.n_fft - mel.hop_length) // 2
    amplitude = librosa.feature.melspectrogram(
        y=np.pad(samples, padding, mode="reflect"),
        sr=rate,
        n_fft=mel.n_fft,
        win_length=mel.win_length,
        hop_length=mel.hop_length,
        center=False,
        power=1.0,
        n_mels=mel.n_mels,
        fmax=mel.f_max,
    )
    log_mel = mel.log_mel(torch.from_numpy(samples))
    np.testing.assert_allclose(log_mel.numpy(), np.log(np.maximum(amplitude, 1e-5)).T, atol=2e-3)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(400, 4000), rate=st.sampled_from(RATES))
def test_frame_count(n: int, rate: int) -> None:
    mel = MelConfig.default_for(rate)
    assert mel.log_mel(torch.ones(n)).shape == (n // mel.hop_length, mel.n_mels)
    assert mel.frames(n) == n // mel.hop_length


@settings(deadline=None, max_examples=40)
@given(frame=st.integers(3, 46), rate=st.sampled_from(RATES))
def test_click_is_loudest_in_its_frame(frame: int, rate: int) -> None:
    """A click in the middle of the 10 ms from i / 100 s; windows are symmetric, so its neighbours are equally loud."""
    mel = MelConfig.default_for(rate)
    samples = torch.zeros(rate // 2)
    samples[frame * mel.hop_length + mel.hop_length // 2] = 1
    loudness = mel.log_mel(samples).exp().sum(1)
    assert int(loudness.argmax()) == frame
    torch.testing.assert_close(loudness[frame - 1], loudness[frame + 1], rtol=1e-3, atol=0)
    assert loudness[frame] > 1.1 * loudness[frame - 1]
    assert loudness[frame + 3] == pytest.approx(1e-5 * mel.n_mels, rel=1e-3)


def test_log_mel_gradient() -> None:
    samples = torch.from_numpy(clip("LJ001-0008.flac").samples[:4000]).requires_grad_()
    MelConfig().log_mel(samples).sum().backward()
    assert samples.grad is not None
    assert torch.isfinite(samples.grad).all()
    assert samples.grad.abs().max() > 0


def test_short_sounds_are_refused() -> None:
    assert MelConfig().log_mel(torch.ones(241)).shape == (1, 80)
    with refuses(InputError, found="240"):
        MelConfig().log_mel(torch.ones(240))


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"hop_length": 80}, "hop 80 at 16000 Hz"),
        ({"win_length": 2000}, str(MelConfig()).replace("640", "2000")),
        ({"f_max": 9000}, "9000"),
        ({"n_fft": 2**40}, f"{2**40:,} and 80"),
    ],
)
def test_invalid_settings_are_refused(fields: dict[str, int], found: str) -> None:
    with refuses(InputError, found=found):
        MelConfig(**fields)


def test_other_rates_have_no_default_settings() -> None:
    with refuses(InputError, found="44,100 Hz"):
        MelConfig.default_for(44_100)


def test_statistics_of_several_mels() -> None:
    statistics = Statistics.of([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 9.0]])])
    assert statistics.mean == pytest.approx(4)
    assert statistics.std == pytest.approx(np.std([1, 2, 3, 4, 5, 9]))
    with refuses(InputError, found="1, 0"):
        Statistics.of([torch.ones(2, 2)])
