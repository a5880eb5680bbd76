"""Forced alignment of English phones with pocketsphinx."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.data.loading.raw import Waveform
from feller.data.speech.alignment_files import fit_to_sound
from feller.data.speech.audio_io import resample
from feller.data.speech.lexicon import VARIANT, Lexicon, words_of
from feller.data.speech.phones import SIL, TimedPhone, Word

RATE = 16_000
"""Sample rate of the acoustic model in Hz."""
PEAK = 0.6
"""Peak amplitude to which recordings are normalised."""
PAD_FRAMES = 10
"""Number of frames of silence added at each end of a recording."""
NATS = 0.1024
"""Nats per unit of pocketsphinx's score, which is 1,024 logarithms to the base 1.0001."""
MIN_SCORE = -6.0
"""Score in nats per frame below which a text probably does not match its recording: correct texts score -2.5 to -4.5,
other texts -7.5 to -9.5."""
NO_PATH_MESSAGE = "the text does not match: no alignment path reaches the end; write the complete transcript"
USER_WORD_PREFIX = "+own+"
"""Prefix of the words with user-defined pronunciations in the dictionary of the aligner."""


class AlignmentError(InputError):
    """Error for a text that cannot be aligned to its recording."""


class MissingWordsError(AlignmentError):
    """Error for words that are missing from the lexicon."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        super().__init__(f"no pronunciation for {', '.join(map(repr, words))}")


@dataclass(frozen=True)
class ForcedAlignment:
    """Result of a forced alignment: words with their times, and a score of the match."""

    words: tuple[Word, ...]
    """Words and silences with their times, which cover the recording without gaps."""
    score: float
    """Log likelihood ratio of the aligned phone to the best phone, in nats, averaged over frames."""

    @property
    def fits(self) -> bool:
        """True if the text probably matches the recording."""
        return self.score >= MIN_SCORE


@dataclass(frozen=True, eq=False)
class ForcedAligner:
    """Forced aligner of English recordings and their texts, whose words must be in a lexicon."""

    lexicon: Lexicon
    spelled: bool = False
    """Whether words that are missing from the lexicon are spelled out."""

    @cached_property
    def _decoder(self) -> Any:
        decoder = require_package("pocketsphinx", "aligning speech with its text").Decoder
        # compallsen: score all states, since mismatch is measured against the best phone. No bestpath: lattice paths
        # may start with a silence too short for the second pass.
        return decoder(lm=None, compallsen=True, bestpath=False, loglevel="FATAL")

    def align(self, sound: Waveform, text: str) -> ForcedAlignment:
        """Align a text to a recording of n samples, which has n // (rate / 100) frames of 10 ms.

        Raises:
            InputError: If words are missing from the lexicon, or the text does not match the recording.
        """
        words = words_of(text)
        missing = tuple(
            dict.fromkeys(word for word in words if not self.lexicon.pronunciations(word, spelled=self.spelled))
        )
        if missing:
            raise MissingWordsError(missing)
        num_phones = sum(len(self.lexicon.pronunciations(word, spelled=self.spelled)[0]) for word in words)
        if sound.frames < num_phones:
            raise AlignmentError(
                f"a recording long enough for {num_phones} phones",
                f"{sound.frames / 100:.2f} s",
                "Check the transcript",
            )
        names = [self._named(word) for word in words]
        entries = self._decoded(_decoder_audio(sound), " ".join(names))
        aligned, score = _words(entries, words)
        return ForcedAlignment(fit_to_sound(aligned, sound.frames, PAD_FRAMES), score)

    def _named(self, word: str) -> str:
        """Return the name of a word in the decoder's dictionary.

        A pronunciation that is not in the built-in dictionary is added under a prefixed name first.
        """
        pronunciations = self.lexicon.pronunciations(word, spelled=self.spelled)
        if pronunciations is self.lexicon.entries.get(word):
            return word
        for i, phones in enumerate(pronunciations):
            name = USER_WORD_PREFIX + word + (f"({i + 1})" if i else "")
            if self._decoder.lookup_word(name) is None:
                self._decoder.add_word(name, " ".join(phones))
        return USER_WORD_PREFIX + word

    def _decoded(self, audio: bytes, text: str) -> list[tuple[str, list[Any]]]:
        """Return each aligned word with its phones: (name, phones).

        The decoder runs twice, once to align words and once to align the phones within the words.
        """
        decoder = self._decoder
        decoder.reinit_feat()  # reset the noise statistics of the previous recording
        try:
            decoder.set_align_text(text)
            self._pass(audio)
            if decoder.hyp() is None:
                raise AlignmentError(NO_PATH_MESSAGE)
            decoder.set_alignment()
            self._pass(audio)
            return [(word.name, [*word]) for word in decoder.get_alignment()]
        except RuntimeError as error:
            raise AlignmentError(NO_PATH_MESSAGE) from error

    def _pass(self, audio: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(audio, full_utt=True)
        self._decoder.end_utt()


def _decoder_audio(sound: Waveform) -> bytes:
    """Convert a waveform to the input of the acoustic model: 16 kHz, normalised, padded with silence, 16 bits."""
    samples = resample(sound, RATE).samples
    samples = samples * (PEAK / max(float(np.abs(samples).max()), 1e-9))
    padded = np.pad(samples, PAD_FRAMES * RATE // 100)
    return (padded * 32767).astype("<i2").tobytes()


def _words(entries: Sequence[tuple[str, list[Any]]], words: Sequence[str]) -> tuple[list[Word], float]:
    """Return the aligned words, with times in frames of the recording, and the mean score per frame.

    `entries` is the alignment of the padded recording, and `words` are the words of the text, which it must contain.
    """
    aligned, total, frames = [], 0.0, 0
    expected = iter(words)
    for name, phones in entries:
        total += sum(phone.score for phone in phones)
        frames += sum(phone.duration for phone in phones)
        is_silent = all(phone.name == SIL or phone.name.startswith("+") for phone in phones)
        timed_phones = [TimedPhone(SIL if is_silent else p.name, p.start - PAD_FRAMES, p.duration) for p in phones]
        text = "" if is_silent else next(expected, None)
        if text is None or (text and VARIANT.sub("", name).removeprefix(USER_WORD_PREFIX) != text):
            raise AlignmentError(f"the word {text!r} in the alignment", f"{name!r}")
        aligned.append(Word(text, tuple(timed_phones)))
    if next(expected, None) is not None:
        raise AlignmentError("the text does not match: the recording ends before the last word")
    return aligned, NATS * total / max(frames, 1)
