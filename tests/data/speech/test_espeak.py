"""Phones of other languages by eSpeak NG."""

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
    """Put a fake program on the path, and return its log of arguments and inputs."""
    program, log = tmp_path / "espeak", tmp_path / "log"
    program.write_text(FAKE.replace("{log}", str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(espeak, "NAMES", ("espeak-that-is-not-here", "espeak"))
    return log


def test_words_are_passed_one_by_one(fake: pathlib.Path) -> None:
    assert phones_of("“hello, two!”", "en-us") == (("h", "ə", "l", "oʊ"), ("t", "uː"))
    log = fake.read_text().splitlines()
    assert log[1::2] == ["hello", "two"]
    assert log[0] == "-q --ipa --tie=͡ -v en-us --stdin"


def test_texts_are_not_run_as_commands(fake: pathlib.Path) -> None:
    with refuses(UsageError):
        phones_of("$(touch${IFS}here) --path=x", "en-us")
    assert "--path" not in fake.read_text().splitlines()[0]
    with refuses(UsageError, found="'--path=x'"):
        phones_of("hello", "--path=x")


def test_words_without_phones_are_refused(fake: pathlib.Path) -> None:
    with refuses(InputError, found="none from eSpeak"):
        phones_of("hello mute", "de")
    with refuses(InputError, found="' ... '"):
        phones_of(" ... ", "de")


@pytest.mark.usefixtures("fake")
def test_program_has_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "TIMEOUT_SECONDS", 0.2)
    start = time.monotonic()
    with refuses(UsageError, found="none"):
        phones_of("wait", "de")
    assert time.monotonic() - start < 3


def test_missing_program_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(espeak, "LOADER", "a_package_that_is_not_there")
    with refuses(UsageError, found="not installed"):
        phones_of("hello", "de")


def test_written_words() -> None:
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
def test_phones_of_six_languages(language: str, text: str, expected: str) -> None:
    """Phones of eSpeak NG 1.52; other versions may differ in a phone of a word, but not in its first."""
    for word, phones in zip(phones_of(text, language), expected.split("|"), strict=True):
        assert word[0] == phones.split()[0]
        assert abs(len(word) - len(phones.split())) <= 1
        assert not {*"".join(word)} & {*"ˈˌ͡()_"}
    with refuses(UsageError):
        phones_of("hello", "zz")


def test_packaged_library_gives_the_same_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(espeak, "NAMES", ())
    assert phones_of("Hello, two", "en-us") == (("h", "ə", "l", "oʊ"), ("t", "uː"))
    assert phones_of("mañana", "es") == (("m", "a", "ɲ", "a", "n", "a"),)
    with refuses(UsageError):
        phones_of("hello", "zz")


@pytest.mark.parametrize(
    ("ipa", "expected"),
    [
        ("həlˈo͡ʊ", "h ə l oʊ"),
        ("həlˈoʊ", "h ə l oʊ"),
        ("ɛnt͡ʃˈʊldɪɡˌʊŋ", "ɛ n tʃ ʊ l d ɪ ɡ ʊ ŋ"),
        ("wˈɜːld", "w ɜː l d"),
        ("aːɪ", "aː ɪ"),  # no diphthong after a long vowel
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
def test_phones_in_ipa(ipa: str, expected: str) -> None:
    assert " ".join(phones_in(ipa)) == expected


def test_phones_in_inventory() -> None:
    assert phones_in("tʃaɪ", inventory=()) == ("t", "ʃ", "a", "ɪ")
    assert phones_in("tʃaɪ", inventory=("tʃ",)) == ("tʃ", "a", "ɪ")
    assert phones_in("aʊə", inventory=("aʊ", "aʊə")) == ("aʊə",)
    assert phones_in("aɪː", inventory=("aɪ",)) == ("aɪː",)
    assert phones_in("t͡sa", inventory=("t",)) == ("ts", "a")  # tied letters are one phone
    assert phones_in("t͡sa", inventory=("t", "s", "ts", "a")) == ("ts", "a")
    parts = ("t", "s", "ɔː", "ɹ")
    assert phones_in("t͡sɔː͡ɹ", inventory=("a", *parts)) == parts  # unless the inventory has only their parts


def test_unicode_normalisation_of_phones() -> None:
    assert phones_in("\u00e3") == phones_in("a\u0303") == ("\u00e3",)
    assert phones_in("t\u0361\u0283") == phones_in("t\u035c\u0283") == ("t\u0283",)
