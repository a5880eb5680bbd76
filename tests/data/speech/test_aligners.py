"""Forced alignment of real clips: every phone at its time, and a score that tells wrong texts."""

import json

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.loading.raw import Sound
from feller.data.speech.audio_io import read_sound
from feller.data.speech.forced_alignment import LEAST, Aligner, MissingWordsError, NotAlignedError
from feller.data.speech.lexicon import Lexicon, cmu_entries, words_of
from feller.data.speech.phones import laid_out
from tests.data.speech.clip import SHARED, TEXTS, clip

WRONG = {
    "sense-0880.flac": ("she will never come back to this town", "had they bought a house beside the river"),
    "LJ001-0002.flac": ("the dog is barking", "seven green bottles"),
    "LJ001-0008.flac": ("the cat sat here",),
}


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner(Lexicon(cmu_entries()))


@pytest.mark.parametrize("name", TEXTS)
def test_words_and_phones_of_a_clip(aligner: Aligner, name: str) -> None:
    sound = clip(name, 22_050)
    aligned = aligner.align(sound, TEXTS[name])
    said = [word for word in aligned.words if not word.silent]
    assert tuple(word.text for word in said) == words_of(TEXTS[name])
    for word in said:
        assert tuple(spoken.phone for spoken in word.phones) in aligner.lexicon.of(word.text)
    layout = laid_out(aligned.words)
    assert layout.frames == len(sound.samples) * 100 // sound.rate
    assert all(spoken.length >= 1 for word in said for spoken in word.phones)


def test_phones_are_where_they_are_heard(aligner: Aligner) -> None:
    """S has most power above 3 kHz, the vowels of "not" and "man" have it below, pauses have little."""
    sound = clip("sense-0880.flac")
    words = aligner.align(sound, TEXTS["sense-0880.flac"]).words

    def power(start: int, length: int, low: float, high: float) -> float:
        samples = sound.samples[160 * start : 160 * (start + length)]
        frequency = np.fft.rfftfreq(len(samples), 1 / 16_000)
        spectrum = np.abs(np.fft.rfft(samples)) ** 2 / len(samples)
        return float(spectrum[(frequency >= low) & (frequency < high)].sum() / len(samples))

    spoken = {(word.text, one.phone): one for word in words for one in word.phones}
    hiss = spoken["disposed", "S"]
    assert power(hiss.start, hiss.length, 3000, 8000) > power(hiss.start, hiss.length, 0, 3000)
    for vowel in (spoken["not", "AA"], spoken["man", "AE"]):
        assert power(vowel.start, vowel.length, 0, 3000) > 10 * power(vowel.start, vowel.length, 3000, 8000)
        assert power(vowel.start, vowel.length, 0, 8000) > 30 * power(0, words[0].end, 0, 8000)


def test_a_sound_that_begins_later_is_aligned_later(aligner: Aligner) -> None:
    sound = clip("LJ001-0008.flac")
    later = Sound(np.concatenate([np.zeros(3200, dtype=np.float32), sound.samples]), 16_000)
    first, second = (
        [one for word in aligner.align(each, TEXTS["LJ001-0008.flac"]).words if not word.silent for one in word.phones]
        for each in (sound, later)
    )
    moved = [b.start - a.start for a, b in zip(first, second, strict=True)]
    assert np.median(moved) == 20
    assert np.mean(np.abs(np.array(moved) - 20) <= 2) > 0.8


def test_eight_kilohertz_are_aligned(aligner: Aligner) -> None:
    """Of the phones at 8 kHz, 4 of 5 begin within 3 frames of where they begin at 16 kHz."""
    text = TEXTS["sense-0880.flac"]
    wide, narrow = (aligner.align(clip("sense-0880.flac", rate), text).words for rate in (16_000, 8_000))
    starts = [[one.start for word in words if not word.silent for one in word.phones] for words in (wide, narrow)]
    assert np.mean(np.abs(np.subtract(*starts)) <= 3) > 0.8


def test_the_order_of_sounds_does_not_matter(aligner: Aligner) -> None:
    alone = Aligner(aligner.lexicon).align(clip("LJ001-0002.flac"), TEXTS["LJ001-0002.flac"])
    for name in TEXTS:
        aligner.align(clip(name), TEXTS[name])
    assert aligner.align(clip("LJ001-0002.flac"), TEXTS["LJ001-0002.flac"]) == alone


def test_loudness_does_not_matter(aligner: Aligner) -> None:
    sound, text = clip("LJ001-0002.flac"), TEXTS["LJ001-0002.flac"]
    quiet = aligner.align(Sound(sound.samples / 8, 16_000), text)
    assert quiet.words == aligner.align(sound, text).words


@pytest.mark.parametrize("name", TEXTS)
def test_a_wrong_text_has_a_clearly_worse_score(aligner: Aligner, name: str) -> None:
    """Measured: -2.7 to -3.2 for right texts, -7.9 to -9.3 for wrong ones."""
    right = aligner.align(clip(name), TEXTS[name])
    assert right.fits
    assert right.score > LEAST + 2
    for text in WRONG[name]:
        wrong = aligner.align(clip(name), text)
        assert not wrong.fits
        assert wrong.score < right.score - 3


def test_a_text_of_another_length_is_not_aligned(aligner: Aligner) -> None:
    with pytest.raises(NotAlignedError, match="its text does not fit"):
        aligner.align(clip("LJ001-0002.flac"), TEXTS["LJ001-0008.flac"])


def test_what_is_too_short_says_so(aligner: Aligner) -> None:
    with pytest.raises(NotAlignedError, match=r"too short: 0\.10 s for 23 phones"):
        aligner.align(Sound(clip("LJ001-0002.flac").samples[:1600], 16_000), TEXTS["LJ001-0002.flac"])


def test_missing_words_are_listed(aligner: Aligner) -> None:
    with pytest.raises(MissingWordsError, match="no pronunciation is known of 'zyzzx', 'woodcutters'") as caught:
        aligner.align(clip("sense-0880.flac"), "he was zyzzx not an woodcutters")
    assert caught.value.words == ("zyzzx", "woodcutters")
    assert isinstance(caught.value, InputError)


def test_words_of_a_user_and_spelled_ones() -> None:
    own = {"ill": (("IH", "L", "IH", "L"), ("IH", "L")), "manne": (("M", "AE", "N"),)}
    lexicon = Lexicon(cmu_entries(), own)
    aligned = Aligner(lexicon).align(clip("sense-0880.flac"), "he was not an ill disposed young manne")
    words = {word.text: tuple(one.phone for one in word.phones) for word in aligned.words}
    assert words["manne"] == ("M", "AE", "N")
    assert words["ill"] == ("IH", "L")
    spelled = Aligner(lexicon, spelled=True).align(clip("sense-0880.flac"), "he zzq disposed young man").words
    assert next(word for word in spelled if word.text == "zzq").phones[0].phone == "Z"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger sets are not here")
def test_a_path_that_begins_at_once_is_found(aligner: Aligner) -> None:
    """The lattice of the first pass would begin with one frame of silence, and the second pass would find no way."""
    text = next(
        line.split("\t")[4]
        for line in (SHARED / "librispeech_excerpt" / "transcripts_asr.tsv").read_text().splitlines()
        if line.startswith("test/367-130732-0004.flac")
    )
    sound = read_sound(SHARED / "librispeech_excerpt" / "test" / "367-130732-0004.flac").sound
    assert aligner.align(sound, text).fits


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger sets are not here")
def test_ready_alignments_are_nearly_ours(aligner: Aligner) -> None:
    """Digits aligned before with the same aligner: 3 of 4 phones begin within 2 frames."""
    names = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
    lines = (SHARED / "fsdd" / "alignments.jsonl").read_text().splitlines()[::120]
    near = []
    for line in lines:
        entry = json.loads(line)
        sound = read_sound(SHARED / "fsdd" / "recordings" / entry["file"]).sound
        words = aligner.align(sound, names[int(entry["file"][0])]).words
        ours = [(one.phone, one.start) for word in words if not word.silent for one in word.phones]
        theirs = [(phone, start) for phone, start, _ in entry["phones"] if phone != "SIL"]
        if [phone for phone, _ in ours] == [phone for phone, _ in theirs]:
            near += [abs(a - b) <= 2 for (_, a), (_, b) in zip(ours, theirs, strict=True)]
    assert len(near) > 60
    assert np.mean(near) > 0.75
