"""Fréchet distance of sounds: closed forms on given features, and the two controls of its source on real speech."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import Sound
from feller.data.speech.audio_io import read_sound
from feller.evaluation.speech.quality import Components, frechet_features, frechet_speech
from feller.evaluation.speech.speaker_similarity import Voices
from tests.data.speech.clip import SHARED

LIBRISPEECH = SHARED / "librispeech_excerpt"


def normal(n: int, deviations: Sequence[float], seed: int = 0) -> torch.Tensor:
    """Return points whose mean is zero and whose axes have these deviations, exactly."""
    x = torch.randn(n, len(deviations), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    white = torch.linalg.qr(x).Q * (n - 1) ** 0.5
    return white * torch.tensor(deviations, dtype=torch.float64)


def test_a_shift_and_a_scale_in_units_of_the_variance() -> None:
    real = normal(64, (3.0, 2.0, 1.0))
    shift = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    assert frechet_features(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_features(real + shift, real) == pytest.approx(100 * 9 / 14)
    assert frechet_features(real * 1.5, real) == pytest.approx(100 * 0.25)
    assert frechet_features(5 * (real + shift), 5 * real) == pytest.approx(100 * 9 / 14)


def test_components_are_those_of_the_real_ones() -> None:
    """Along the first two axes of the real set, wherever the other set is wide."""
    real = normal(64, (3.0, 2.0, 1.0))
    made = real * torch.tensor([1.0, 1.0, 50.0], dtype=torch.float64) + torch.tensor([1.0, 0, 7], dtype=torch.float64)
    assert frechet_features(made, real, components=2) == pytest.approx(100 / 13)
    axes = Components.of(real, 2)
    torch.testing.assert_close(axes.directions.abs(), torch.eye(3, dtype=torch.float64)[:2], atol=1e-9, rtol=0)
    torch.testing.assert_close(axes.along(real).std(0), torch.tensor([3.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize(("n", "kept"), [(8, 2), (40, 10), (200, 50)])
def test_few_sounds_have_few_components(n: int, kept: int) -> None:
    """A shift is seen along the axes that are kept, a quarter of the smaller set, and along no other."""
    real = normal(200, [2.0] * kept + [1.0] * (60 - kept))
    for axis, seen in ((kept - 1, True), (kept, False)):
        made = real[torch.randperm(200, generator=torch.Generator().manual_seed(0))[:n]].clone()
        before = frechet_features(made, real)
        made[:, axis] += 10
        assert (frechet_features(made, real) > before + 1) == seen


def test_rows_that_are_not_finite_are_left_out() -> None:
    real = normal(32, (2.0, 1.0))
    gap = torch.full((3, 2), torch.nan, dtype=torch.float64)
    assert frechet_features(torch.cat([gap, real + 1]), torch.cat([real, gap])) == frechet_features(real + 1, real)


def test_too_few_or_equal_sounds_are_refused() -> None:
    real = normal(32, (2.0, 1.0))
    with pytest.raises(InputError, match="8 or more sounds in each set, got 7 and 32"):
        frechet_features(real[:7], real)
    with pytest.raises(InputError, match="have the same features"):
        frechet_features(real, real[:1].expand(32, -1))


def test_other_features_can_be_given() -> None:
    draw = np.random.default_rng(0)
    sounds = [Sound(draw.normal(0, 0.1 + 0.01 * i, 800).astype(np.float32), 16_000) for i in range(16)]

    def power(some: Sequence[Sound]) -> torch.Tensor:
        return torch.tensor([[float(np.square(sound.samples).mean()), sound.seconds] for sound in some])

    assert frechet_speech(sounds, sounds, power) == pytest.approx(0, abs=1e-6)
    louder = [Sound(2 * sound.samples, sound.rate) for sound in sounds]
    assert frechet_speech(louder, sounds, power) > 100


@pytest.mark.slow
@pytest.mark.skipif(not LIBRISPEECH.is_dir(), reason="the larger sets are not here")
def test_missing_speakers_and_noise_are_seen_and_missing_utterances_are_not() -> None:
    """Ten utterances of 3 s from each of ten speakers: five of each are the reference, the others are judged.

    25 of all speakers are at 4 to 9, 25 of five speakers at 30 to 55, all 50 in noise at 20 dB at 20 to 35.
    """
    voices, draw = Voices(), np.random.default_rng(0)
    files = sorted((LIBRISPEECH / "test").glob("*.flac"))
    sounds = [read_sound(path).sound for path in files]
    sounds = [Sound(sound.samples[: 3 * sound.rate], sound.rate) for sound in sounds]
    try:
        clean = voices.vectors(sounds)
    except UsageError:
        pytest.skip("resemblyzer is not installed")
    noisy = voices.vectors([noised(sound, 20, draw) for sound in sounds])
    speakers: dict[str, list[int]] = {}
    for i, path in enumerate(files):
        speakers.setdefault(path.name.partition("-")[0], []).append(i)
    assert len(speakers) == 10
    for seed in range(3):
        shuffle = random.Random(seed)
        own = [shuffle.sample(places, 10) for places in shuffle.sample([*speakers.values()], 10)]
        real = clean[[i for places in own for i in places[:5]]]
        judged = [i for places in own for i in places[5:]]
        fewer_utterances = judged[::2]
        fewer_speakers = [i for places in own[:5] for i in places[5:]]
        assert len(fewer_utterances) == len(fewer_speakers) == 25
        low = frechet_features(clean[fewer_utterances], real)
        assert low < 15
        assert frechet_features(clean[fewer_speakers], real) > 2 * low
        assert frechet_features(noisy[judged], real) > 2 * frechet_features(clean[judged], real)


def noised(sound: Sound, decibels: float, draw: np.random.Generator) -> Sound:
    """Add white noise, so far below the sound."""
    level = np.sqrt(np.square(sound.samples).mean()) * 10 ** (-decibels / 20)
    return Sound((sound.samples + draw.normal(0, level, len(sound.samples))).astype(np.float32), sound.rate)
