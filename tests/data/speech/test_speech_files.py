"""Folders of speech: read as they are meant, refused in words, and what fails to align is listed."""

import json
import os
import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.loading import file_formats as finding
from feller.data.loading.raw import RawImages, RawSpeech, RawWaveforms, Waveform
from feller.data.loading.read_options import ReadOptions
from feller.data.speech.files import load_recording, load_speech, load_waveforms
from tests.data.speech.clip import TEXTS
from tests.data.speech.test_textgrids import LONG
from tests.data.speech.written import noise, pairs

READY = {"file": "a.wav", "phones": [["SIL", 0, 10], ["HH", 10, 20], ["AY", 30, 40], ["SIL", 70, 30]]}


def ready(folder: pathlib.Path, **fields: object) -> pathlib.Path:
    """Write a sound with a ready alignment."""
    noise(folder / "a.wav")
    (folder / "a.txt").write_text("hi")
    (folder / "alignments.jsonl").write_text(json.dumps({**READY, **fields}))
    return folder


def test_sounds_with_their_texts(tmp_path: pathlib.Path) -> None:
    found = finding.load_raw(pairs(tmp_path), ReadOptions())
    assert isinstance(found, RawSpeech)
    assert found.names == tuple(sorted(TEXTS))
    assert found.texts == tuple(TEXTS[name] for name in sorted(TEXTS))
    for sound, layout in zip(found.values, found.alignments, strict=True):
        assert isinstance(sound, Waveform)
        assert sound.sample_rate == 16_000
        assert layout.frames == len(sound.samples) // 160
    assert found.alignments[1].phones[:6] == ("SIL", "HH_B", "AE_I", "Z_E", "SIL", "N_B")
    assert found.notes == ("2 files were at 22,050 Hz, brought to 16,000 Hz", "0 alignments were read, 3 were made")
    assert found.labels is None
    assert found.dropped == ()


def test_folders_inside_are_speakers(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path, "anna/one")
    pairs(tmp_path, "bert")
    found = load_speech(tmp_path)
    assert found.classes == ("anna", "bert")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.names[0] == "anna/one/LJ001-0002.flac"


def test_a_table_of_speakers(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path, "all")
    (tmp_path / "speakers.csv").write_text("id,sex,speaker\nsense-0880,F,kim\nLJ001-0002,F,linda\nLJ001-0008,F,linda\n")
    found = load_speech(tmp_path)
    assert found.classes == ("kim", "linda")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("speaker,sex\nkim,F\n", r"expected columns file \(or id\) and speaker; found speaker, sex"),
        ("file,speaker\nsense-0880.flac,kim\n", "2 of 3 recordings have no speaker; the first is LJ001-0002.flac"),
        ("file,speaker\nsense-0880.flac\n", "expected 2 cells per row"),
        ("", r"expected columns file \(or id\) and speaker; found none"),
    ],
)
def test_odd_tables_of_speakers(tmp_path: pathlib.Path, table: str, words: str) -> None:
    (pairs(tmp_path) / "speakers.csv").write_text(table)
    with pytest.raises(InputError, match=words):
        load_speech(tmp_path)


@pytest.mark.parametrize("inner", ["", "wavs"])
def test_a_table_of_texts(tmp_path: pathlib.Path, inner: str) -> None:
    """The third column, numbers in words, goes before the second; quotes mean nothing."""
    pairs(tmp_path, inner)
    (tmp_path / "metadata.csv").write_text(
        'sense-0880|He was not an ill-disposed young "man".\n'
        "LJ001-0002|in being comparatively 1.|in being comparatively modern.\n"
        "LJ001-0008.flac|has never been surpassed.|\n"
    )
    found = load_speech(tmp_path)
    assert found.texts == (
        "in being comparatively modern.",
        "has never been surpassed.",
        'He was not an ill-disposed young "man".',
    )
    assert found.classes == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lonely|a text", "1 of 4 lines of metadata.csv have no recording; the first is lonely"),
        ("sense-0880|again", "line 4: expected one line for sense-0880"),
        ("other", r"line 4: expected id\|text"),
        ("other||", "line 4: expected a text for other"),
        ("a|b|c|d", r"line 4: expected id\|text"),
    ],
)
def test_odd_tables_of_texts(tmp_path: pathlib.Path, line: str, words: str) -> None:
    lines = [f"{pathlib.Path(name).stem}|{text}" for name, text in TEXTS.items()]
    (pairs(tmp_path) / "metadata.csv").write_text("\n".join([*lines, line]))
    with pytest.raises(InputError, match=words):
        load_speech(tmp_path)


def test_a_sound_that_a_table_lacks(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "metadata.csv").write_text("sense-0880|he was\n")
    with pytest.raises(
        InputError, match=r"2 of 3 recordings have no transcript; the first is LJ001-0002\. Add them to metadata\.csv"
    ):
        load_speech(tmp_path)


@pytest.mark.parametrize(
    ("extra", "words"),
    [("lonely.txt", "1 of 4 transcripts have no recording"), ("bare.wav", "1 of 4 recordings have no transcript")],
)
def test_what_stands_alone_is_named(tmp_path: pathlib.Path, extra: str, words: str) -> None:
    pairs(tmp_path)
    (tmp_path / extra).write_text("a word") if extra.endswith("txt") else noise(tmp_path / extra)
    with pytest.raises(InputError, match=f"{words}, such as {extra}"):
        load_speech(tmp_path)


def test_texts_about_the_data_are_no_speech(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "LICENSE.txt").write_text("public domain")
    assert len(load_speech(tmp_path).values) == 3


def test_an_empty_text_is_refused(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "LJ001-0002.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"LJ001-0002\.txt: the transcript is empty"):
        load_speech(tmp_path)


def test_two_of_one_name_are_refused(tmp_path: pathlib.Path) -> None:
    noise(pairs(tmp_path) / "sense-0880.wav")
    with pytest.raises(InputError, match=r"sense-0880\.flac and sense-0880\.wav"):
        load_speech(tmp_path)


@pytest.mark.parametrize(
    "what", ["lexicon.txt", "alignments.jsonl", "speakers.csv", "metadata.csv", "sense-0880.TextGrid"]
)
def test_tables_that_are_links_to_outside_are_refused(tmp_path: pathlib.Path, what: str) -> None:
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", pairs(tmp_path / "here") / what)
    with pytest.raises(InputError, match=rf"the link {what!r}") as caught:
        load_speech(tmp_path / "here")
    assert "secret" not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize("what", ["x.wav", "x.txt"])
def test_links_to_outside_are_refused(tmp_path: pathlib.Path, what: str) -> None:
    folder = pairs(tmp_path / "here")
    noise(tmp_path / "x.wav")
    (tmp_path / "x.txt").write_text("secret")
    for name in ("x.wav", "x.txt"):
        if name == what:
            os.symlink(tmp_path / name, folder / name)
        else:
            (folder / name).write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(InputError, match=rf"the link 'x\.{what[2:]}'"):
        load_speech(folder)


def test_damaged_sounds_are_counted(tmp_path: pathlib.Path) -> None:
    for name in ("bad", "worse"):
        (pairs(tmp_path) / f"{name}.wav").write_text("no sound")
        (tmp_path / f"{name}.txt").write_text("a word")
    with pytest.raises(
        InputError,
        match=r"2 of 5 recordings are damaged: .*bad\.wav: expected .*; .*worse\.wav: expected",
    ):
        load_speech(tmp_path)


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    for name, seconds, text in (
        ("long", 3.0, "a word"),
        ("rare", 1.0, "zyzzx is xyzzq"),
        ("short", 0.1, "a very long sentence for so little sound"),
        ("shorter", 0.02, "a"),
        ("signs", 1.0, "it costs $5"),
    ):
        noise(tmp_path / f"{name}.wav", seconds)
        (tmp_path / f"{name}.txt").write_text(text)
    found = load_speech(tmp_path, 2)
    assert found.names == ("LJ001-0002.flac", "LJ001-0008.flac")
    reasons = {line.split(" ")[0]: line for line in found.dropped}
    assert [*reasons] == ["long.wav", "rare.wav", "sense-0880.flac", "short.wav", "shorter.wav", "signs.wav"]
    assert "expected at most 2 s; found 3.0 s" in reasons["long.wav"]
    assert "'zyzzx', 'xyzzq'" in reasons["rare.wav"]
    assert "found 0.10 s" in reasons["short.wav"]
    assert "found 0.020 s" in reasons["shorter.wav"]
    assert "found '$5'" in reasons["signs.wav"]
    told = next(note for note in found.notes if note.startswith("6 of 8 sounds left out: long.wav"))
    assert all(name in told for name in reasons)
    assert any(
        note.startswith("2 words are missing in the dictionary: zyzzx, xyzzq; write each") for note in found.notes
    )


def test_sounds_that_are_left_out_for_one_reason_stand_together(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    for name in ("one", "two"):
        noise(tmp_path / f"{name}.wav", 3.0)
        (tmp_path / f"{name}.txt").write_text("a")
    told = next(note for note in load_speech(tmp_path, 2).notes if "left out" in note)
    assert "left out: one.wav, sense-0880.flac, two.wav (expected at most 2 s; found 3.0 s" in told


def test_a_lexicon_beside_the_sounds(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "LJ001-0008.txt").write_text("has never been zurpassed")
    assert len(load_speech(tmp_path).values) == 2
    (tmp_path / "lexicon.txt").write_text("zurpassed S ER P AE S T\n")
    found = load_speech(tmp_path)
    assert len(found.values) == 3
    assert found.alignments[1].phones[-7:] == ("S_B", "ER_I", "P_I", "AE_I", "S_I", "T_E", "SIL")


def test_nothing_that_can_be_used_is_an_error(tmp_path: pathlib.Path) -> None:
    noise(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("zyzzx")
    with pytest.raises(InputError, match=r"none of 1 recordings is usable: a\.wav \(no pronunciation for 'zyzzx'"):
        load_speech(tmp_path)


def test_a_text_that_hardly_fits_is_kept_and_told(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "sense-0880.txt").write_text("she will never come back to this town")
    found = load_speech(tmp_path)
    assert len(found.values) == 3
    assert any("1 texts hardly fit their sounds" in note and "sense-0880.flac (-8" in note for note in found.notes)


def test_ready_alignments_are_taken(tmp_path: pathlib.Path) -> None:
    found = load_speech(ready(tmp_path))
    assert found.alignments[0].phones == ("SIL", "HH_B", "AY_E", "SIL")
    assert found.alignments[0].durations == (10, 20, 40, 30)
    assert found.notes == ("1 alignments were read, 0 were made",)


def test_ready_alignments_name_files_in_folders(tmp_path: pathlib.Path) -> None:
    ready(tmp_path / "x", file="deep/a.wav")
    (tmp_path / "x" / "deep").mkdir()
    for name in ("a.wav", "a.txt"):
        (tmp_path / "x" / name).rename(tmp_path / "x" / "deep" / name)
    assert load_speech(tmp_path / "x").alignments[0].durations == (10, 20, 40, 30)


def test_ready_alignments_of_sounds_that_are_not_here(tmp_path: pathlib.Path) -> None:
    folder = ready(tmp_path)
    with (folder / "alignments.jsonl").open("a") as file:
        file.write("\n" + json.dumps({**READY, "file": "gone.wav"}))
    assert "alignments.jsonl names 1 sounds that are not here" in load_speech(folder).notes


def test_one_recording_says_nothing_of_others(tmp_path: pathlib.Path) -> None:
    folder = ready(tmp_path)
    with (folder / "alignments.jsonl").open("a") as file:
        file.write("\n" + json.dumps({**READY, "file": "gone.wav"}))
    sound, words, notes = load_recording(folder / "a.wav", "I", 16_000, {})
    assert (sound.frames, words[-1].end, notes) == (100, 100, ())


def test_ready_alignments_of_another_sound_are_listed(tmp_path: pathlib.Path) -> None:
    pairs(ready(tmp_path, phones=[["SIL", 0, 10], ["AY", 10, 500]]))
    found = load_speech(tmp_path)
    assert found.dropped == (
        "a.wav (expected words inside the recording of 1.00 s; found '' from 0.10 s to 5.10 s."
        " Check that the alignment belongs to this recording)",
    )


def test_a_textgrid_beside_a_sound(tmp_path: pathlib.Path) -> None:
    noise(tmp_path / "a.wav", 0.52)
    (tmp_path / "a.txt").write_text("Hello I")
    (tmp_path / "a.TextGrid").write_text(LONG)
    found = load_speech(tmp_path)
    assert found.alignments[0].durations == (10, 5, 5, 5, 5, 0, 15, 7)


def test_other_phones_are_not_mixed_with_those_of_english(tmp_path: pathlib.Path) -> None:
    pairs(ready(tmp_path, phones=[["ʃ", 0, 50], ["aɪ", 50, 50]]))
    found = load_speech(tmp_path)
    assert found.alignments[0].phones == ("SIL", "ʃ_B", "aɪ_E", "SIL")
    assert len(found.dropped) == 3
    assert "expected an alignment" in found.dropped[0]


def test_a_lexicon_has_the_phones_of_alignments_that_are_ready(tmp_path: pathlib.Path) -> None:
    folder = ready(tmp_path, phones=[["\u0283", 0, 50], ["a\u026a", 50, 50]])
    (folder / "lexicon.txt").write_text("schei \u0283 a\u026a\n")
    assert load_speech(folder).alignments[0].phones == ("SIL", "\u0283_B", "a\u026a_E", "SIL")
    (folder / "lexicon.txt").write_text("schei S a\u026a\n")
    with pytest.raises(InputError, match=r"lexicon\.txt[:,] line 1: expected phones .*found 'S'"):
        load_speech(folder)


def test_most_sounds_decide_on_the_rate(tmp_path: pathlib.Path) -> None:
    for i, rate in enumerate((8_000, 8_000, 16_000)):
        folder = ready(tmp_path, file=f"{i}.wav") if not i else tmp_path
        noise(folder / f"{i}.wav", rate=rate)
        (folder / f"{i}.txt").write_text("hi")
    lines = [json.dumps({**READY, "file": f"{i}.wav"}) for i in range(3)]
    (tmp_path / "alignments.jsonl").write_text("\n".join(lines))
    for name in ("a.wav", "a.txt"):
        (tmp_path / name).unlink()
    found = load_speech(tmp_path)
    assert {sound.sample_rate for sound in found.values} == {8_000}
    assert found.notes[0] == "1 file was at 16,000 Hz, brought to 8,000 Hz"
    assert [layout.frames for layout in found.alignments] == [100] * 3


def test_one_sound_with_its_text(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    found = finding.load_raw(tmp_path / "sense-0880.flac", ReadOptions())
    assert isinstance(found, RawSpeech)
    assert found.texts == (TEXTS["sense-0880.flac"],)
    (tmp_path / "sense-0880.txt").unlink()
    with pytest.raises(
        InputError, match=r"sense-0880\.flac: expected a transcript; found none\. Write .* to sense-0880\.txt"
    ):
        finding.load_raw(tmp_path / "sense-0880.flac", ReadOptions())


def test_samples_need_no_text(tmp_path: pathlib.Path) -> None:
    noise(tmp_path / "a.wav")
    found = load_speech(tmp_path, None)
    assert (found.texts, found.alignments, len(found.values)) == ((), (), 1)
    assert len(load_speech(tmp_path / "a.wav", None).values) == 1


def test_pictures_with_a_sound_beside_stay_pictures(tmp_path: pathlib.Path) -> None:
    from PIL import Image

    for i in range(3):
        Image.fromarray(np.full((8, 8), 40 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    noise(tmp_path / "a.wav")
    assert isinstance(finding.load_raw(tmp_path, ReadOptions()), RawImages)


def test_other_kinds_are_told_at_once(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="expected images; found speech"):
        finding.load_raw(pairs(tmp_path), ReadOptions(raw_type=RawImages))


def test_silent_sounds_are_left_out_and_counted(tmp_path: pathlib.Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(ready(tmp_path) / "silent.wav", np.zeros(8000), 16_000)
    (tmp_path / "silent.txt").write_text("a word")
    with (tmp_path / "alignments.jsonl").open("a") as file:
        file.write(f"\n{json.dumps({**READY, 'file': 'silent.wav'})}")
    found = load_speech(tmp_path)
    assert found.names == ("a.wav",)
    assert found.dropped == ("silent.wav (it is nothing but silence)",)
    assert "1 of 2 sounds left out: silent.wav (it is nothing but silence)" in found.notes
    bare = finding.load_raw(tmp_path, ReadOptions(raw_type=RawWaveforms))
    assert bare.names == ("a.wav",)
    assert bare.notes[-1] == "left out 1 of 2 sounds, which are nothing but silence: silent.wav"
    with pytest.raises(InputError, match=r"silent\.wav: the recording is silent"):
        load_waveforms(tmp_path)  # what is judged is judged as a whole


def test_silence_alone_is_refused(tmp_path: pathlib.Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    (tmp_path / "silent.txt").write_text("a word")
    with pytest.raises(InputError, match=r"silent\.wav: the recording is silent"):
        load_speech(tmp_path)
