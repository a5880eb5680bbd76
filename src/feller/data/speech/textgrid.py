"""Reading of alignments from Praat TextGrid files, in the long and the short text format."""

import math
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from feller.core.errors import InputError, error_context
from feller.data.files.plain_text import read_unicode
from feller.data.speech.phones import SIL, TimedPhone, Word, strip_stress

ENDING = ".TextGrid"
TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)')
"""Pattern of a quoted string or a free-standing number; other text is ignored, so both formats are parsed in the same
way."""
SILENCES = {"", "sil", "<sil>", "sp", "<p:>", "<eps>", "silence"}
"""Interval labels that stand for silence, in lower case."""
UNKNOWN = {"spn", "<unk>", "unk"}
"""Interval labels that stand for an out-of-vocabulary word, in lower case."""
WORDS, PHONES = ("words", "word", "orthography"), ("phones", "phone", "phonemes")
"""Names that the word tier and the phone tier can have."""


@dataclass(frozen=True)
class TextGridInterval:
    """Labelled interval of a TextGrid tier, with its times in seconds."""

    start: float
    end: float
    text: str

    @property
    def is_silence(self) -> bool:
        return self.text.lower() in SILENCES


def read_textgrid(path: pathlib.Path) -> tuple[Word, ...]:
    """Read the words and their phones from a TextGrid file; empty intervals are silence.

    Raises:
        InputError: If the file is malformed, a tier is missing, or a phone lies outside of all words.
    """
    with error_context(path):
        tiers = _tiers(_text(path))
        words, phones = (_tier(tiers, names) for names in (WORDS, PHONES))
        return tuple(_joined(words, phones))


def _text(path: pathlib.Path) -> str:
    bom = path.read_bytes()[:2]
    if bom in (b"\xff\xfe", b"\xfe\xff"):  # Praat writes non-ASCII text as UTF-16
        try:
            return path.read_text(encoding="utf-16")
        except UnicodeError as error:
            raise InputError(
                "text in UTF-16, as the byte order mark declares", "bytes that are not UTF-16", "Save the file as UTF-8"
            ) from error
    return read_unicode(path)


def _tiers(text: str) -> dict[str, list[TextGridInterval]]:
    tokens = iter([match[2] if match[1] is None else (match[1],) for match in TOKEN.finditer(text)])
    try:
        if (next(tokens), next(tokens)) != (("ooTextFile",), ("TextGrid",)):
            raise InputError("a TextGrid with the header ooTextFile and TextGrid", "another header")
        _number(tokens), _number(tokens)
        tiers: dict[str, list[TextGridInterval]] = {}
        for _ in range(int(_number(tokens))):
            tier_class, name = _label(tokens), _label(tokens)
            _number(tokens), _number(tokens)
            intervals = [_interval(tokens, tier_class) for _ in range(int(_number(tokens)))]
            tiers.setdefault(name.strip().lower(), intervals)
    except StopIteration as error:
        raise InputError("a complete TextGrid", "a truncated file") from error
    return tiers


def _interval(tokens: Iterator[str | tuple[str]], tier_class: str) -> TextGridInterval:
    start = _number(tokens)
    return TextGridInterval(
        start, _number(tokens) if tier_class == "IntervalTier" else start, _label(tokens).replace('""', '"').strip()
    )


def _number(tokens: Iterator[str | tuple[str]]) -> float:
    token = next(tokens)
    if isinstance(token, tuple):
        raise InputError("a number", f"the text {token[0][:40]!r}")
    number = float(token)
    if not math.isfinite(number):
        raise InputError("a finite number", token[:40])
    return number


def _label(tokens: Iterator[str | tuple[str]]) -> str:
    token = next(tokens)
    if not isinstance(token, tuple):
        raise InputError("a quoted string", token[:40])
    return token[0]


def _tier(tiers: dict[str, list[TextGridInterval]], names: tuple[str, ...]) -> list[TextGridInterval]:
    matches = [tiers[name] for name in names if name in tiers]
    if not matches:
        prefixed = [
            name
            for name in tiers
            if name.endswith(tuple(f" {name}" for name in names) + tuple(f"- {n}" for n in names))
        ]
        if len(prefixed) == 1:  # some aligners prefix the speaker's name
            return tiers[prefixed[0]]
        raise InputError(f"a tier called {names[0]}", ", ".join(map(repr, tiers)) or "none")
    return matches[0]


def _joined(words: list[TextGridInterval], phones: list[TextGridInterval]) -> Iterator[Word]:
    """Yield each word with its phones, which are those whose midpoint lies within the word."""
    audible = [phone for phone in phones if not phone.is_silence]
    for phone in phones:
        if phone.text.lower() in UNKNOWN:
            raise InputError(
                "phones", f"{phone.text} at {phone.start:g} s, an out-of-vocabulary word", "Write its phones"
            )
    num_assigned = 0
    for word in words:
        word_phones = [phone for phone in audible if word.start <= (phone.start + phone.end) / 2 < word.end]
        if word.is_silence:
            if word_phones:
                raise InputError(
                    "phones inside words", f"{word_phones[0].text} at {word_phones[0].start:g} s, in a silence"
                )
            yield Word("", (_spoken(word, SIL),))
            continue
        if not word_phones:
            raise InputError("phones for every word", f"none for {word.text!r} at {word.start:g} s")
        num_assigned += len(word_phones)
        yield Word(word.text.lower(), tuple(_spoken(phone, strip_stress(phone.text)) for phone in word_phones))
    if num_assigned < len(audible):
        raise InputError("phones inside words", f"{len(audible) - num_assigned} of {len(audible)} phones outside words")


def _spoken(interval: TextGridInterval, name: str) -> TimedPhone:
    start, end = (math.floor(100 * time + 0.5) for time in (interval.start, interval.end))
    if end < start:
        raise InputError("intervals that end after they start", f"{name} at {interval.start:g} s")
    return TimedPhone(name, start, end - start)
