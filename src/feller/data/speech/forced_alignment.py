"""When each phone of a text is said in a sound, found by pocketsphinx, for English."""

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
"""Samples of a second that the acoustic model was trained on."""
PEAK = 0.6
"""Largest value of a sound as the acoustic model hears it."""
PAD_FRAMES = 10
"""Frames of silence that are put on both sides."""
NATS = 0.1024
"""Of one unit of score: 1,024 logarithms to the base 1.0001."""
MIN_SCORE = -6.0
"""Score below which a text hardly fits: right ones reach -2.5 to -4.5, others -7.5 to -9.5."""
NO_PATH_MESSAGE = (
    "its text does not fit: no path through its phones reaches the end; write what is said in it, all of it"
)
USER_WORD_PREFIX = "+own+"
"""Before the words of a user as the aligner knows them, since it has others of the same name."""


class AlignmentError(InputError):
    """A text cannot be found in its sound."""


class MissingWordsError(AlignmentError):
    """Words of a text have no pronunciation."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        super().__init__(f"no pronunciation is known of {', '.join(map(repr, words))}")


@dataclass(frozen=True)
class ForcedAlignment:
    """Words with their phones, and how well they fit."""

    words: tuple[Word, ...]
    """From the first frame of the sound to the last, silences among them."""
    score: float
    """Log likelihood of a frame under the phone that it was given to, relative to the best of all, in nats."""

    @property
    def fits(self) -> bool:
        """Whether the text is likely that of the sound."""
        return self.score >= MIN_SCORE


@dataclass(frozen=True, eq=False)
class ForcedAligner:
    """Finds words of a lexicon in sounds."""

    lexicon: Lexicon
    spelled: bool = False
    """Whether words that the lexicon lacks are looked for letter by letter."""

    @cached_property
    def _decoder(self) -> Any:
        decoder = require_package("pocketsphinx", "aligning speech with its text").Decoder
        # all states are scored, since those of the text alone say nothing of a wrong one; and the lattice of the first
        # pass is left alone, since a path through it may begin with a silence that is too short for the second pass
        return decoder(lm=None, compallsen=True, bestpath=False, loglevel="FATAL")

    def align(self, sound: Waveform, text: str) -> ForcedAlignment:
        """Return the words of a text at their times, in frames of 10 ms; n // (rate / 100) in all.

        Raises:
            InputError: If something is in the text whose words are not known.
        """
        words = words_of(text)
        missing = tuple(
            dict.fromkeys(word for word in words if not self.lexicon.pronunciations(word, spelled=self.spelled))
        )
        if missing:
            raise MissingWordsError(missing)
        phones = sum(len(self.lexicon.pronunciations(word, spelled=self.spelled)[0]) for word in words)
        if sound.frames < phones:
            raise AlignmentError(
                f"it is too short: {sound.frames / 100:.2f} s for {phones} phones; is more said than can be heard?"
            )
        names = [self._named(word) for word in words]
        entries = self._decoded(_decoder_audio(sound), " ".join(names))
        found, score = _words(entries, words)
        return ForcedAlignment(fit_to_sound(found, sound.frames, PAD_FRAMES), score)

    def _named(self, word: str) -> str:
        """Return what the decoder calls a word, after it was told of it."""
        wanted = self.lexicon.pronunciations(word, spelled=self.spelled)
        if wanted is self.lexicon.entries.get(word):
            return word
        for i, phones in enumerate(wanted):
            name = USER_WORD_PREFIX + word + (f"({i + 1})" if i else "")
            if self._decoder.lookup_word(name) is None:
                self._decoder.add_word(name, " ".join(phones))
        return USER_WORD_PREFIX + word

    def _decoded(self, audio: bytes, text: str) -> list[tuple[str, list[Any]]]:
        """Return names of words, each with its phones, from two passes: one finds the words, one their phones."""
        decoder = self._decoder
        decoder.reinit_feat()  # what it learned of the noise of other sounds is forgotten
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
    """Return a sound as the acoustic model wants it: 16 kHz, of one loudness, with silence on both sides."""
    samples = resample(sound, RATE).samples
    samples = samples * (PEAK / max(float(np.abs(samples).max()), 1e-9))
    padded = np.pad(samples, PAD_FRAMES * RATE // 100)
    return (padded * 32767).astype("<i2").tobytes()


def _words(entries: Sequence[tuple[str, list[Any]]], words: Sequence[str]) -> tuple[list[Word], float]:
    """Return words at their times in the sound itself, and the score of a frame."""
    found, total, frames = [], 0.0, 0
    expected = iter(words)
    for name, phones in entries:
        total += sum(phone.score for phone in phones)
        frames += sum(phone.duration for phone in phones)
        silent = all(phone.name == SIL or phone.name.startswith("+") for phone in phones)
        spoken = [TimedPhone(SIL if silent else p.name, p.start - PAD_FRAMES, p.duration) for p in phones]
        text = "" if silent else next(expected, None)
        if text is None or (text and VARIANT.sub("", name).removeprefix(USER_WORD_PREFIX) != text):
            raise AlignmentError(f"the aligner found {name!r} where {text!r} stands")
        found.append(Word(text, tuple(spoken)))
    if next(expected, None) is not None:
        raise AlignmentError("its text does not fit: it ends before its words do")
    return found, NATS * total / max(frames, 1)
