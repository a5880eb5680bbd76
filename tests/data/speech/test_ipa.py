"""Transcriptions taken apart into phones."""

import pytest

from feller.data.speech.espeak import phones_in


@pytest.mark.parametrize(
    ("ipa", "expected"),
    [
        ("həlˈo͡ʊ", "h ə l oʊ"),
        ("həlˈoʊ", "h ə l oʊ"),
        ("ɛnt͡ʃˈʊldɪɡˌʊŋ", "ɛ n tʃ ʊ l d ɪ ɡ ʊ ŋ"),
        ("wˈɜːld", "w ɜː l d"),
        ("aːɪ", "aː ɪ"),  # long, then another: no diphthong
        ("mˌɐ̃ɲˈɐ̃nɐ", "m ɐ̃ ɲ ɐ̃ n ɐ"),
        ("nˌɐ̃͡ʊ̃", "n ɐ̃ʊ̃"),  # a tie behind another mark, and a mark behind the second letter
        ("cʲtʰkʷ", "cʲ tʰ kʷ"),
        ("t͡ʃʰa", "tʃʰ a"),
        ("ma˥˩", "m a˥˩"),
        ("(en)wˈɜːd(fr)", "w ɜː d"),
        ("ɛlˈeːa͡ʊ", "ɛ l eː aʊ"),
        ("ç", "ç"),
        ("c̃", "c̃"),
        ("", ""),
        ("ˈ", ""),
    ],
)
def test_marks_stay_with_their_letters(ipa: str, expected: str) -> None:
    assert " ".join(phones_in(ipa)) == expected


def test_the_phones_of_a_folder_decide() -> None:
    assert phones_in("tʃaɪ", known=()) == ("t", "ʃ", "a", "ɪ")
    assert phones_in("tʃaɪ", known=("tʃ",)) == ("tʃ", "a", "ɪ")
    assert phones_in("aʊə", known=("aʊ", "aʊə")) == ("aʊə",)
    assert phones_in("aɪː", known=("aɪ",)) == ("aɪː",)
    assert phones_in("t͡sa", known=("t",)) == ("ts", "a")  # what is tied is one phone
    assert phones_in("t͡sa", known=("t", "s", "ts", "a")) == ("ts", "a")
    assert phones_in("t͡sɔː͡ɹ", known=("t", "s", "a", "ɔː", "ɹ")) == ("t", "s", "ɔː", "ɹ")  # unless only its parts are


def test_one_phone_has_one_spelling() -> None:
    assert phones_in("\u00e3") == phones_in("a\u0303") == ("\u00e3",)
    assert phones_in("t\u0361\u0283") == phones_in("t\u035c\u0283") == ("t\u0283",)
