"""Alignments in JSON lines: both forms, there and back, and what may be wrong with them."""

import json
import pathlib
from typing import Any

import pytest

from feller.core.errors import InputError
from feller.data.speech.alignment_files import read_alignments
from feller.data.speech.phones import SIL, Spoken, Word
from tests.data.speech.clip import SHARED

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


def test_words_with_phones(tmp_path: pathlib.Path) -> None:
    assert read_alignments(write(tmp_path / "a.jsonl", WORDS)) == {
        "train/1.flac": (
            Word("", (Spoken(SIL, 0, 16),)),
            Word("four", (Spoken("F", 16, 5), Spoken("AO", 21, 3), Spoken("R", 24, 5))),
            Word("", (Spoken(SIL, 29, 2),)),
        )
    }


def test_phones_alone_are_words_between_silences(tmp_path: pathlib.Path) -> None:
    (words,) = read_alignments(write(tmp_path / "a.jsonl", PHONES, "")).values()
    assert [[spoken.phone for spoken in word.phones] for word in words] == [["SIL"], ["Z", "IH"], ["SIL"], ["OW"]]
    assert [word.silent for word in words] == [True, False, True, False]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{", "expected an object with 'file'"),
        ("[1]", "expected an object with 'file'"),
        ({"file": "a"}, "expected an object with 'file'"),
        ({"file": 3, "phones": []}, "expected an object with 'file'"),
        ({"file": "a", "phones": []}, "expected a list of phones"),
        ({"file": "a", "phones": [["AH", 0]]}, "expected .phone, start, length. in frames"),
        ({"file": "a", "phones": [["AH", 0.5, 2]]}, "expected .phone, start, length. in frames"),
        ({"file": "a", "phones": [["AH", 0, -1]]}, "expected .phone, start, length. in frames"),
        ({"file": "a", "phones": [["AH", True, 1]]}, "expected .phone, start, length. in frames"),
        ({"file": "a", "phones": [["SIL", 0, 9]]}, "nothing is said in a"),
        ({"file": "a", "phones": [["spn", 0, 9]]}, "spn at frame 0 is a word"),
        ({"file": "a", "words": {}}, "expected a list of words"),
        ({"file": "a", "words": [["x", 0, 5]]}, "expected .word, start, length, phones."),
        ({"file": "a", "words": [["x", 0, 5, [["AH", 0, 4]]]]}, "'x' lasts from 0 to 5, and its phones do not"),
        ({"file": "a", "words": [["x", 0, 5, [["AH", 0, 4], ["SIL", 4, 1]]]]}, "'x' holds silence"),
        (WORDS, "train/1.flac has a line already"),
    ],
)
def test_malformed_lines_are_named(tmp_path: pathlib.Path, entry: Any, told: str) -> None:
    path = write(tmp_path / "a.jsonl", WORDS, "", entry)
    with pytest.raises(InputError, match=rf"a\.jsonl: line 3: .*{told}") as caught:
        read_alignments(path)
    assert "\n" not in str(caught.value)


def test_a_file_without_alignments(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="got none"):
        read_alignments(write(tmp_path / "a.jsonl", ""))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger sets are not here")
@pytest.mark.parametrize(("name", "count"), [("fsdd", 2907), ("librispeech_excerpt", 122)])
def test_the_shared_sets_are_read(name: str, count: int) -> None:
    assert len(read_alignments(SHARED / name / "alignments.jsonl")) == count
