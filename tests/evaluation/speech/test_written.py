"""What a written text may sound like: every form in which one thing is written down stands for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.data.speech.lexicon import words_of
from feller.evaluation.speech.asr import readings, spoken_words, word_errors

SAID = {
    "seven three": ("7 3", "7, 3.", "seven, three.", "Seven three!", "73", "7.3", "7-3", "7,3", "7/3", "７ ３", "٧ ٣"),
    "one one seven eight": ("1.178", "1178", "1,178", "1 1 7 8.", "one 178", "1, 1, 7, 8"),
    "two oh five": ("205", "2 0 5", "2:05", "two 05"),
    "five dollars": ("$5", "5 dollars", "$ 5.", "five dollars"),
    "one dollar": ("$1",),
    "five dollars and fifty cents": ("$5.50",),
    "five fifty": ("$5.50", "550", "5:50"),
    "two million dollars": ("$2 million", "$2,000,000"),
    "three point five billion pounds": ("£3.5 billion",),
    "nineteen eighty four": ("1984", "nineteen 84"),
    "one thousand nine hundred and eighty four": ("1984", "1,984"),
    "nineteen hundred": ("1900",),
    "two thousand and five": ("2005",),
    "twenty oh five": ("2005",),
    "a hundred and one": ("101", "A hundred and 1"),
    "the nineteen eighties": ("the 1980s", "the 1980's"),
    "the twenty first and the third": ("the 21st and the 3rd",),
    "twelfth": ("12th",),
    "twentieth": ("20th",),
    "fifty percent": ("50%", "50 %"),
    "seven thirty": ("7:30", "730", "7.30"),
    "three point one four": ("3.14",),
    "mister and missus smith": ("Mr. & Mrs. Smith", "mr and mrs Smith"),
    "mp three": ("MP3",),
    "forty two line bible": ("forty-two line Bible", "42-line Bible"),
    "it's naive": ("It’s naïve.", "it's NAIVE"),
}


@pytest.mark.parametrize(("said", "written"), [(said, form) for said, forms in SAID.items() for form in forms])
def test_forms_of_one_thing(said: str, written: str) -> None:
    assert word_errors(said, written).errors == 0


@pytest.mark.parametrize(
    ("said", "written", "errors"),
    [
        ("seven three", "74", 1),
        ("seven three", "3 7", 2),
        ("five dollars", "$6", 1),
        ("five dollars", "£5", 1),
        ("nineteen eighty four", "1985", 1),
        ("one hundred and one", "102", 1),
        ("seven three five", "735 735", 3),
        ("third", "4th", 1),
    ],
)
def test_another_thing_is_an_error(said: str, written: str, errors: int) -> None:
    assert word_errors(said, written).errors == errors


@settings(deadline=None)
@given(st.lists(st.sampled_from([*"abc", "it's", "1,234", "0.5", "007", "12", "1984", "90", "x-y", "(so)", "&"])))
def test_the_usual_reading_is_that_of_data(parts: list[str]) -> None:
    text = " ".join([*parts, "end."])
    assert spoken_words(text) == words_of(text)


@settings(deadline=None)
@given(st.text() | st.text("0123456789.,$£€%-:/'s th½²Ⅳ①x million"))
def test_any_text_is_read(text: str) -> None:
    for ways in readings(text):
        assert ways
        assert all(word and not word.isspace() for way in ways for word in way)
    found = word_errors(f"well {text}", text)
    assert (found.insertions, found.deletions, found.substitutions) == (0, 1, 0)


def test_numbers_of_any_length_are_read() -> None:
    assert spoken_words("1" * 40) == ("one",) * 40
    assert spoken_words("$" + "1" * 40 + ".5")[-1] == "cents"
