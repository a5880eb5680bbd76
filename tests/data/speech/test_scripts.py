"""Scripts of speech editing tasks, and alignments fitted to recordings."""

import re
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import Waveform
from feller.data.speech.alignment_files import fit_to_sound
from feller.data.speech.phones import SIL, TimedPhone, Word, align_phones
from feller.data.speech.script import (
    AlignedRecording,
    Script,
    denoising_script,
    editing_script,
    resynthesis_script,
    style_transfer_script,
    text_script,
    voice_prompt_script,
)
from tests.errors import numbers, refuses

HELLO, WORLD, TOM = ("HH", "AH", "L", "OW"), ("W", "ER", "L", "D"), ("T", "AA", "M")


def clip(*entries: tuple[str, tuple[str, ...], tuple[int, ...]]) -> AlignedRecording:
    """Return a recording of words with the durations of their phones; SIL is a silence."""
    words, now = [], 0
    for text, phones, lengths in entries:
        starts = [now, *(now + total for total in accumulate(lengths))]
        words.append(Word(text, tuple(TimedPhone(*phone) for phone in zip(phones, starts, lengths, strict=False))))
        now = starts[-1]
    mel = torch.arange(now, dtype=torch.float32)[:, None].expand(-1, 4).contiguous()
    return AlignedRecording(mel, tuple(words), Waveform(np.zeros(now * 160, dtype=np.float32), 16000), "clip.wav")


def silence(length: int) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    return ("", (SIL,), (length,))


def hello_world() -> AlignedRecording:
    return clip(silence(8), ("hello", HELLO, (3, 2, 2, 1)), silence(7), ("world", WORLD, (4, 3, 2, 5)), silence(10))


def shape(script: Script) -> list[tuple[str, int | None, int | None]]:
    return [(part.phone, part.length, part.origin) for part in script.parts]


def test_editing_script_of_the_paper() -> None:
    """SIL HH AH L OW SIL T AA M SIL with 8 3 2 2 1 7 0 0 0 10; the new phones get 1 5 2."""
    script = editing_script(hello_world(), "Hello, Tom!", [HELLO, TOM])
    kept = [(SIL, 8, 0), ("HH_B", 3, 8), ("AH_I", 2, 11), ("L_I", 2, 13), ("OW_E", 1, 15), (SIL, 7, 16)]
    new = [("T_B", None, None), ("AA_I", None, None), ("M_E", None, None)]
    assert shape(script) == [*kept, *new, (SIL, 10, 37)]
    whole = script.with_durations((8, 3, 2, 2, 1, 7, 1, 5, 2, 10))
    assert sum(whole.lengths) == 8 + 3 + 2 + 2 + 1 + 7 + 8 + 10
    assert whole.starts[6] == 23


def test_unchanged_text_keeps_the_recording() -> None:
    script = editing_script(hello_world(), "hello world", [HELLO, WORLD])
    assert all(part.is_recorded for part in script.parts)
    assert sum(script.lengths) == 47
    assert [part.origin for part in script.parts] == list(script.starts)


def test_silences_of_edits() -> None:
    """Removed words take one silence with them; new words have silences of unknown length between them."""
    gone = editing_script(hello_world(), "hello", [HELLO])
    assert shape(gone)[-1] == (SIL, 7, 16)
    first = editing_script(hello_world(), "world", [WORLD])
    assert shape(first)[0] == (SIL, 7, 16)
    assert shape(first)[-1] == (SIL, 10, 37)
    for text, words, silences in (
        ("hello tom tom", [HELLO, TOM, TOM], [8, 7, None, 10]),
        ("tom hello world", [TOM, HELLO, WORLD], [8, None, 7, 10]),
        ("hello tom world", [HELLO, TOM, WORLD], [8, 7, None, 10]),
        ("tom", [TOM], [8, 10]),
    ):
        script = editing_script(hello_world(), text, words)
        assert [part.length for part in script.parts if part.phone == SIL] == silences


def test_voice_prompt_precedes_new_phones() -> None:
    script = voice_prompt_script(hello_world(), [TOM])
    assert script.prompt_length == 11
    assert [part.is_recorded for part in script.parts] == [True] * 11 + [False] * 4
    assert [part.phone for part in script.parts[11:]] == ["T_B", "AA_I", "M_E", SIL]


def test_denoising_regenerates_phones_in_the_span() -> None:
    script = denoising_script(hello_world(), 12, 14)
    assert [part.phone for part in script.parts if not part.is_recorded] == ["AH_I", "L_I"]
    assert sum(script.lengths) == 47
    everything = denoising_script(hello_world(), 0, 47)
    assert not any(part.is_recorded for part in everything.parts)
    for first, last in ((-1, 4), (5, 5), (40, 48), (9, 2)):
        with refuses(UsageError) as caught:
            denoising_script(hello_world(), first, last)
        assert f"{first / 100:.2f}:{last / 100:.2f}" in caught.value.found
        assert "clip.wav" in caught.value.expected
        assert numbers(caught.value.expected) == ["0.47"]


def test_style_transfer_keeps_durations_of_the_content() -> None:
    script = style_transfer_script(hello_world(), clip(silence(2), ("tom", TOM, (1, 5, 2)), silence(3)))
    assert shape(script)[11:] == [(SIL, 2, None), ("T_B", 1, None), ("AA_I", 5, None), ("M_E", 2, None), (SIL, 3, None)]
    assert script.prompt_length == 11
    assert resynthesis_script(hello_world()).lengths == (8, 3, 2, 2, 1, 7, 4, 3, 2, 5, 10)


def test_empty_silences_between_words() -> None:
    tight = clip(("a", ("AH",), (3,)), ("b", ("B", "IY"), (2, 2)))
    assert shape(editing_script(tight, "a b", [("AH",), ("B", "IY")])) == [
        (SIL, 0, 0),
        ("AH_S", 3, 0),
        (SIL, 0, 3),
        ("B_B", 2, 3),
        ("IY_E", 2, 5),
        (SIL, 0, 7),
    ]


def test_speed_changes_new_phones_only() -> None:
    script = voice_prompt_script(hello_world(), [TOM])
    whole = script.with_durations((*(part.length or 0 for part in script.parts[:11]), 1, 5, 2, 40))
    fast = whole.with_speed(2.0)
    assert fast.lengths[:11] == whole.lengths[:11]
    assert fast.lengths[11:] == (1, 2, 1, 20)
    assert whole.with_trimmed_silence().lengths[11:] == (1, 5, 2, 10)
    assert whole.with_speed(0.5).lengths[11:] == (2, 10, 4, 80)


def test_missing_durations_and_words_are_refused() -> None:
    with refuses(UsageError):
        _ = text_script([TOM]).lengths
    with refuses(InputError, place="clip.wav"):
        editing_script(clip(("", TOM, (1, 5, 2))), "tom", [TOM])


def timed_word(text: str, *phones: tuple[str, int, int]) -> Word:
    return Word(text, tuple(TimedPhone(*phone) for phone in phones))


def test_gaps_become_silences() -> None:
    words = [
        timed_word("to", ("T", 3, 2), ("UW", 5, 4)),
        timed_word("be", ("B", 9, 1), ("IY", 10, 3)),
        timed_word("or", ("AO", 20, 5)),
    ]
    fit = fit_to_sound(words, 30)
    assert [word.text for word in fit] == ["", "to", "be", "", "or", ""]
    assert [word.end for word in fit] == [3, 9, 13, 20, 25, 30]
    assert align_phones(fit).durations == (3, 2, 4, 0, 1, 3, 7, 5, 5)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(1, 5), min_size=1, max_size=4)), max_size=6),
    st.integers(0, 5),
)
def test_fitted_words_fill_all_frames(parts: list[tuple[int, list[int]]], rest: int) -> None:
    words, now = [], 0
    for gap, lengths in parts:
        now += gap
        phones = []
        for length in lengths:
            phones.append(("AH", now, length))
            now += length
        words.append(timed_word("x", *phones))
    fit = fit_to_sound(words, now + rest)
    edges = [(word.start, word.end) for word in fit]
    assert [start for start, _ in edges] == [0, *(end for _, end in edges[:-1])][: len(edges)]
    assert align_phones(fit).frames == now + rest
    assert [word for word in fit if not word.is_silence] == words


def test_small_overhangs_and_silences_are_cut() -> None:
    fit = fit_to_sound([timed_word("ah", ("AH", -2, 4), ("M", 2, 5))], 5)
    assert fit == (timed_word("ah", ("AH", 0, 2), ("M", 2, 3)),)
    words = [timed_word("", (SIL, -10, 13)), timed_word("a", ("AH", 3, 3)), timed_word("", (SIL, 6, 20))]
    assert align_phones(fit_to_sound(words, 10)).durations == (3, 3, 4)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([timed_word("a", ("AH", 0, 3)), timed_word("b", ("B", 2, 3))], ["'b'", "0.02"]),
        ([timed_word("ab", ("AH", 0, 3), ("B", 4, 3))], ["B", "0.04", "0.03"]),
        ([timed_word("ab", ("AH", 0, -1), ("B", -1, 3))], ["AH", "0.00", "0.00"]),
        ([timed_word("a", ("AH", 8, 5))], ["'a'", "0.08", "0.13"]),
        ([timed_word("ab", ("AH", 5, 5), ("B", 10, 2))], ["B", "'ab'"]),
        ([timed_word("a")], ["'a'"]),
    ],
)
def test_words_outside_the_recording_are_refused(words: list[Word], found: list[str]) -> None:
    """The error names the word or the phone, and its times in seconds."""
    with refuses(InputError) as caught:
        fit_to_sound(words, 10)
    assert re.findall(r"'\w+'|\b[A-Z]+\b|\d\.\d+", caught.value.found) == found
