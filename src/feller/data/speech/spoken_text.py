"""From a text to the words that are said."""

import re
import unicodedata

from feller.core.errors import InputError

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
LARGE = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
ELIDED = {"'em", "'tis", "'twas", "'til", "'bout", "'cause", "'round", "'n", "'frisco", "'kay", "'cuse", "'course"}
"""Words that begin with an apostrophe; elsewhere one at the edge of a word is a quotation mark."""
SIGNS = {"&": " and ", "%": " percent "}
NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?")
PART = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[^\W\d_]+(?:'[^\W\d_]+)*")
"""A number, or letters with apostrophes inside."""
SILENT = re.compile(r"[\s.,;:!?\"()\[\]{}<>*_/\\|~^`´«»„…\-‐‑‒–—―¿¡]")
"""What is written and not said."""


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, in small letters, without punctuation, numbers in words.

    Raises:
        InputError: If none is left, or something is in the text whose words are not known.
    """
    plain = unicodedata.normalize("NFC", text).translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}).lower()
    for sign, said in SIGNS.items():
        plain = plain.replace(sign, said)
    fraction = re.search(r"\d+/\d+", plain)
    if fraction:
        raise InputError(f"it is not known how {fraction[0]!r} is said; write it in words")
    words: list[str] = []
    for token in re.split(r"[\s\-‐‑‒–—―/]+", plain):
        words += _words(token)
    if not words:
        raise InputError(f"expected words, got {text[:40]!r}")
    return tuple(words)


def _words(token: str) -> list[str]:
    """Return the words of what stands between blanks."""
    bare = SILENT.sub(" ", token).strip().rstrip("'")
    if bare in ELIDED:
        return [bare]
    found = PART.findall(token)
    left = SILENT.sub("", PART.sub(" ", token)).replace("'", "")
    glued = re.search(r"\d[^\W\d_]|[^\W\d_]\d", token)
    odd = [number for number in re.findall(r"\d[\d.,]*\d|\d", token) if not NUMBER.fullmatch(number)]
    if left or glued or odd:
        raise InputError(f"it is not known how {token[:40]!r} is said; write it in words")
    return [word for part in found for word in (spoken_number(part) if part[0].isdigit() else [part])]


def spoken_number(digits: str) -> list[str]:
    """Return the words of a number such as 1,234 or 3.05.

    Raises:
        InputError: If it is none, or too large.
    """
    match = NUMBER.fullmatch(digits)
    if match is None or not digits.isascii():
        raise InputError(f"expected a number, got {digits[:40]!r}; write it in words")
    whole = match[1].replace(",", "")
    if len(whole) > 12:
        raise InputError(f"expected a number of at most 12 digits, got {digits[:40]!r}; write it in words")
    if len(whole) > 1 and whole[0] == "0":
        return [ONES[int(digit)] for digit in whole + (match[2] or "")] if match[2] is None else _point(match)
    return _point(match) if match[2] else _cardinal(int(whole))


def _point(match: re.Match[str]) -> list[str]:
    return [*_cardinal(int(match[1].replace(",", ""))), "point", *(ONES[int(digit)] for digit in match[2])]


def _cardinal(number: int) -> list[str]:
    for size, name in LARGE:
        if number >= size:
            rest = _cardinal(number % size) if number % size else []
            return [*_cardinal(number // size), name, *rest]
    if number < 20:
        return [ONES[number]]
    return [TENS[number // 10 - 2], *([ONES[number % 10]] if number % 10 else [])]
