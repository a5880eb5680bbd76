"""Scripts: tasks as phones of which some are kept; and words on the frames of their sound."""

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

HELLO, WORLD, TOM = ("HH", "AH", "L", "OW"), ("W", "ER", "L", "D"), ("T", "AA", "M")


def clip(*entries: tuple[str, tuple[str, ...], tuple[int, ...]]) -> AlignedRecording:
    """Return a recording of words with the lengths of their phones; SIL is a silence."""
    words, now = [], 0
    for text, phones, lengths in entries:
        spoken = []
        for phone, length in zip(phones, lengths, strict=True):
            spoken.append(TimedPhone(phone, now, length))
            now += length
        words.append(Word(text, tuple(spoken)))
    mel = torch.arange(now, dtype=torch.float32)[:, None].expand(-1, 4).contiguous()
    return AlignedRecording(mel, tuple(words), Waveform(np.zeros(now * 160, dtype=np.float32), 16000), "clip.wav")


def silence(length: int) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    return ("", (SIL,), (length,))


def hello_world() -> AlignedRecording:
    return clip(silence(8), ("hello", HELLO, (3, 2, 2, 1)), silence(7), ("world", WORLD, (4, 3, 2, 5)), silence(10))


def shape(script: Script) -> list[tuple[str, int | None, int | None]]:
    return [(part.phone, part.length, part.origin) for part in script.parts]


def test_an_edit_is_laid_out_as_in_the_paper() -> None:
    """SIL HH AH L OW SIL T AA M SIL with 8 3 2 2 1 7 0 0 0 10; the new ones get 1 5 2."""
    script = editing_script(hello_world(), "Hello, Tom!", [HELLO, TOM])
    assert shape(script) == [
        (SIL, 8, 0),
        ("HH_B", 3, 8),
        ("AH_I", 2, 11),
        ("L_I", 2, 13),
        ("OW_E", 1, 15),
        (SIL, 7, 16),
        ("T_B", None, None),
        ("AA_I", None, None),
        ("M_E", None, None),
        (SIL, 10, 37),
    ]
    whole = script.with_durations((8, 3, 2, 2, 1, 7, 1, 5, 2, 10))
    assert sum(whole.lengths) == 8 + 3 + 2 + 2 + 1 + 7 + 8 + 10
    assert whole.starts[6] == 23


def test_the_same_text_keeps_all() -> None:
    script = editing_script(hello_world(), "hello world", [HELLO, WORLD])
    assert all(part.is_recorded for part in script.parts)
    assert sum(script.lengths) == 47
    assert [part.origin for part in script.parts] == list(script.starts)


def test_words_that_go_take_one_silence_with_them_and_new_ones_have_unknown_ones_between() -> None:
    gone = editing_script(hello_world(), "hello", [HELLO])
    assert shape(gone)[-1] == (SIL, 7, 16)
    first = editing_script(hello_world(), "world", [WORLD])
    assert shape(first)[0] == (SIL, 7, 16)
    assert shape(first)[-1] == (SIL, 10, 37)
    two = editing_script(hello_world(), "hello tom tom", [HELLO, TOM, TOM])
    assert [part.length for part in two.parts if part.phone == SIL] == [8, 7, None, 10]
    front = editing_script(hello_world(), "tom hello world", [TOM, HELLO, WORLD])
    assert [part.length for part in front.parts if part.phone == SIL] == [8, None, 7, 10]
    inside = editing_script(hello_world(), "hello tom world", [HELLO, TOM, WORLD])
    assert [part.length for part in inside.parts if part.phone == SIL] == [8, 7, None, 10]


def test_all_new_words_keep_the_ends() -> None:
    script = editing_script(hello_world(), "tom", [TOM])
    assert shape(script) == [(SIL, 8, 0), ("T_B", None, None), ("AA_I", None, None), ("M_E", None, None), (SIL, 10, 37)]


def test_a_voice_is_heard_first_and_goes_on() -> None:
    script = voice_prompt_script(hello_world(), [TOM])
    assert script.prompt_length == 11
    assert [part.is_recorded for part in script.parts] == [True] * 11 + [False] * 4
    assert [part.phone for part in script.parts[11:]] == ["T_B", "AA_I", "M_E", SIL]


def test_noise_goes_with_the_phones_that_it_touches_whose_times_stay() -> None:
    script = denoising_script(hello_world(), 12, 14)
    assert [part.phone for part in script.parts if not part.is_recorded] == ["AH_I", "L_I"]
    assert sum(script.lengths) == 47
    everything = denoising_script(hello_world(), 0, 47)
    assert not any(part.is_recorded for part in everything.parts)
    for first, last in ((-1, 4), (5, 5), (40, 48), (9, 2)):
        with pytest.raises(UsageError, match="span inside"):
            denoising_script(hello_world(), first, last)


def test_style_goes_over_with_the_times_of_the_content() -> None:
    script = style_transfer_script(hello_world(), clip(silence(2), ("tom", TOM, (1, 5, 2)), silence(3)))
    assert shape(script)[11:] == [(SIL, 2, None), ("T_B", 1, None), ("AA_I", 5, None), ("M_E", 2, None), (SIL, 3, None)]
    assert script.prompt_length == 11
    assert resynthesis_script(hello_world()).lengths == (8, 3, 2, 2, 1, 7, 4, 3, 2, 5, 10)


def test_ghost_silences_last_nothing() -> None:
    tight = clip(("a", ("AH",), (3,)), ("b", ("B", "IY"), (2, 2)))
    assert shape(editing_script(tight, "a b", [("AH",), ("B", "IY")])) == [
        (SIL, 0, 0),
        ("AH_S", 3, 0),
        (SIL, 0, 3),
        ("B_B", 2, 3),
        ("IY_E", 2, 5),
        (SIL, 0, 7),
    ]


def test_speed_changes_what_is_new_alone() -> None:
    script = voice_prompt_script(hello_world(), [TOM])
    whole = script.with_durations((*(part.length or 0 for part in script.parts[:11]), 1, 5, 2, 40))
    fast = whole.with_speed(2.0)
    assert fast.lengths[:11] == whole.lengths[:11]
    assert fast.lengths[11:] == (1, 2, 1, 20)
    assert whole.with_trimmed_silence().lengths[11:] == (1, 5, 2, 10)
    assert whole.with_speed(0.5).lengths[11:] == (2, 10, 4, 80)


def test_lengths_that_are_not_known_are_told() -> None:
    with pytest.raises(UsageError, match="a duration for every phone"):
        _ = text_script([TOM]).lengths


def test_phones_without_words_cannot_be_edited() -> None:
    with pytest.raises(InputError, match="alignment with words"):
        editing_script(clip(("", TOM, (1, 5, 2))), "tom", [TOM])


def said(text: str, *phones: tuple[str, int, int]) -> Word:
    return Word(text, tuple(TimedPhone(*phone) for phone in phones))


def test_silence_fills_what_is_free() -> None:
    words = [said("to", ("T", 3, 2), ("UW", 5, 4)), said("be", ("B", 9, 1), ("IY", 10, 3)), said("or", ("AO", 20, 5))]
    fit = fit_to_sound(words, 30)
    assert [(word.text, word.start, word.end) for word in fit] == [
        ("", 0, 3),
        ("to", 3, 9),
        ("be", 9, 13),
        ("", 13, 20),
        ("or", 20, 25),
        ("", 25, 30),
    ]
    assert align_phones(fit).durations == (3, 2, 4, 0, 1, 3, 7, 5, 5)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(1, 5), min_size=1, max_size=4)), max_size=6),
    st.integers(0, 5),
)
def test_a_fit_fills_all_frames(parts: list[tuple[int, list[int]]], rest: int) -> None:
    words, now = [], 0
    for gap, lengths in parts:
        now += gap
        phones = []
        for length in lengths:
            phones.append(("AH", now, length))
            now += length
        words.append(said("x", *phones))
    fit = fit_to_sound(words, now + rest)
    edges = [(word.start, word.end) for word in fit]
    assert [start for start, _ in edges] == [0, *(end for _, end in edges[:-1])][: len(edges)]
    assert align_phones(fit).frames == now + rest
    assert [word for word in fit if not word.is_silence] == words


def test_a_little_over_the_ends_is_cut_off() -> None:
    fit = fit_to_sound([said("ah", ("AH", -2, 4), ("M", 2, 5))], 5)
    assert fit == (said("ah", ("AH", 0, 2), ("M", 2, 3)),)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([said("a", ("AH", 0, 3)), said("b", ("B", 2, 3))], "words after 0.03 s, .*; found 'b' at 0.02 s"),
        ([said("ab", ("AH", 0, 3), ("B", 4, 3))], "the word 'ab'; found B at 0.04 s"),
        ([said("ab", ("AH", 0, -1), ("B", -1, 3))], "the word 'ab'; found AH"),
        ([said("a", ("AH", 8, 5))], "inside the recording of 0.10 s; found 'a' from 0.08 s to 0.13 s"),
        ([said("ab", ("AH", 5, 5), ("B", 10, 2))], "found B of 'ab' outside"),
        ([said("a")], "none for 'a'"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[Word], told: str) -> None:
    with pytest.raises(InputError, match=told):
        fit_to_sound(words, 10)


def test_silences_may_reach_over_the_ends() -> None:
    fit = fit_to_sound([said("", (SIL, -10, 13)), said("a", ("AH", 3, 3)), said("", (SIL, 6, 20))], 10)
    assert align_phones(fit).durations == (3, 3, 4)
