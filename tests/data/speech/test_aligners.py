"""Forced alignment of real clips, alignment files and duration tables."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.loading.raw import PhoneAlignment, Waveform
from feller.data.speech.alignment_files import read_alignments
from feller.data.speech.audio_io import read_sound
from feller.data.speech.durations import read_durations, write_durations
from feller.data.speech.forced_alignment import MIN_SCORE, AlignmentError, ForcedAligner, MissingWordsError
from feller.data.speech.lexicon import Lexicon, cmu_entries, words_of
from feller.data.speech.phones import SIL, TimedPhone, Word, align_phones
from tests.data.speech.clip import SHARED, TEXTS, clip
from tests.errors import refuses

OTHER_TEXTS = {
    "sense-0880.flac": ("she will never come back to this town", "had they bought a house beside the river"),
    "LJ001-0002.flac": ("the dog is barking", "seven green bottles"),
    "LJ001-0008.flac": ("the cat sat here",),
}


@pytest.fixture(scope="module")
def aligner() -> ForcedAligner:
    return ForcedAligner(Lexicon(cmu_entries()))


@pytest.mark.parametrize("name", TEXTS)
def test_aligned_words_and_phones(aligner: ForcedAligner, name: str) -> None:
    sound = clip(name, 22_050)
    aligned = aligner.align(sound, TEXTS[name])
    words = [word for word in aligned.words if not word.is_silence]
    assert tuple(word.text for word in words) == words_of(TEXTS[name])
    for word in words:
        assert tuple(timed.phone for timed in word.phones) in aligner.lexicon.pronunciations(word.text)
    assert align_phones(aligned.words).frames == len(sound.samples) * 100 // sound.sample_rate
    assert all(timed.length >= 1 for word in words for timed in word.phones)


def starts(words: tuple[Word, ...]) -> np.ndarray:
    """Return the first frames of all phones except silences."""
    return np.array([timed.start for word in words if not word.is_silence for timed in word.phones])


def test_aligned_phones_have_their_spectra(aligner: ForcedAligner) -> None:
    """S has most power above 3 kHz, the vowels of "not" and "man" below, and silence has little."""
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


def test_delayed_sound_has_delayed_alignment(aligner: ForcedAligner) -> None:
    sound, text = clip("LJ001-0008.flac"), TEXTS["LJ001-0008.flac"]
    delayed = Waveform(np.concatenate([np.zeros(3200, dtype=np.float32), sound.samples]), 16_000)
    delays = starts(aligner.align(delayed, text).words) - starts(aligner.align(sound, text).words)
    assert np.median(delays) == 20
    assert np.mean(np.abs(delays - 20) <= 2) > 0.8


def test_alignment_at_8_khz(aligner: ForcedAligner) -> None:
    """Of the phones at 8 kHz, 4 of 5 begin within 3 frames of where they begin at 16 kHz."""
    wide, narrow = (
        starts(aligner.align(clip("sense-0880.flac", rate), TEXTS["sense-0880.flac"]).words) for rate in (16_000, 8_000)
    )
    assert np.mean(np.abs(wide - narrow) <= 3) > 0.8


def test_alignment_does_not_depend_on_earlier_sounds_or_loudness(aligner: ForcedAligner) -> None:
    sound, text = clip("LJ001-0002.flac"), TEXTS["LJ001-0002.flac"]
    alone = ForcedAligner(aligner.lexicon).align(sound, text)
    for name in TEXTS:
        aligner.align(clip(name), TEXTS[name])
    assert aligner.align(sound, text) == alone
    assert aligner.align(Waveform(sound.samples / 8, 16_000), text).words == alone.words


@pytest.mark.parametrize("name", TEXTS)
def test_other_texts_have_worse_scores(aligner: ForcedAligner, name: str) -> None:
    """Measured: -2.7 to -3.2 for the right texts, -7.9 to -9.3 for others."""
    aligned = aligner.align(clip(name), TEXTS[name])
    assert aligned.fits
    assert aligned.score > MIN_SCORE + 2
    for text in OTHER_TEXTS[name]:
        other = aligner.align(clip(name), text)
        assert not other.fits
        assert other.score < aligned.score - 3


def test_sounds_that_cannot_be_aligned_are_refused(aligner: ForcedAligner) -> None:
    sound = clip("LJ001-0002.flac")
    with refuses(AlignmentError, found=None):
        aligner.align(sound, TEXTS["LJ001-0008.flac"])
    with refuses(AlignmentError, found="0.10 s"):
        aligner.align(Waveform(sound.samples[:1600], 16_000), TEXTS["LJ001-0002.flac"])
    with refuses(MissingWordsError, words=("zyzzx", "woodcutters")) as error:
        aligner.align(sound, "he was zyzzx not an woodcutters")
    assert isinstance(error.value, InputError)


def test_own_and_spelled_words() -> None:
    own = {"ill": (("IH", "L", "IH", "L"), ("IH", "L")), "manne": (("M", "AE", "N"),)}
    lexicon = Lexicon(cmu_entries(), own)
    aligned = ForcedAligner(lexicon).align(clip("sense-0880.flac"), "he was not an ill disposed young manne")
    words = {word.text: tuple(one.phone for one in word.phones) for word in aligned.words}
    assert words["manne"] == ("M", "AE", "N")
    assert words["ill"] == ("IH", "L")
    spelled = ForcedAligner(lexicon, spelled=True).align(clip("sense-0880.flac"), "he zzq disposed young man").words
    assert next(word for word in spelled if word.text == "zzq").phones[0].phone == "Z"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger sets are not here")
def test_alignment_without_leading_silence(aligner: ForcedAligner) -> None:
    """A lattice of the first pass that begins with one frame of silence would leave no path for the second pass."""
    text = next(
        line.split("\t")[4]
        for line in (SHARED / "librispeech_excerpt" / "transcripts_asr.tsv").read_text().splitlines()
        if line.startswith("test/367-130732-0004.flac")
    )
    sound = read_sound(SHARED / "librispeech_excerpt" / "test" / "367-130732-0004.flac").sound
    assert aligner.align(sound, text).fits


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger sets are not here")
def test_alignment_matches_reference(aligner: ForcedAligner) -> None:
    """Digits aligned before with the same aligner: 3 of 4 phones begin within 2 frames."""
    names = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
    lines = (SHARED / "fsdd" / "alignments.jsonl").read_text().splitlines()[::120]
    near = []
    for line in lines:
        entry = json.loads(line)
        sound = read_sound(SHARED / "fsdd" / "recordings" / entry["file"]).sound
        words = aligner.align(sound, names[int(entry["file"][0])]).words
        aligned = [(one.phone, one.start) for word in words if not word.is_silence for one in word.phones]
        reference = [(phone, start) for phone, start, _ in entry["phones"] if phone != "SIL"]
        if [phone for phone, _ in aligned] == [phone for phone, _ in reference]:
            near += [abs(a - b) <= 2 for (_, a), (_, b) in zip(aligned, reference, strict=True)]
    assert len(near) > 60
    assert np.mean(near) > 0.75


WORDS = {
    "file": "train/1.flac",
    "words": [
        ["<sil>", 0, 16, [["SIL", 0, 16]]],
        ["four", 16, 13, [["F", 16, 5], ["AO", 21, 3], ["R", 24, 5]]],
        ["<sil>", 29, 2, [["SIL", 29, 2]]],
    ],
}
PHONES = {"file": "1.wav", "phones": [["SIL", 0, 1], ["Z", 1, 4], ["IH", 5, 8], ["SIL", 13, 2], ["OW", 15, 3]]}


def write(path: pathlib.Path, *entries: Any) -> pathlib.Path:
    path.write_text("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries))
    return path


def test_lines_of_words(tmp_path: pathlib.Path) -> None:
    assert read_alignments(write(tmp_path / "a.jsonl", WORDS)) == {
        "train/1.flac": (
            Word("", (TimedPhone(SIL, 0, 16),)),
            Word("four", (TimedPhone("F", 16, 5), TimedPhone("AO", 21, 3), TimedPhone("R", 24, 5))),
            Word("", (TimedPhone(SIL, 29, 2),)),
        )
    }


def test_lines_of_phones_are_words_between_silences(tmp_path: pathlib.Path) -> None:
    (words,) = read_alignments(write(tmp_path / "a.jsonl", PHONES, "")).values()
    assert [[spoken.phone for spoken in word.phones] for word in words] == [["SIL"], ["Z", "IH"], ["SIL"], ["OW"]]
    assert [word.is_silence for word in words] == [True, False, True, False]


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("[1]", "'[1]'"),
        ({"file": "a"}, '\'{"file": "a"}\''),
        ({"file": 3, "phones": []}, '\'{"file": 3, "phones": []}\''),
        ({"file": "a", "phones": []}, "'[]'"),
        ({"file": "a", "phones": [["AH", 0]]}, '["AH", 0]'),
        ({"file": "a", "phones": [["AH", 0.5, 2]]}, '["AH", 0.5, 2]'),
        ({"file": "a", "phones": [["AH", 0, -1]]}, '["AH", 0, -1]'),
        ({"file": "a", "phones": [["AH", True, 1]]}, '["AH", true, 1]'),
        ({"file": "a", "words": {}}, "'{}'"),
        ({"file": "a", "words": [["x", 0, 5]]}, '["x", 0, 5]'),
        ({"file": "a", "words": [["x", 0, 5, [["AH", 0, 4], ["SIL", 4, 1]]]]}, "'x'"),
    ],
)
def test_invalid_lines_are_refused(tmp_path: pathlib.Path, entry: Any, found: str) -> None:
    path = write(tmp_path / "a.jsonl", WORDS, "", entry)
    with refuses(InputError, file=f"{path}: line 3", found=found):
        read_alignments(path)


@pytest.mark.parametrize(
    ("entry", "expected", "found"),
    [
        ({"file": "clip.wav", "phones": [["SIL", 0, 9]]}, ["clip.wav"], []),
        ({"file": "a", "phones": [["AH", 0, 7], ["spn", 7, 9]]}, [], ["spn", "7"]),
        ({"file": "a", "words": [["x", 2, 5, [["AH", 2, 4]]]]}, ["2", "7", "'x'"], ["2", "6"]),
        (WORDS, ["train/1.flac"], []),
    ],
)
def test_invalid_alignments_are_named(
    tmp_path: pathlib.Path, entry: Any, expected: list[str], found: list[str]
) -> None:
    path = write(tmp_path / "a.jsonl", WORDS, "", entry)
    with refuses(InputError, file=f"{path}: line 3") as caught:
        read_alignments(path)
    assert all(fact in caught.value.expected for fact in expected)
    assert all(fact in caught.value.found for fact in found)


def test_files_of_alignments(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, found="none"):
        read_alignments(write(tmp_path / "a.jsonl", ""))
    with refuses(InputError, place="line 2"):
        read_alignments(write(tmp_path / "a.jsonl", WORDS, "{"))
    if SHARED.is_dir():  # the larger sets
        for name, count in (("fsdd", 2907), ("librispeech_excerpt", 122)):
            assert len(read_alignments(SHARED / name / "alignments.jsonl")) == count


LAYOUT = PhoneAlignment(("SIL", "HH_B", "OW_E", "SIL"), (0, 3, 99_999, 12))


def test_duration_table_round_trip(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    write_durations(LAYOUT, path)
    assert path.read_text() == "phone,frames\nSIL,0\nHH_B,3\nOW_E,99999\nSIL,12\n"
    assert read_durations(path, LAYOUT.phones) == LAYOUT.durations


def test_duration_table_dialects(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfPhone, Frames\r\n SIL , 0\r\n\r\n"HH_B",3\r\nOW_E,007\r\nSIL,12')
    assert read_durations(path, LAYOUT.phones) == (0, 3, 7, 12)
    path.write_text("phone;frames\nSIL;0\nHH_B;3\nOW_E;7\nSIL;12\n")
    assert read_durations(path, LAYOUT.phones) == (0, 3, 7, 12)
    path.write_bytes(b"\xff\xfe\x00")
    with refuses(InputError, file=str(path)):
        read_durations(path, LAYOUT.phones)


@pytest.mark.parametrize(
    ("rows", "line", "found"),
    [
        ("SIL,0 HH_B,3 OW_E,4 SIL,1", None, "SIL,0"),
        ("phone,frames SIL,0 HH_B,3 OW_E,4", None, "3"),
        ("phone,frames SIL,0 HH_B,3 OW_E,4 SIL,1 SIL,1", None, "5"),
        ("phone,frames SIL,0 L_B,3 OW_E,4 SIL,1", None, "L_B"),
        ("phone,frames SIL,0 HH_B", 3, "'HH_B'"),
        ("phone,frames SIL,0,1", 2, "'SIL,0,1'"),
        ("phone,frames SIL,-1", 2, "'-1'"),
        *((f"phone,frames SIL,0 HH_B,{cell}", 3, repr(cell)) for cell in ("0", "2.5", "nan", "", "100000", "+3")),
        ("phone,frames SIL,²", 2, "'²'"),
        ("", None, "none"),
        ("phone,frames", None, "0"),
        ("phones,frames SIL,0", None, "phones,frames"),
    ],
)
def test_invalid_duration_tables_are_refused(tmp_path: pathlib.Path, rows: str, line: int | None, found: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows.split()))
    location = {"file": str(path)} if line is None else {"place": f"{path}: line {line}"}
    with refuses(InputError, **location, found=found):
        read_durations(path, LAYOUT.phones)
