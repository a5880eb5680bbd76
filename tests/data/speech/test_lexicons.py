"""Pronunciations: of the dictionary, of a user, letter by letter on request; and texts as they are said."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.speech.lexicon import Lexicon, cmu_entries, own_words, read_lexicon, spoken_number, words_of
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Printing, in the only sense!", "printing in the only sense"),
        ("Don't stop \u2014 it's Tom\u2019s", "don't stop it's tom's"),
        ("the 'forty-two line' Bible", "the forty two line bible"),
        ("'tis the boys' own", "'tis the boys own"),
        ('"I"; (we) [you]: they?', "i we you they"),
        ("the U.S. and e.g. Mr. X", "the u s and e g mr x"),
        ("bread & butter, 5%", "bread and butter five percent"),
        ("über Café", "über café"),
        ("room 1,205 has 21 of 3.05", "room one thousand two hundred five has twenty one of three point zero five"),
        ("In 1845.", "in one thousand eight hundred forty five"),
        ("at 3:30", "at three thirty"),
        ("agent 007", "agent zero zero seven"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert " ".join(words_of(text)) == words


@pytest.mark.parametrize(
    "text", ["", " \n", "?!", "costs $5", "the 21st", "x + y", "1/2 cup", "12.05.1999", "1,5", "a@b"]
)
def test_what_cannot_be_said_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"expected words|write it in words"):
        words_of(text)


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("40", "forty"),
        ("100", "one hundred"),
        ("999", "nine hundred ninety nine"),
        ("1000", "one thousand"),
        ("1,000,001", "one million one"),
        ("120,000", "one hundred twenty thousand"),
        (
            "999999999999",
            "nine hundred ninety nine billion nine hundred ninety nine million nine hundred ninety nine"
            " thousand nine hundred ninety nine",
        ),
        ("0.5", "zero point five"),
    ],
)
def test_numbers(digits: str, words: str) -> None:
    assert " ".join(spoken_number(digits)) == words


@pytest.mark.parametrize("digits", ["1234567890123", "1,23", "", "x"])
def test_other_numbers_are_refused(digits: str) -> None:
    with pytest.raises(InputError, match="number"):
        spoken_number(digits)
