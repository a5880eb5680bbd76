"""Vocabularies of characters, bytes and subwords."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.data.text.subwords import Subwords, learn_subwords
from feller.data.text.vocabulary import Bytes, Characters
from tests.errors import refuses

FAST = settings(deadline=None, max_examples=50, derandomize=True)
ANY = st.text(st.characters(codec="utf-8"), max_size=40)
PROSE = ["the cat sat on the mat, the rat sat on the hat. " * 20, "über Maß und Größe — 世界 " * 10]
SUBWORDS = learn_subwords(PROSE, 290)


@FAST
@given(ANY)
def test_encoding_round_trip(text: str) -> None:
    own = Characters("".join(sorted(set(text))) or "x")
    for vocabulary in (own, Bytes(), SUBWORDS):
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text
        assert all(0 <= symbol < vocabulary.vocab_size for symbol in ids)
    assert [own.symbols[symbol] for symbol in own.encode(text)] == list(text)
    assert bytes(Bytes().encode(text)) == text.encode()


@FAST
@given(st.lists(st.integers(0, 255), max_size=20))
def test_invalid_utf8_is_decoded(ids: list[int]) -> None:
    assert Bytes().decode(ids).encode().count(0) == ids.count(0)
    assert SUBWORDS.decode(ids).encode() is not None


def test_token_ids_of_characters_and_bytes() -> None:
    assert Characters("ba\n").encode("ab\n\na") == [1, 0, 2, 2, 1]
    assert Bytes().encode("é\n") == [195, 169, 10]


@pytest.mark.parametrize(
    ("text", "found", "suggestion"),
    [
        ("cabéd", "'é' (U+00E9) at character 4", "'e'"),
        ("caB", "'B' (U+0042) at character 3", "'b'"),
        ("É", "'É' (U+00C9) at character 1", "'e'"),
        ("ab “c", "'“' (U+201C) at character 4", "'\"'"),
        ("a—b", "'—' (U+2014) at character 2", "'-'"),
        ("a\tb", "'\\t' (U+0009) at character 2", "' '"),
        ("世", "'世' (U+4E16) at character 1", None),
        ("ß", "'ß' (U+00DF) at character 1", None),
    ],
)
def test_unknown_characters_are_refused(text: str, found: str, suggestion: str | None) -> None:
    with refuses(InputError, found=found) as error:
        Characters('abcde "-').encode(text)
    assert suggestion is None or suggestion in str(error.value.remedy)


def test_lone_surrogates_are_refused() -> None:
    for vocabulary in (Bytes(), SUBWORDS):
        with refuses(InputError, found="'\\ud800' (U+D800), a lone surrogate, at character 3"):
            vocabulary.encode("ab\ud800")


def test_subwords_of_frequent_words() -> None:
    """Frequent words become single tokens; the same data give the same vocabulary."""
    assert len(SUBWORDS.encode("the cat sat on the mat")) <= 12
    assert len(SUBWORDS.encode("qzqz")) == 4
    assert SUBWORDS.vocab_size == 290
    assert learn_subwords(PROSE, 290) == SUBWORDS
    assert learn_subwords(["ab"], 400).vocab_size == 256  # no pair comes twice


@pytest.mark.parametrize("count", [0, 256, 2**17 + 1])
def test_subword_counts_out_of_range_are_refused(count: int) -> None:
    with refuses(UsageError, found=str(count)):
        learn_subwords(PROSE, count)


def test_invalid_vocabularies_are_refused() -> None:
    for symbols in ("aba", ""):
        with refuses(InputError, found=repr(symbols)):
            Characters(symbols)
    with refuses(InputError):
        Subwords("{}").encode("a")
