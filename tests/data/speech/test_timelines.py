"""Words on the frames of their sound: filled, cut at the ends, refused where they overlap."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.speech.alignment_files import fitted
from feller.data.speech.phones import SIL, Spoken, Word, laid_out


def said(text: str, *phones: tuple[str, int, int]) -> Word:
    return Word(text, tuple(Spoken(*phone) for phone in phones))


def test_silence_fills_what_is_free() -> None:
    words = [said("to", ("T", 3, 2), ("UW", 5, 4)), said("be", ("B", 9, 1), ("IY", 10, 3)), said("or", ("AO", 20, 5))]
    fit = fitted(words, 30)
    assert [(word.text, word.start, word.end) for word in fit] == [
        ("", 0, 3),
        ("to", 3, 9),
        ("be", 9, 13),
        ("", 13, 20),
        ("or", 20, 25),
        ("", 25, 30),
    ]
    assert laid_out(fit).durations == (3, 2, 4, 0, 1, 3, 7, 5, 5)


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
    fit = fitted(words, now + rest)
    edges = [(word.start, word.end) for word in fit]
    assert [start for start, _ in edges] == [0, *(end for _, end in edges[:-1])][: len(edges)]
    assert laid_out(fit).frames == now + rest
    assert [word for word in fit if not word.silent] == words


def test_a_little_over_the_ends_is_cut_off() -> None:
    fit = fitted([said("ah", ("AH", -2, 4), ("M", 2, 5))], 5)
    assert fit == (said("ah", ("AH", 0, 2), ("M", 2, 3)),)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([said("a", ("AH", 0, 3)), said("b", ("B", 2, 3))], "'b' begins at 0.02 s, before the last one ends"),
        ([said("ab", ("AH", 0, 3), ("B", 4, 3))], "B of the word 'ab' begins at 0.04 s, and the phone before it"),
        ([said("ab", ("AH", 0, -1), ("B", -1, 3))], "AH of the word 'ab'"),
        ([said("a", ("AH", 8, 5))], "from 0.08 s to 0.13 s, and the sound ends at 0.10 s; is it the right sound"),
        ([said("ab", ("AH", 5, 5), ("B", 10, 2))], "B of the word 'ab' lies outside the sound"),
        ([said("a")], "'a' has no phones"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[Word], told: str) -> None:
    with pytest.raises(InputError, match=told):
        fitted(words, 10)


def test_silences_may_reach_over_the_ends() -> None:
    fit = fitted([said("", (SIL, -10, 13)), said("a", ("AH", 3, 3)), said("", (SIL, 6, 20))], 10)
    assert laid_out(fit).durations == (3, 3, 4)
