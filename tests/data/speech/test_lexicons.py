"""Pronunciations: of the dictionary, of a user, letter by letter on request."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.speech.lexicon import Lexicon, cmu_entries, own_words, read_lexicon
from feller.data.speech.phones import ARPABET


@pytest.fixture(scope="module")
def cmu() -> Lexicon:
    return Lexicon(cmu_entries())


def test_the_dictionary(cmu: Lexicon) -> None:
    phones, missing = cmu.phones("Hello, world!")
    assert phones == (("HH", "AH", "L", "OW"), ("W", "ER", "L", "D"))
    assert missing == ()
    assert cmu.of("a") == (("AH",), ("EY",))
    assert {phone for found in cmu.entries.values() for one in found for phone in one} == {*ARPABET}
    assert all(cmu.of(f"{letter}.") for letter in "abcdefghijklmnopqrstuvwxyz")


def test_missing_words_are_returned(cmu: Lexicon) -> None:
    phones, missing = cmu.phones("the woodcutters and the zyzzx")
    assert missing == ("woodcutters", "zyzzx")
    assert len(phones) == 3


def test_letter_by_letter_on_request(cmu: Lexicon) -> None:
    phones, missing = cmu.phones("zbq", spelled=True)
    assert (phones, missing) == ((("Z", "IY", "B", "IY", "K", "Y", "UW"),), ())
    assert cmu.phones("hello", spelled=True)[0] == (("HH", "AH", "L", "OW"),)
    assert cmu.phones("\u0436", spelled=True) == ((), ("\u0436",))


def test_accents_are_dropped_where_only_the_plain_word_is_known(cmu: Lexicon) -> None:
    assert cmu.of("café") == cmu.of("cafe") != ()


def test_a_user_goes_first(tmp_path: pathlib.Path) -> None:
    (tmp_path / "own.txt").write_text("Zyzzx Z IH1 Z\n\nhello HH EH L OW\nhello(2) HH AH L OW\n")
    lexicon = Lexicon(cmu_entries(), read_lexicon(tmp_path / "own.txt"))
    assert lexicon.of("zyzzx") == (("Z", "IH", "Z"),)
    assert lexicon.of("hello") == (("HH", "EH", "L", "OW"), ("HH", "AH", "L", "OW"))
    assert lexicon.of("world") == (("W", "ER", "L", "D"),)


@pytest.mark.parametrize(("line", "words"), [("word", "a word and its phones"), ("word W XX", "'XX' is no phone")])
def test_malformed_lines_are_named(tmp_path: pathlib.Path, line: str, words: str) -> None:
    (tmp_path / "own.txt").write_text(f"good G UH D\n{line}\n")
    with pytest.raises(InputError, match=rf"own\.txt: line 2: .*{words}"):
        read_lexicon(tmp_path / "own.txt")


def test_other_phones_are_those_of_the_data(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("Straße ʃ t ʁ aː s ə\nchien ʃ j e\u0303\n")
    lexicon = Lexicon({}, own_words(own, {"SIL", "ʃ", "t", "ʁ", "aː", "s", "ə", "j", "\u1ebd"}))
    assert lexicon.of("straße") == (("ʃ", "t", "ʁ", "aː", "s", "ə"),)
    assert lexicon.of("chien") == (("ʃ", "j", "\u1ebd"),)  # an accent is one letter or two, and the same
    assert lexicon.of("hello") == ()
    with pytest.raises(InputError, match=r"line 1: 'ʁ' is no phone; expected those of aː s t ə ʃ"):
        own_words(own, {"SIL", "ʃ", "t", "aː", "s", "ə"})
    assert own_words(tmp_path / "none.txt", {"ʃ"}) == {}


def test_phones_of_english_are_all_known(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("zebu Z IY1 B UW0\n")
    assert own_words(own, {"SIL", "AA", "B"}) == {"zebu": (("Z", "IY", "B", "UW"),)}
    assert own_words(own, ()) == own_words(own, {"SIL"})
