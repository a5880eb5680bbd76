"""What a written text may sound like: each piece of it with the words that it may stand for."""

import re
import unicodedata

from feller.data.speech.spoken_text import LARGE, ONES, TENS, spoken_number

Reading = tuple[str, ...]
"""Words that are said."""
NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?"
PIECE = re.compile(
    rf"(?P<sign>[$£€])\s?(?P<sum>{NUMBER})(?:\s(?P<size>hundred|thousand|million|billion)\b)?"
    r"|(?P<ordinal>[0-9][0-9,]*)(?:st|nd|rd|th)\b"
    r"|(?P<plural>[0-9]+)'?s\b"
    rf"|(?P<number>{NUMBER})"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
)
"""What is read as one; all else is punctuation."""
SIGNS = {"&": " and ", "%": " percent ", "+": " plus ", "=": " equals ", "@": " at ", "#": " number ", "°": " degrees "}
MONEY = {"$": ("dollar", "cents"), "£": ("pound", "pence"), "€": ("euro", "cents")}
SHORT = {
    "mr": (("mister",),),
    "mrs": (("missus",), ("misses",)),
    "dr": (("doctor",), ("drive",)),
    "st": (("saint",), ("street",)),
    "ok": (("okay",),),
}
"""Abbreviations that are read as other words."""
QUANTITIES = {name for _, name in LARGE}
MAX_DIGITS = 12
"""Digits that are read as one quantity, at most."""
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth"}


def spoken_words(text: str) -> Reading:
    """Return the words of a text, each piece as it is said most often: small letters, no punctuation, no digits."""
    return tuple(word for ways in readings(text) for word in ways[0])


def readings(text: str) -> list[tuple[Reading, ...]]:
    """Return the ways to say each piece of a text, the usual one first.

    A number such as 735 may stand for what is said in several ways, and who writes down what is heard keeps none of
    them. Any text is read, if need be by leaving out what is not known.
    """
    return [_ways(match) for match in PIECE.finditer(_plain(text))]


def _plain(text: str) -> str:
    """Return a text in small letters without accents, with digits, apostrophes and signs in one form."""
    parts = unicodedata.normalize("NFKD", text).translate({0x2018: "'", 0x2019: "'", 0x02BC: "'", 0x60: "'"}).lower()
    letters = unicodedata.normalize("NFC", "".join(c for c in parts if not "\u0300" <= c <= "\u036f"))
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in letters)
    return "".join(SIGNS.get(c, c) for c in digits)


def _ways(match: re.Match[str]) -> tuple[Reading, ...]:
    if match["word"]:
        return SHORT.get(match["word"], ((match["word"],),))
    if match["number"]:
        return _number(match["number"])
    if match["sign"]:
        return _money(match["sign"], match["sum"], match["size"])
    if match["ordinal"]:
        return tuple((*way[:-1], _ordinal(way[-1])) for way in _number(match["ordinal"].replace(",", "")))
    return tuple((*way[:-1], _plural(way[-1])) for way in _number(match["plural"]))


def _number(written: str) -> tuple[Reading, ...]:
    """Return the ways to say a number: as a quantity, digit by digit, and in pairs as years are."""
    whole, _, part = written.replace(",", "").partition(".")
    ways = [*_quantity(whole), *_digits(whole), *_pairs(whole)]
    if part:  # "7.3" is written for "seven point three", and for "seven, three"
        behind = [*_digits(part), *_quantity(part)]
        ways = [(*a, *point, *b) for point in (("point",), ()) for a in ways for b in behind]
    return tuple(dict.fromkeys(ways))


def _quantity(digits: str) -> list[Reading]:
    if len(digits) > MAX_DIGITS:
        return []
    words = spoken_number(digits)
    ways = [words, _with_and(words)]
    if len(words) > 1 and words[0] == "one" and words[1] in QUANTITIES:
        ways += [["a", *way[1:]] for way in ways]
    return [tuple(way) for way in ways]


def _with_and(words: list[str]) -> list[str]:
    """Say "one hundred and one"."""
    small = {*ONES, *TENS}
    said = []
    for i, word in enumerate(words):
        behind = words[i + 1 : i + 3]
        joined = word in QUANTITIES and behind and behind[0] in small and "hundred" not in behind
        said += [word, "and"] if joined else [word]
    return said


def _digits(digits: str) -> list[Reading]:
    plain = tuple(ONES[int(digit)] for digit in digits)
    return [plain, tuple("oh" if word == "zero" else word for word in plain)]


def _pairs(digits: str) -> list[Reading]:
    """Say 1984 as two numbers, and 735 as seven and thirty-five."""
    if not 3 <= len(digits) <= 4 or digits[0] == "0":
        return []
    first, last = digits[:-2], digits[-2:]
    if last == "00":
        return [(*spoken_number(first), "hundred")]
    behind = ["oh", ONES[int(last[1])]] if last[0] == "0" else spoken_number(last)
    return [(*spoken_number(first), *behind)]


def _money(sign: str, written: str, size: str | None) -> tuple[Reading, ...]:
    unit, small = MONEY[sign]
    whole, _, part = written.partition(".")
    if size:
        return tuple((*way, size, unit + "s") for way in _number(written))
    name = unit if whole == "1" and not part else unit + "s"
    if not part:
        return tuple((*way, name) for way in _number(written))
    front, cents = (
        (_quantity(whole.replace(",", "")) or _digits(whole.replace(",", "")))[0],
        spoken_number(part[:MAX_DIGITS]),
    )
    one = unit if whole == "1" else unit + "s"
    ways = [(*front, one, *between, *cents, small) for between in (("and",), ())]
    return (*ways, (*front, *cents), *((*way, name) for way in _number(written)))


def _ordinal(word: str) -> str:
    return ORDINALS.get(word) or (word[:-1] + "ieth" if word.endswith("y") else word + "th")


def _plural(word: str) -> str:
    return word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("x") else "s")
