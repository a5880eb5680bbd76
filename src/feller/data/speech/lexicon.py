"""Pronunciation lexicon (CMU dictionary and user entries), and text normalisation."""

import pathlib
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from feller.core.errors import InputError, error_context
from feller.core.optional_dependency import require_package
from feller.data.files.plain_text import read_unicode
from feller.data.speech.phones import ARPABET, SIL, strip_stress

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
LARGE = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
ELIDED = {"'em", "'tis", "'twas", "'til", "'bout", "'cause", "'round", "'n", "'frisco", "'kay", "'cuse", "'course"}
"""Words that start with an apostrophe; before any other word an apostrophe is a quotation mark."""
SIGNS = {"&": " and ", "%": " percent "}
NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?")
PART = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[^\W\d_]+(?:'[^\W\d_]+)*")
"""Pattern of a number, or of letters with inner apostrophes."""
SILENT = re.compile(r"[\s.,;:!?\"()\[\]{}<>*_/\\|~^`´«»„…\-‐‑‒–—―¿¡]")
"""Characters that are not spoken."""


def words_of(text: str) -> tuple[str, ...]:
    """Normalise a text to lower-case words without punctuation; numbers are written out.

    Raises:
        InputError: If the text has no words, or a token cannot be read in exactly one way.
    """
    normalized = (
        unicodedata.normalize("NFC", text).translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}).lower()
    )
    for sign, word in SIGNS.items():
        normalized = normalized.replace(sign, word)
    fraction = re.search(r"\d+/\d+", normalized)
    if fraction:
        raise InputError("words instead of a fraction", f"{fraction[0]!r}", "Write the fraction in words")
    words: list[str] = []
    for token in re.split(r"[\s\-‐‑‒–—―/]+", normalized):
        words += _words(token)
    if not words:
        raise InputError("at least one word", repr(text[:40]))
    return tuple(words)


def _words(token: str) -> list[str]:
    stripped = SILENT.sub(" ", token).strip().rstrip("'")
    if stripped in ELIDED:
        return [stripped]
    parts = PART.findall(token)
    leftover = SILENT.sub("", PART.sub(" ", token)).replace("'", "")
    mixed = re.search(r"\d[^\W\d_]|[^\W\d_]\d", token)
    malformed = [number for number in re.findall(r"\d[\d.,]*\d|\d", token) if not NUMBER.fullmatch(number)]
    if leftover or mixed or malformed:
        raise InputError("words or plain numbers", f"{token[:40]!r}", "Write this token in words")
    return [word for part in parts for word in (spoken_number(part) if part[0].isdigit() else [part])]


def spoken_number(digits: str) -> list[str]:
    """Return the spoken words of a number such as 1,234 or 3.05; InputError if `digits` is no number, or too large."""
    match = NUMBER.fullmatch(digits)
    if match is None or not digits.isascii():
        raise InputError("a number", repr(digits[:40]), "Write the number in words")
    integer = match[1].replace(",", "")
    if len(integer) > 12:
        raise InputError("a number of at most 12 digits", repr(digits[:40]), "Write the number in words")
    if len(integer) > 1 and integer[0] == "0":
        return [ONES[int(digit)] for digit in integer + (match[2] or "")] if match[2] is None else _point(match)
    return _point(match) if match[2] else _cardinal(int(integer))


def _point(match: re.Match[str]) -> list[str]:
    return [*_cardinal(int(match[1].replace(",", ""))), "point", *(ONES[int(digit)] for digit in match[2])]


def _cardinal(number: int) -> list[str]:
    for size, name in LARGE:
        if number >= size:
            remainder = _cardinal(number % size) if number % size else []
            return [*_cardinal(number // size), name, *remainder]
    if number < 20:
        return [ONES[number]]
    return [TENS[number // 10 - 2], *([ONES[number % 10]] if number % 10 else [])]


NAME = "lexicon.txt"
"""Name of the file with user-defined pronunciations in the folder of the recordings."""
VARIANT = re.compile(r"\(\d+\)$")
"""Pattern of the suffix of a word that marks an alternative pronunciation."""
Pronunciation = tuple[str, ...]
Pronunciations = dict[str, tuple[Pronunciation, ...]]
"""Map from each word to its pronunciations, the most common pronunciation first."""


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Pronunciation lexicon; user entries take precedence over other entries."""

    entries: Pronunciations = field(repr=False)
    user_entries: Pronunciations = field(default_factory=dict)

    def pronunciations(self, word: str, *, spelled: bool = False) -> tuple[Pronunciation, ...]:
        """Return the pronunciations of a lower-case word; empty if the word is missing from the lexicon.

        If `spelled` is True, a missing word is spelled out letter by letter.
        """
        unaccented = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
        for spelling in (word, unaccented):
            matches = self.user_entries.get(spelling) or self.entries.get(spelling)
            if matches:
                return matches
        if not spelled:
            return ()
        letters = [self.entries.get(f"{letter}.") for letter in unaccented if letter != "'"]
        letter_phones = [pronunciations[0] for pronunciations in letters if pronunciations]
        return (
            (tuple(phone for phones in letter_phones for phone in phones),)
            if letter_phones and len(letter_phones) == len(letters)
            else ()
        )

    def phones(self, text: str, *, spelled: bool = False) -> tuple[tuple[Pronunciation, ...], tuple[str, ...]]:
        """Return the first pronunciation of each word of a text, and the words that are missing from the lexicon.

        The pronunciations leave out missing words. If `spelled` is True, these are instead spelled out letter by
        letter.

        Raises:
            InputError: If the text has no words, or a token cannot be read in exactly one way.
        """
        entries = [(word, self.pronunciations(word, spelled=spelled)) for word in words_of(text)]
        missing = tuple(dict.fromkeys(word for word, pronunciations in entries if not pronunciations))
        return tuple(pronunciations[0] for _, pronunciations in entries if pronunciations), missing


@lru_cache(maxsize=1)
def cmu_entries() -> Pronunciations:
    """Return the CMU pronouncing dictionary, as bundled with pocketsphinx."""
    pocketsphinx = require_package("pocketsphinx", "finding the phones of words")
    path = pathlib.Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    return _gathered([line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])


def own_words(path: pathlib.Path, phones: Collection[str]) -> Pronunciations:
    """Read a user's lexicon; empty if the file does not exist.

    Args:
        path: Lexicon file.
        phones: Phones of the data without word positions; if they are all in ARPABET, all phones of ARPABET are
            allowed.

    Raises:
        InputError: If the file is malformed, or contains other phones.
    """
    allowed = ARPABET if {*phones} <= {*ARPABET, SIL} else sorted({*phones} - {SIL})
    return read_lexicon(path, allowed) if path.is_file() else {}


def read_lexicon(path: pathlib.Path, phones: Collection[str] = ARPABET) -> Pronunciations:
    """Read a lexicon with lines `word PH PH`, where PH is a phone; a word on several lines has several pronunciations.

    Raises:
        InputError: If a line has no phones, or an unknown phone.
    """
    lines = []
    for line_number, line in enumerate(read_unicode(path).splitlines(), 1):
        word, *phones_of_word = line.split() or [""]
        if not word:
            continue
        phones_of_word = [strip_stress(phone) for phone in phones_of_word]
        unknown = [phone for phone in phones_of_word if phone not in phones]
        with error_context(path, place=f"line {line_number}"):
            if not phones_of_word:
                raise InputError("a word and its phones", repr(line[:40]))
            if unknown:
                raise InputError(f"phones from {' '.join(phones)}", f"{unknown[0]!r}")
        lines.append([unicodedata.normalize("NFC", word).lower(), *phones_of_word])
    return _gathered(lines)


def _gathered(lines: Sequence[list[str]]) -> Pronunciations:
    entries: dict[str, list[Pronunciation]] = {}
    for word, *phones in lines:
        entries.setdefault(VARIANT.sub("", word), []).append(tuple(phones))
    return {word: tuple(dict.fromkeys(pronunciations)) for word, pronunciations in entries.items()}
