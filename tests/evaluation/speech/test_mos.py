"""Ratings by DNSMOS: noise is rated worse, a clean clip is not, and odd sounds are refused."""

import socket
import sys

import numpy as np
import pytest

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import Sound
from feller.data.speech.audio_io import resampled
from feller.evaluation.speech.mos import opinion
from tests.data.speech.clip import clip


@pytest.mark.slow
def test_noise_is_rated_worse_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    dnsmos = pytest.importorskip("speechmos.dnsmos")

    def refuse(*_: object) -> None:
        raise AssertionError("it must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    sound = clip("LJ001-0002.flac", 22_050)
    clean = opinion(sound)
    assert opinion(sound) == clean
    for rating in (clean.overall, clean.speech, clean.background):
        assert 2.5 < rating < 5
    assert clean.overall == pytest.approx(dnsmos.run(resampled(sound, 16_000).samples, sr=16_000)["ovrl_mos"], abs=0.1)
    noise = np.random.default_rng(0).normal(0, 0.05, len(sound.samples)).astype(np.float32)
    noisy = opinion(Sound(sound.samples + noise, sound.rate))
    assert noisy.background < clean.background - 1
    assert noisy.overall < clean.overall - 0.5


def test_what_is_too_loud_is_cut_off_as_in_a_file() -> None:
    pytest.importorskip("speechmos.dnsmos")
    sound = clip("LJ001-0008.flac")
    loud = Sound(sound.samples * np.float32(3 / np.abs(sound.samples).max()), sound.rate)
    assert opinion(loud) == opinion(Sound(np.clip(loud.samples, -1, 1), sound.rate))


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.ones(1_599, np.float32), np.full(3_000, np.nan, np.float32)]
)
def test_odd_sounds_are_refused(samples: np.ndarray) -> None:
    pytest.importorskip("speechmos.dnsmos")
    with pytest.raises(InputError, match=r"expected a sound of 0\.1 s or more"):
        opinion(Sound(samples, 16_000))


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    with pytest.raises(UsageError, match=r"speechmos: pip install 'feller\[judges\]'"):
        opinion(clip("LJ001-0008.flac"))
