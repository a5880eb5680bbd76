"""Vocabularies: there and back, what is said about strangers, and how they are kept."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.text.subwords import Subwords, learn_subwords
from feller.data.text.vocabulary import Bytes, Characters, Vocabulary
from tests.errors import refuses

FAST = settings(deadline=None, max_examples=50, derandomize=True)
ANY = st.text(st.characters(codec="utf-8"), max_size=40)
PROSE = ["the cat sat on the mat, the rat sat on the hat. " * 20, "über Maß und Größe — 世界 " * 10]
SUBWORDS = learn_subwords(PROSE, 290)


@FAST
@given(ANY)
def test_decoding_undoes_encoding(text: str) -> None:
    own = Characters("".join(sorted(set(text))) or "x")
    for vocabulary in (own, Bytes(), SUBWORDS):
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text
        assert all(0 <= symbol < vocabulary.vocab_size for symbol in ids)
    assert [own.symbols[symbol] for symbol in own.encode(text)] == list(text)
    assert bytes(Bytes().encode(text)) == text.encode()


@FAST
@given(st.lists(st.integers(0, 255), max_size=20))
def test_bytes_that_are_no_text_can_be_shown(ids: list[int]) -> None:
    assert Bytes().decode(ids).encode().count(0) == ids.count(0)
    assert SUBWORDS.decode(ids).encode() is not None


def test_numbers_are_those_of_the_order_of_characters() -> None:
    assert Characters("ba\n").encode("ab\n\na") == [1, 0, 2, 2, 1]
    assert Characters("ba\n").vocab_size == 3
    assert Bytes().encode("é\n") == [195, 169, 10]
    assert Bytes().vocab_size == 256


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cabéd", r"'é' \(U\+00E9\) at character 4\. Write 'e' instead"),
        ("caB", r"'B' \(U\+0042\) at character 3\. Write 'b' instead"),
        ("É", r"'É' \(U\+00C9\) at character 1\. Write 'e' instead"),
        ("ab “c", r"'“' \(U\+201C\) at character 4\. Write '\"' instead"),
        ("a—b", r"'—' \(U\+2014\) at character 2\. Write '-' instead"),
        ("a\tb", r"'\\t' \(U\+0009\) at character 2\. Write ' ' instead"),
        ("世", r"'世' \(U\+4E16\) at character 1\. Remove it"),
        ("ß", r"'ß' \(U\+00DF\) at character 1\. Remove it"),
    ],
)
def test_strangers_are_named_with_their_place_and_what_is_near(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"expected one of the 8 characters of the vocabulary; found {said}") as caught:
        Characters('abcde "-').encode(text)
    assert "\n" not in str(caught.value)


def test_half_a_character_is_refused() -> None:
    for vocabulary in (Bytes(), SUBWORDS):
        with pytest.raises(InputError, match=r"found '\\ud800' \(U\+D800\), a lone surrogate, at character 3"):
            vocabulary.encode("ab\ud800")


def test_subwords_are_learnt_from_the_data() -> None:
    """Frequent words become single symbols; the same data give the same vocabulary."""
    assert len(SUBWORDS.encode("the cat sat on the mat")) <= 12
    assert len(SUBWORDS.encode("qzqz")) == 4
    assert SUBWORDS.vocab_size == 290
    assert learn_subwords(PROSE, 290) == SUBWORDS
    assert learn_subwords(["ab"], 400).vocab_size == 256  # no pair comes twice


@pytest.mark.parametrize("count", [0, 256, 2**17 + 1])
def test_numbers_of_subwords_out_of_range(count: int) -> None:
    with pytest.raises(UsageError, match=f"expected 257 to 131,072 subwords; found {count}"):
        learn_subwords(PROSE, count)


@pytest.mark.parametrize("vocabulary", [Characters("a\n\"é世'\\"), Bytes(), SUBWORDS], ids=lambda v: type(v).__name__)
def test_records_keep_them(vocabulary: Vocabulary) -> None:
    kept = json.loads(json.dumps(to_dict(vocabulary)))
    assert from_dict(Vocabulary, kept) == vocabulary
    assert from_dict(Vocabulary, kept).encode("a") == vocabulary.encode("a")


def test_damaged_vocabularies() -> None:
    with refuses(InputError, found="'aba'"):
        Characters("aba")
    with refuses(InputError, found="''"):
        Characters("")
    with pytest.raises(InputError, match="the subword vocabulary is damaged"):
        Subwords("{}").encode("a")
