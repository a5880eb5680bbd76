"""Texts as they are said."""

import pytest

from feller.core.errors import InputError
from feller.data.speech.lexicon import spoken_number, words_of


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
