"""Speaker embeddings and predicted opinion scores."""

import socket
import sys

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import NotInstalledError
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import read_sound, resample
from feller.evaluation.speech.mos import opinion
from feller.evaluation.speech.speaker_similarity import SpeakerEncoder, similarity
from tests.data.speech.clip import SHARED, clip
from tests.errors import refuses

LIBRISPEECH = SHARED / "librispeech_excerpt"


@pytest.fixture(scope="module")
def voices() -> SpeakerEncoder:
    found = SpeakerEncoder()
    try:
        found.embed([clip("LJ001-0008.flac")])
    except UsageError:
        pytest.skip("resemblyzer is not installed")
    return found


def part(sound: Waveform, seconds: float) -> Waveform:
    return Waveform(sound.samples[: int(seconds * sound.sample_rate)], sound.sample_rate)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [5_000, 16_000, 25_600, 25_601, 37_920, 40_000, 44_480, 47_840])
def test_embedding_matches_resemblyzer(voices: SpeakerEncoder, n: int) -> None:
    """Of sounds that it does not cut, at lengths where its windows begin and end."""
    package = pytest.importorskip("resemblyzer", exc_type=ImportError)
    sound = clip("sense-0880.flac")
    samples = np.tile(sound.samples, 2)[:n]
    theirs = package.VoiceEncoder("cpu", verbose=False).embed_utterance(
        package.normalize_volume(samples, -30, increase_only=True)
    )
    torch.testing.assert_close(
        voices.embed([Waveform(samples, 16_000)])[0], torch.from_numpy(theirs), atol=1e-6, rtol=0
    )


def test_embedding_is_the_mean_of_windows(voices: SpeakerEncoder) -> None:
    """Windows of 1.6 s begin each 0.77 s; the last needs three quarters of a sound."""
    long = Waveform(np.tile(clip("sense-0880.flac").samples, 2)[: 4 * 16_000], 16_000)
    (windows,) = voices.embed_windows([long])
    assert len(windows) == 4  # at 0, 0.77, 1.54 and 2.31 s; the next would have 0.92 s of 1.6 s
    torch.testing.assert_close(windows.norm(dim=1), torch.ones(4))
    assert windows.min() >= 0
    torch.testing.assert_close(windows[0], voices.embed([part(long, 1.6)])[0], atol=0.05, rtol=0)
    mean = windows.mean(0)
    torch.testing.assert_close(voices.embed([long])[0], mean / mean.norm())
    assert [len(each) for each in voices.embed_windows([part(long, s) for s in (0.3, 1.6, 1.9, 2.0, 2.8)])] == [
        1,
        1,
        1,
        2,
        3,
    ]


def test_similarity_of_voices(voices: SpeakerEncoder) -> None:
    names = ("LJ001-0002.flac", "LJ001-0008.flac", "sense-0880.flac")
    first, second, other = voices.embed([clip(name, 22_050) for name in names])
    same, unlike = similarity(first[None], second[None]), similarity(second[None], other[None])
    assert same > 0.75
    assert unlike < 0.65


def test_batch_rate_and_level(voices: SpeakerEncoder) -> None:
    sound = clip("sense-0880.flac")
    quiet = Waveform(sound.samples / 100, sound.sample_rate)
    finer = resample(sound, 48_000)
    alone = voices.embed([sound])
    together = voices.embed([clip("LJ001-0008.flac"), sound, quiet, finer])
    torch.testing.assert_close(together[1], alone[0], atol=1e-6, rtol=0)
    assert (similarity(together[1:], alone.expand(3, -1)) > 0.97).all()


def test_no_voice_is_nan(voices: SpeakerEncoder) -> None:
    sound = clip("LJ001-0008.flac")
    nothing = (
        np.zeros(0, np.float32),
        np.zeros(32_000, np.float32),
        sound.samples[:3_999],
        np.full(16_000, np.nan, np.float32),
    )
    found = voices.embed([sound, *(Waveform(samples, 16_000) for samples in nothing), sound])
    assert found.isfinite().all(1).tolist() == [True, False, False, False, False, True]
    assert similarity(found, found).isnan().tolist() == [False, True, True, True, True, False]
    assert voices.embed([]).shape == (0, 256)


def test_nothing_is_printed(voices: SpeakerEncoder, capfd: pytest.CaptureFixture[str]) -> None:
    SpeakerEncoder().embed([clip("LJ001-0008.flac")])
    assert capfd.readouterr() == ("", "")


def test_similarity_is_the_cosine() -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    b = torch.tensor([[40.0, 30.0], [0.0, 2.0]])
    torch.testing.assert_close(similarity(a, b), torch.tensor([0.96, 0.0]))


@pytest.mark.parametrize("package", ["resemblyzer", "librosa"])
def test_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("librosa")
    monkeypatch.setitem(sys.modules, package, None)
    with refuses(NotInstalledError):
        SpeakerEncoder().embed([clip("LJ001-0008.flac")])


@pytest.mark.skipif(not LIBRISPEECH.is_dir(), reason="the larger sets are not here")
def test_similarity_of_ten_speakers(voices: SpeakerEncoder) -> None:
    """Three cuts of 3 s from each: cosines of one speaker are near 0.81, of two near 0.51, and they hardly overlap."""
    files = [path for path in sorted((LIBRISPEECH / "test").glob("*.flac")) if path.stem[-1] in "024"]
    found = voices.embed([part(read_sound(path).sound, 3) for path in files])
    speaker = torch.tensor([int(path.name.partition("-")[0]) for path in files])
    pairs = torch.triu_indices(len(files), len(files), 1)
    likeness, same = similarity(found[pairs[0]], found[pairs[1]]), speaker[pairs[0]] == speaker[pairs[1]]
    assert likeness[same].mean() == pytest.approx(0.80, abs=0.06)
    assert likeness[~same].mean() == pytest.approx(0.51, abs=0.06)
    wrong = torch.cat([likeness[same] < 0.66, likeness[~same] > 0.66]).double().mean()
    assert wrong < 0.05


@pytest.mark.slow
def test_opinion_of_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    dnsmos = pytest.importorskip("speechmos.dnsmos")

    def refuse(*_: object) -> None:
        raise AssertionError("it must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    sound = clip("LJ001-0002.flac", 22_050)
    clean = opinion(sound)
    assert opinion(sound) == clean
    for rating in (clean.overall, clean.speech, clean.background):
        assert 2.5 < rating < 5
    assert clean.overall == pytest.approx(dnsmos.run(resample(sound, 16_000).samples, sr=16_000)["ovrl_mos"], abs=0.1)
    noise = np.random.default_rng(0).normal(0, 0.05, len(sound.samples)).astype(np.float32)
    noisy = opinion(Waveform(sound.samples + noise, sound.sample_rate))
    assert noisy.background < clean.background - 1
    assert noisy.overall < clean.overall - 0.5


def test_opinion_clips_loud_sounds() -> None:
    pytest.importorskip("speechmos.dnsmos")
    sound = clip("LJ001-0008.flac")
    loud = Waveform(sound.samples * np.float32(3 / np.abs(sound.samples).max()), sound.sample_rate)
    assert opinion(loud) == opinion(Waveform(np.clip(loud.samples, -1, 1), sound.sample_rate))


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.ones(1_599, np.float32), np.full(3_000, np.nan, np.float32)]
)
def test_opinion_of_invalid_sounds(samples: np.ndarray) -> None:
    pytest.importorskip("speechmos.dnsmos")
    with refuses(InputError, found=f"{len(samples) / 16_000:.2f} s"):
        opinion(Waveform(samples, 16_000))


def test_missing_package_for_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    with refuses(NotInstalledError):
        opinion(clip("LJ001-0008.flac"))
