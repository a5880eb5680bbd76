"""Folders of recordings with transcripts, speakers and alignments."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from feller.core.errors import InputError
from feller.data.loading.file_formats import load_raw
from feller.data.loading.raw import RawImages, RawSpeech, RawWaveforms, Waveform
from feller.data.loading.read_options import ReadOptions
from feller.data.speech.files import load_recording, load_speech, load_waveforms
from tests.data.speech.clip import TEXTS
from tests.data.speech.test_textgrids import LONG
from tests.data.speech.written import noise, pairs
from tests.errors import refuses

METADATA = [f"{pathlib.Path(name).stem}|{text}" for name, text in TEXTS.items()]
READY = {"file": "a.wav", "phones": [["SIL", 0, 10], ["HH", 10, 20], ["AY", 30, 40], ["SIL", 70, 30]]}


def write_aligned(folder: pathlib.Path, name: str = "a.wav", **fields: object) -> pathlib.Path:
    """Write a sound with its alignment."""
    file = noise(folder / name)
    file.with_suffix(".txt").write_text("hi")
    (folder / "alignments.jsonl").write_text(json.dumps({**READY, "file": name, **fields}))
    return folder


def add_line(folder: pathlib.Path, name: str) -> None:
    """Add the same alignment for another sound."""
    with (folder / "alignments.jsonl").open("a") as file:
        file.write("\n" + json.dumps({**READY, "file": name}))


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder of the clips with alignments, which need no aligner."""
    folder = pairs(tmp_path_factory.mktemp("aligned"))
    lines = [json.dumps({**READY, "file": name}) for name in TEXTS]
    (folder / "alignments.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def clips(aligned: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a copy of `aligned` that a test may change."""
    return pathlib.Path(shutil.copytree(aligned, tmp_path / "clips"))


def test_folder_of_sounds_and_texts(tmp_path: pathlib.Path) -> None:
    found = load_raw(pairs(tmp_path), ReadOptions())
    assert isinstance(found, RawSpeech)
    assert found.names == tuple(sorted(TEXTS))
    assert found.texts == tuple(TEXTS[name] for name in sorted(TEXTS))
    for sound, layout in zip(found.values, found.alignments, strict=True):
        assert isinstance(sound, Waveform)
        assert sound.sample_rate == 16_000
        assert layout.frames == len(sound.samples) // 160
    assert found.alignments[1].phones[:6] == ("SIL", "HH_B", "AE_I", "Z_E", "SIL", "N_B")
    assert found.labels is None
    assert found.dropped == ()


def test_subfolders_are_speakers(tmp_path: pathlib.Path) -> None:
    for folder in ("anna/one", "bert"):
        noise(tmp_path / folder / "a.wav")
        (tmp_path / folder / "a.txt").write_text("hi")
    lines = [json.dumps({**READY, "file": f"{folder}/a.wav"}) for folder in ("anna/one", "bert")]
    (tmp_path / "alignments.jsonl").write_text("\n".join(lines))
    found = load_speech(tmp_path)
    assert found.classes == ("anna", "bert")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    assert found.names == ("anna/one/a.wav", "bert/a.wav")


def test_table_of_speakers(clips: pathlib.Path) -> None:
    (clips / "speakers.csv").write_text("id,sex,speaker\nsense-0880,F,kim\nLJ001-0002,F,linda\nLJ001-0008,F,linda\n")
    found = load_speech(clips)
    assert found.classes == ("kim", "linda")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("table", "file", "found"),
    [
        ("speaker,sex\nkim,F\n", "speakers.csv", "speaker, sex"),
        ("file,speaker\nsense-0880.flac,kim\n", "", None),
        ("file,speaker\nsense-0880.flac\n", "speakers.csv", "'sense-0880.flac'"),
        ("", "speakers.csv", "none"),
    ],
)
def test_invalid_tables_of_speakers_are_refused(clips: pathlib.Path, table: str, file: str, found: str | None) -> None:
    (clips / "speakers.csv").write_text(table)
    with refuses(InputError, file=str(clips / file), found=found):
        load_speech(clips)


@pytest.mark.parametrize("inner", ["", "wavs"])
def test_table_of_texts(tmp_path: pathlib.Path, inner: str) -> None:
    """The third column, with numbers in words, precedes the second; quotes have no meaning."""
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
    ("lines", "line", "found"),
    [
        ([*METADATA, "lonely|a text"], None, None),
        (METADATA[:1], None, None),
        ([*METADATA, METADATA[0]], 4, "two"),
        ([*METADATA, "other"], 4, "'other'"),
        ([*METADATA, "other||"], 4, "none"),
        ([*METADATA, "a|b|c|d"], 4, "'a|b|c|d'"),
    ],
    ids=["no-recording", "no-transcript", "duplicate", "one-cell", "empty", "four-cells"],
)
def test_invalid_tables_of_texts_are_refused(
    clips: pathlib.Path, lines: list[str], line: int | None, found: str | None
) -> None:
    table = clips / "metadata.csv"
    table.write_text("\n".join(lines))
    location = {"file": str(clips)} if line is None else {"place": f"{table}: line {line}"}
    with refuses(InputError, **location, found=found):
        load_speech(clips)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lonely.txt", None),
        ("bare.wav", None),
        ("sense-0880.wav", "sense-0880.flac and sense-0880.wav"),
    ],
)
def test_unpaired_and_duplicate_files_are_refused(clips: pathlib.Path, name: str, found: str | None) -> None:
    (clips / name).write_text("a word") if name.endswith("txt") else noise(clips / name)
    with refuses(InputError, file=str(clips), found=found) as error:
        load_speech(clips)
    assert name in str(error.value)


def test_texts_about_the_data_are_no_transcripts(clips: pathlib.Path) -> None:
    (clips / "LICENSE.txt").write_text("public domain")
    assert len(load_speech(clips).values) == 3
    (clips / "LJ001-0002.txt").write_text(" \n")
    with refuses(InputError, file=str(clips / "LJ001-0002.txt")):
        load_speech(clips)


@pytest.mark.parametrize(
    "name",
    ["lexicon.txt", "alignments.jsonl", "speakers.csv", "metadata.csv", "sense-0880.TextGrid", "x.wav", "x.txt"],
)
def test_links_to_files_outside_are_refused(clips: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    secret = tmp_path / "secret"
    noise(secret.with_suffix(".wav")).rename(secret) if name == "x.wav" else secret.write_text("secret")
    if name == "x.wav":
        (clips / "x.txt").write_text("hi")
    elif name == "x.txt":
        noise(clips / "x.wav")
    (clips / name).unlink(missing_ok=True)
    (clips / name).symlink_to(secret)
    with refuses(InputError, found=f"the link {name!r} to a file outside this folder") as error:
        load_speech(clips)
    assert "secret" not in str(error.value).replace(str(tmp_path), "")


def test_damaged_sounds_are_refused(clips: pathlib.Path) -> None:
    for name in ("bad", "worse"):
        (clips / f"{name}.wav").write_text("no sound")
        (clips / f"{name}.txt").write_text("a word")
    with refuses(InputError) as error:
        load_speech(clips)
    assert all(name in str(error.value) for name in ("2 of 5", "bad.wav", "worse.wav"))


def test_unusable_sounds_are_left_out_with_their_reason(tmp_path: pathlib.Path) -> None:
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
    for name, part in (("long", "3.0 s"), ("rare", "'zyzzx', 'xyzzq'"), ("short", "0.10 s"), ("signs", "'$5'")):
        assert part in reasons[f"{name}.wav"]
    assert "0.020 s" in reasons["shorter.wav"]
    assert any("6 of 8" in note and all(name in note for name in reasons) for note in found.notes)
    assert any("zyzzx, xyzzq" in note for note in found.notes)


def test_lexicon_of_a_folder(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "LJ001-0008.txt").write_text("has never been zurpassed")
    assert len(load_speech(tmp_path).values) == 2
    (tmp_path / "lexicon.txt").write_text("zurpassed S ER P AE S T\n")
    found = load_speech(tmp_path)
    assert len(found.values) == 3
    assert found.alignments[1].phones[-7:] == ("S_B", "ER_I", "P_I", "AE_I", "S_I", "T_E", "SIL")


def test_folder_without_usable_sounds_is_refused(tmp_path: pathlib.Path) -> None:
    noise(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("zyzzx")
    with refuses(InputError, file=str(tmp_path)) as error:
        load_speech(tmp_path)
    assert "'zyzzx'" in str(error.value)


def test_texts_with_low_scores_are_kept_with_a_note(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "sense-0880.txt").write_text("she will never come back to this town")
    found = load_speech(tmp_path)
    assert len(found.values) == 3
    assert any("sense-0880.flac (-8" in note for note in found.notes)


@pytest.mark.parametrize("name", ["a.wav", "deep/a.wav"])
def test_alignments_of_a_folder(tmp_path: pathlib.Path, name: str) -> None:
    folder = write_aligned(tmp_path, name)
    found = load_speech(folder)
    assert found.alignments[0].phones == ("SIL", "HH_B", "AY_E", "SIL")
    assert found.alignments[0].durations == (10, 20, 40, 30)
    assert len(found.notes) == 1
    add_line(folder, "gone.wav")
    assert len(load_speech(folder).notes) == 2
    sound, words, notes = load_recording(folder / name, "I", 16_000, {})
    assert (sound.frames, words[-1].end, notes) == (100, 100, ())


def test_sounds_with_the_alignment_of_another_are_left_out(clips: pathlib.Path) -> None:
    noise(clips / "a.wav")
    (clips / "a.txt").write_text("hi")
    with (clips / "alignments.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"file": "a.wav", "phones": [["SIL", 0, 10], ["AY", 10, 500]]}))
    (dropped,) = load_speech(clips).dropped
    assert dropped.startswith("a.wav")
    assert "5.10 s" in dropped


def test_textgrid_of_a_sound(tmp_path: pathlib.Path) -> None:
    noise(tmp_path / "a.wav", 0.52)
    (tmp_path / "a.txt").write_text("Hello I")
    (tmp_path / "a.TextGrid").write_text(LONG)
    found = load_speech(tmp_path)
    assert found.alignments[0].durations == (10, 5, 5, 5, 5, 0, 15, 7)


def test_other_phones_are_not_mixed_with_english_ones(tmp_path: pathlib.Path) -> None:
    pairs(write_aligned(tmp_path, phones=[["ʃ", 0, 50], ["aɪ", 50, 50]]))
    found = load_speech(tmp_path)
    assert found.alignments[0].phones == ("SIL", "ʃ_B", "aɪ_E", "SIL")
    assert len(found.dropped) == 3


def test_lexicon_has_the_phones_of_the_alignments(tmp_path: pathlib.Path) -> None:
    folder = write_aligned(tmp_path, phones=[["\u0283", 0, 50], ["a\u026a", 50, 50]])
    (folder / "lexicon.txt").write_text("schei \u0283 a\u026a\n")
    assert load_speech(folder).alignments[0].phones == ("SIL", "\u0283_B", "a\u026a_E", "SIL")
    (folder / "lexicon.txt").write_text("schei S a\u026a\n")
    with refuses(InputError, file=str(folder / "lexicon.txt"), place="line 1", found="'S'"):
        load_speech(folder)


def test_most_sounds_determine_the_rate(tmp_path: pathlib.Path) -> None:
    write_aligned(tmp_path, "0.wav")
    for i, rate in enumerate((8_000, 8_000, 16_000)):
        noise(tmp_path / f"{i}.wav", rate=rate)
        (tmp_path / f"{i}.txt").write_text("hi")
        add_line(tmp_path, f"{i}.wav") if i else None
    found = load_speech(tmp_path)
    assert {sound.sample_rate for sound in found.values} == {8_000}
    assert [layout.frames for layout in found.alignments] == [100] * 3


def test_single_sound_needs_its_text(clips: pathlib.Path) -> None:
    file = clips / "sense-0880.flac"
    found = load_raw(file, ReadOptions())
    assert isinstance(found, RawSpeech)
    assert found.texts == (TEXTS["sense-0880.flac"],)
    (clips / "sense-0880.txt").unlink()
    with refuses(InputError, file=str(file), found="none"):
        load_raw(file, ReadOptions())


def test_samples_need_no_text(tmp_path: pathlib.Path) -> None:
    noise(tmp_path / "a.wav")
    found = load_speech(tmp_path, None)
    assert (found.texts, found.alignments, len(found.values)) == ((), (), 1)
    assert len(load_speech(tmp_path / "a.wav", None).values) == 1


def test_folders_of_other_types(clips: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((8, 8), 40 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    noise(tmp_path / "a.wav")
    assert isinstance(load_raw(tmp_path, ReadOptions()), RawImages)
    with refuses(InputError, found="speech"):
        load_raw(clips, ReadOptions(raw_type=RawImages))


def test_silent_sounds_are_left_out(tmp_path: pathlib.Path) -> None:
    silent = write_aligned(tmp_path) / "silent.wav"
    soundfile.write(silent, np.zeros(8000), 16_000)
    (tmp_path / "silent.txt").write_text("a word")
    add_line(tmp_path, "silent.wav")
    found = load_speech(tmp_path)
    assert found.names == ("a.wav",)
    assert [name.split()[0] for name in found.dropped] == ["silent.wav"]
    waveforms = load_raw(tmp_path, ReadOptions(raw_type=RawWaveforms))
    assert waveforms.names == ("a.wav",)
    assert "silent.wav" in waveforms.notes[-1]
    with refuses(InputError, place="silent.wav"):
        load_waveforms(tmp_path)  # reports are on all sounds
    (tmp_path / "a.wav").unlink()
    (tmp_path / "a.txt").unlink()
    with refuses(InputError, file=str(silent)):
        load_speech(tmp_path)
