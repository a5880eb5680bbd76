"""Phones of other languages, by a program that may be there, and taken apart."""

import pathlib
import shutil
import time

import pytest

from feller.core.errors import InputError, UsageError
from feller.data.speech import espeak
from feller.data.speech.espeak import phones_in, phones_of, written_words
from tests.errors import refuses

FAKE = r"""#!/bin/sh
printf '%s\n' "$*" >> "{log}"
word=$(cat)
printf '%s\n' "$word" >> "{log}"
case "$word" in
  hello) printf ' h\311\231l\313\210o\315\241\312\212\n' ;;
  two) printf 't\n u\313\220\n' ;;
  mute) printf '\n' ;;
  wait) exec sleep 5 ;;
  *) echo "Error: The specified voice does not exist." >&2; exit 1 ;;
esac
"""


@pytest.fixture
def fake(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Put a program on the path, and return where it writes down what it was asked."""
    program, log = tmp_path / "espeak", tmp_path / "log"
    program.write_text(FAKE.replace("{log}", str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(espeak, "NAMES", ("espeak-that-is-not-here", "espeak"))
    return log


def test_words_are_asked_for_one_by_one(fake: pathlib.Path) -> None:
    assert phones_of("“hello, two!”", "en-us") == (("h", "ə", "l", "oʊ"), ("t", "uː"))
    asked = fake.read_text().splitlines()
    assert asked[1::2] == ["hello", "two"]
    assert asked[0] == "-q --ipa --tie=͡ -v en-us --stdin"


def test_texts_are_no_commands(fake: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        phones_of("$(touch${IFS}here) --path=x", "en-us")
    assert "--path" not in fake.read_text().splitlines()[0]
    with pytest.raises(UsageError, match="expected a language code such as"):
        phones_of("hello", "--path=x")


def test_words_without_phones_are_named(fake: pathlib.Path) -> None:
    with pytest.raises(InputError, match="'mute'"):
        phones_of("hello mute", "de")
    with refuses(InputError, found="' ... '"):
        phones_of(" ... ", "de")


@pytest.mark.usefixtures("fake")
def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "TIMEOUT_SECONDS", 0.2)
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"within 0\.2 s; found none"):
        phones_of("wait", "de")
    assert time.monotonic() - begun < 3


def test_without_it_one_line_says_what_to_do(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(espeak, "LOADER", "a_package_that_is_not_there")
    with pytest.raises(UsageError, match="Install espeak-ng, or give alignments") as caught:
        phones_of("hello", "de")
    assert "\n" not in str(caught.value)


def test_words_are_those_between_blanks() -> None:
    assert written_words("Aujourd'hui – l'eau, c’est «42 %»!") == ("Aujourd'hui", "l'eau", "c’est", "42", "%")
    assert written_words("हिंदी। well-known") == ("हिंदी", "well-known")


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="eSpeak NG is not installed")
@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en-us", "Hello, chair", "h ə l oʊ|tʃ ɛ ɹ"),
        ("de", "Zwei Häuser", "ts v aɪ|h ɔø z ɜ"),
        ("fr-fr", "aujourd'hui l'eau", "o ʒ u ʁ d y i|l o"),
        ("es", "chico mañana", "tʃ i k o|m a ɲ a n a"),
        ("pl", "dziękuję", "dʑ ɛ ŋ k u j ɛ"),
        ("pt", "não", "n ɐ̃ʊ̃"),
    ],
)
def test_six_languages(language: str, text: str, expected: str) -> None:
    """As eSpeak NG 1.52 says them; others may differ in a phone, so only what makes them apart is asked."""
    found = [" ".join(word) for word in phones_of(text, language)]
    assert len(found) == len(expected.split("|"))
    for word, wanted in zip(found, expected.split("|"), strict=True):
        assert word.split()[0] == wanted.split()[0]
        assert abs(len(word.split()) - len(wanted.split())) <= 1
        assert not {*word} & {*"ˈˌ͡()_"}


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="eSpeak NG is not installed")
def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UsageError, match=r"phones of 'hello' .*exist.*--voices"):
        phones_of("hello", "zz")


def test_a_library_that_came_as_a_package_answers_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(espeak, "NAMES", ())
    assert phones_of("Hello, two", "en-us") == (("h", "ə", "l", "oʊ"), ("t", "uː"))
    assert phones_of("mañana", "es") == (("m", "a", "ɲ", "a", "n", "a"),)
    with pytest.raises(UsageError, match="does not exist"):
        phones_of("hello", "zz")


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
    assert phones_in("tʃaɪ", inventory=()) == ("t", "ʃ", "a", "ɪ")
    assert phones_in("tʃaɪ", inventory=("tʃ",)) == ("tʃ", "a", "ɪ")
    assert phones_in("aʊə", inventory=("aʊ", "aʊə")) == ("aʊə",)
    assert phones_in("aɪː", inventory=("aɪ",)) == ("aɪː",)
    assert phones_in("t͡sa", inventory=("t",)) == ("ts", "a")  # what is tied is one phone
    assert phones_in("t͡sa", inventory=("t", "s", "ts", "a")) == ("ts", "a")
    assert phones_in("t͡sɔː͡ɹ", inventory=("t", "s", "a", "ɔː", "ɹ")) == (
        "t",
        "s",
        "ɔː",
        "ɹ",
    )  # unless only its parts are


def test_one_phone_has_one_spelling() -> None:
    assert phones_in("\u00e3") == phones_in("a\u0303") == ("\u00e3",)
    assert phones_in("t\u0361\u0283") == phones_in("t\u035c\u0283") == ("t\u0283",)
