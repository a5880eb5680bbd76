"""Construction of synthesis scripts: phones with durations, each generated or taken from a recording.

Each speech task, such as reading a text in a given voice or editing a recording, is expressed as a script.

Source of the tasks: Le et al. 2023, "Voicebox", arXiv 2306.15687, section 3 and appendix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property
from itertools import accumulate

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import Waveform
from feller.data.speech.lexicon import words_of
from feller.data.speech.phones import SIL, Word, unaligned_phones, with_word_positions

EDGE = 10
"""Maximum number of frames of silence at each end of generated speech."""


@dataclass(frozen=True, eq=False)
class AlignedRecording:
    """Recording with aligned words."""

    mel: Float[Tensor, "frames bands"]
    words: tuple[Word, ...]
    """Words and silences with their times, which cover the recording without gaps."""
    sound: Waveform
    name: str = ""
    tail: Float32[np.ndarray, " _"] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """Audio samples after the last whole frame."""

    @property
    def spoken_words(self) -> tuple[Word, ...]:
        """Words of the recording, without silences."""
        return tuple(word for word in self.words if not word.is_silence)

    def between(self, first: int, last: int) -> "AlignedRecording":
        """Return the segment of the recording from frame `first` up to, but not including, frame `last`.

        Both must be word boundaries.
        """
        words = tuple(word.shifted(-first) for word in self.words if first <= word.start and word.end <= last)
        hop = len(self.sound.samples) // max(len(self.mel), 1)
        sound = replace(self.sound, samples=self.sound.samples[first * hop : last * hop])
        return AlignedRecording(self.mel[first:last], words, sound, self.name)


@dataclass(frozen=True)
class ScriptPhone:
    """Phone of a synthesis script, either generated or taken from a recording."""

    phone: str
    """Name of the phone, with its word position."""
    length: int | None = None
    """Duration in frames; None if the duration model sets it."""
    origin: int | None = None
    """First frame in the recording from which the phone is taken; None if the phone is generated."""

    @property
    def is_recorded(self) -> bool:
        """True if the phone is taken from the recording."""
        return self.origin is not None


@dataclass(frozen=True, eq=False)
class Script:
    """Phones to synthesise, with silences between words, and the recording from which some phones take their audio."""

    parts: tuple[ScriptPhone, ...]
    clip: AlignedRecording | None = None
    """Recording from which the recorded phones are taken."""
    prompt_length: int = 0
    """Number of phones at the start that are the voice prompt; they are not part of the output."""

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Duration of each phone in frames; UsageError if a duration is not set."""
        if any(part.length is None for part in self.parts):
            raise UsageError("a duration for every phone", "phones without a duration")
        return tuple(part.length or 0 for part in self.parts)

    @property
    def is_unchanged(self) -> bool:
        """True if every phone is taken from the recording."""
        return all(part.is_recorded for part in self.parts)

    @property
    def shortest(self) -> int:
        """Minimum number of frames of the output; every phone except silence has at least one frame."""
        parts = self.parts[self.prompt_length :]
        return sum(int(part.phone != SIL) if part.length is None else part.length for part in parts)

    @property
    def starts(self) -> tuple[int, ...]:
        """Index of the first frame of each phone."""
        return tuple(accumulate(self.lengths[:-1], initial=0))

    def with_durations(self, lengths: Sequence[int]) -> "Script":
        """Return the script with the durations of all phones set to `lengths`, in frames."""
        parts = (replace(part, length=length) for part, length in zip(self.parts, lengths, strict=True))
        return replace(self, parts=tuple(parts))

    def with_speed(self, speed: float) -> "Script":
        """Divide the durations of generated phones by `speed`; each audible phone keeps at least one frame."""
        lengths = []
        for part, length in zip(self.parts, self.lengths, strict=True):
            scaled = round(length / speed)
            lengths.append(length if part.is_recorded else max(scaled, 1 if length and part.phone != SIL else 0))
        return self.with_durations(lengths)

    def with_trimmed_silence(self) -> "Script":
        """Return the script with generated silence at both ends of the output shortened to at most `EDGE` frames."""
        lengths = [*self.lengths]
        for i in (self.prompt_length, len(lengths) - 1):
            part = self.parts[i]
            if part.phone == SIL and not part.is_recorded:
                lengths[i] = min(lengths[i], EDGE)
        return self.with_durations(lengths)


def text_script(words: Sequence[Sequence[str]]) -> Script:
    """Return a script that generates words, given the phones of each word; durations are not set."""
    return Script(tuple(ScriptPhone(phone) for phone in unaligned_phones(words)))


def voice_prompt_script(voice: AlignedRecording, words: Sequence[Sequence[str]]) -> Script:
    """Return a script that speaks new words in the voice of a recording.

    The recording precedes the words as a voice prompt, which is not part of the output.
    """
    prompt = _all_phones(voice)
    has_silence = bool(prompt[-1].length)  # otherwise the duration model may insert a pause after the prompt
    prompt, new_phones = (prompt if has_silence else prompt[:-1]), text_script(words).parts
    return Script((*prompt, *new_phones[has_silence:]), voice, prompt_length=len(prompt))


def style_transfer_script(voice: AlignedRecording, content: AlignedRecording) -> Script:
    """Return a script that regenerates the recording `content`, with its timing, in the voice of `voice`."""
    prompt = _all_phones(voice)
    regenerated = [replace(part, origin=None) for part in _all_phones(content)]
    return Script((*prompt, *regenerated), voice, prompt_length=len(prompt))


def resynthesis_script(content: AlignedRecording) -> Script:
    """Return a script that regenerates a recording, with its timing, in a random voice."""
    return Script(tuple(replace(part, origin=None) for part in _all_phones(content)))


def denoising_script(clip: AlignedRecording, first: int, last: int) -> Script:
    """Return a script that regenerates the phones within a span of a recording, and keeps their durations.

    Args:
        clip: Recording.
        first: First frame of the span.
        last: End frame of the span, exclusive.

    Raises:
        UsageError: If the span is empty, or not inside the recording.
    """
    n = len(clip.mel)
    if not 0 <= first < last <= n:
        raise UsageError(f"a span inside the {n / 100:.2f} s of {clip.name}", f"{first / 100:.2f}:{last / 100:.2f} s")
    parts, start = [], 0
    for part in _all_phones(clip):
        end = start + (part.length or 0)
        is_regenerated = start < last and end > first
        parts.append(replace(part, origin=None) if is_regenerated else part)
        start = end
    return Script(tuple(parts), clip)


def editing_script(clip: AlignedRecording, text: str, words: Sequence[Sequence[str]]) -> Script:
    """Return a script that changes the text of a recording; words that both texts share keep their silences."""
    old, new = [word.text.lower() for word in clip.spoken_words], [*words_of(text)]
    if not all(old):
        raise InputError("an alignment with words", "phones only", "Give an alignment with words", place=clip.name)
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    matches = {block.b + k: block.a + k for block in blocks for k in range(block.size)}
    silences, old_words, parts = _silences(clip), clip.spoken_words, []
    next_silence = 0  # index of the next unused silence
    for i, phones in enumerate(words):
        j = matches.get(i)
        index = j if j is not None else matches[i - 1] + 1 if i - 1 in matches else 0 if i == 0 else None
        parts += [ScriptPhone(SIL) if index is None or index < next_silence else _silence(silences[index])]
        next_silence = next_silence if index is None else max(next_silence, index + 1)
        parts += [ScriptPhone(phone) for phone in with_word_positions(phones)] if j is None else _parts(old_words[j])
    last = matches.get(len(new) - 1, len(old_words) - 1)
    return Script((*parts, _silence(silences[last + 1])), clip)


def _silences(clip: AlignedRecording) -> list[tuple[int, int]]:
    """Return (start, length) of the silences before, between and after words."""
    silences, end = [(0, 0)], 0
    for word in clip.words:
        if word.is_silence:
            start, length = silences[-1]
            silences[-1] = (start if length else word.start, length + word.end - word.start)
        else:
            silences.append((word.end, 0))
        end = word.end
    return [(start, length) if length else (min(start, end), 0) for start, length in silences]


def _silence(span: tuple[int, int]) -> ScriptPhone:
    start, length = span
    return ScriptPhone(SIL, length, start)


def _parts(word: Word) -> list[ScriptPhone]:
    names = with_word_positions([timed.phone for timed in word.phones])
    return [ScriptPhone(name, timed.length, timed.start) for name, timed in zip(names, word.phones, strict=True)]


def _all_phones(clip: AlignedRecording) -> tuple[ScriptPhone, ...]:
    silences = _silences(clip)
    parts = [_silence(silences[0])]
    for i, word in enumerate(clip.spoken_words):
        parts += [*_parts(word), _silence(silences[i + 1])]
    return tuple(parts)
