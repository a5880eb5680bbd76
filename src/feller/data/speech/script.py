"""What is to be said, phone by phone, with what of it is taken from recordings: every task of speech is such a script.

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
"""Frames of silence that are left at the ends of what is said anew."""


@dataclass(frozen=True, eq=False)
class AlignedRecording:
    """A recording with its words at their times."""

    mel: Float[Tensor, "frames bands"]
    words: tuple[Word, ...]
    """From the first frame to the last, silences among them."""
    sound: Waveform
    name: str = ""
    tail: Float32[np.ndarray, " _"] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """Samples behind the last whole frame, which belong to the recording and to no frame."""

    @property
    def spoken_words(self) -> tuple[Word, ...]:
        """Its words without silences."""
        return tuple(word for word in self.words if not word.is_silence)

    def between(self, first: int, last: int) -> "AlignedRecording":
        """Return what lies from one frame to another, which are borders of words."""
        words = tuple(word.shifted(-first) for word in self.words if first <= word.start and word.end <= last)
        hop = len(self.sound.samples) // max(len(self.mel), 1)
        sound = replace(self.sound, samples=self.sound.samples[first * hop : last * hop])
        return AlignedRecording(self.mel[first:last], words, sound, self.name)


@dataclass(frozen=True)
class ScriptPhone:
    """One phone of a script."""

    phone: str
    """With its place in its word."""
    length: int | None = None
    """Frames; None where a model says how long it lasts."""
    origin: int | None = None
    """Frame of the recording where it begins, if it is kept; None where a model says how it sounds."""

    @property
    def is_recorded(self) -> bool:
        """Whether it is taken from the recording."""
        return self.origin is not None


@dataclass(frozen=True, eq=False)
class Script:
    """Phones in their order, the silences between words among them."""

    parts: tuple[ScriptPhone, ...]
    clip: AlignedRecording | None = None
    """The recording that kept parts are of."""
    prompt_length: int = 0
    """First part that is wanted: those before are there to be listened to."""

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each part; UsageError if some are not known yet."""
        if any(part.length is None for part in self.parts):
            raise UsageError("some phones do not know yet how long they last")
        return tuple(part.length or 0 for part in self.parts)

    @property
    def is_unchanged(self) -> bool:
        """Whether all of it is taken from the recording."""
        return all(part.is_recorded for part in self.parts)

    @property
    def shortest(self) -> int:
        """Frames that what is wanted lasts at least: a phone that is no silence lasts one."""
        parts = self.parts[self.prompt_length :]
        return sum(int(part.phone != SIL) if part.length is None else part.length for part in parts)

    @property
    def starts(self) -> tuple[int, ...]:
        """First frame of each part, in what is said."""
        return tuple(accumulate(self.lengths[:-1], initial=0))

    def with_durations(self, lengths: Sequence[int]) -> "Script":
        """Return the script with the frames of all its parts."""
        parts = (replace(part, length=length) for part, length in zip(self.parts, lengths, strict=True))
        return replace(self, parts=tuple(parts))

    def with_speed(self, speed: float) -> "Script":
        """Return the script with what is not kept so many times as fast; a phone that lasts is left one frame."""
        lengths = []
        for part, length in zip(self.parts, self.lengths, strict=True):
            slower = round(length / speed)
            lengths.append(length if part.is_recorded else max(slower, 1 if length and part.phone != SIL else 0))
        return self.with_durations(lengths)

    def with_trimmed_silence(self) -> "Script":
        """Return the script with little silence before and after what is said anew."""
        lengths = [*self.lengths]
        for i in (self.prompt_length, len(lengths) - 1):
            part = self.parts[i]
            if part.phone == SIL and not part.is_recorded:
                lengths[i] = min(lengths[i], EDGE)
        return self.with_durations(lengths)


def text_script(words: Sequence[Sequence[str]]) -> Script:
    """Return a script of words, each its phones, of which nothing is known but that."""
    return Script(tuple(ScriptPhone(phone) for phone in unaligned_phones(words)))


def voice_prompt_script(voice: AlignedRecording, words: Sequence[Sequence[str]]) -> Script:
    """Return a script that goes on with words after a recording, in its voice; only these are wanted."""
    prompt = _all_phones(voice)
    silent = bool(prompt[-1].length)  # else a model says whether there is a pause before it goes on
    prompt, new = (prompt if silent else prompt[:-1]), text_script(words).parts
    return Script((*prompt, *new[silent:]), voice, prompt_length=len(prompt))


def style_transfer_script(voice: AlignedRecording, content: AlignedRecording) -> Script:
    """Return a script that says a recording again as it was timed, after another recording, in that one's voice."""
    prompt = _all_phones(voice)
    again = [replace(part, origin=None) for part in _all_phones(content)]
    return Script((*prompt, *again), voice, prompt_length=len(prompt))


def resynthesis_script(content: AlignedRecording) -> Script:
    """Return a script that says a recording again as it was timed, in any voice."""
    return Script(tuple(replace(part, origin=None) for part in _all_phones(content)))


def denoising_script(clip: AlignedRecording, first: int, last: int) -> Script:
    """Return a script of a recording without the phones that a span of frames touches, which last as long as they did.

    Args:
        clip: The recording.
        first: First frame of the span.
        last: The frame behind it.

    Raises:
        UsageError: If the span is empty or reaches over the ends of the recording.
    """
    n = len(clip.mel)
    if not 0 <= first < last <= n:
        raise UsageError(f"a span inside the {n / 100:.2f} s of {clip.name}", f"{first / 100:.2f}:{last / 100:.2f}")
    parts, now = [], 0
    for part in _all_phones(clip):
        end = now + (part.length or 0)
        touched = now < last and end > first
        parts.append(replace(part, origin=None) if touched else part)
        now = end
    return Script(tuple(parts), clip)


def editing_script(clip: AlignedRecording, text: str, words: Sequence[Sequence[str]]) -> Script:
    """Return a script of a recording with another text: words that both have are kept, with the silences beside them.

    Args:
        clip: The recording.
        text: What is to be said.
        words: The phones of each word of it.
    """
    old, new = [word.text.lower() for word in clip.spoken_words], [*words_of(text)]
    if not all(old):
        raise InputError(
            "it is not known which words its phones are", remedy="Give an alignment with words", place=clip.name
        )
    match = _matches(old, new)
    silences, spoken, parts = _silences(clip), clip.spoken_words, []
    before = 0  # the silence that comes next; each is used once
    for i, phones in enumerate(words):
        source = match.get(i)
        wanted = source if source is not None else match[i - 1] + 1 if i - 1 in match else 0 if i == 0 else None
        parts += [ScriptPhone(SIL) if wanted is None or wanted < before else _silence(silences[wanted])]
        before = before if wanted is None else max(before, wanted + 1)
        parts += (
            [ScriptPhone(phone) for phone in with_word_positions(phones)] if source is None else _parts(spoken[source])
        )
    last = match.get(len(new) - 1, len(spoken) - 1)
    return Script((*parts, _silence(silences[last + 1])), clip)


def _matches(old: list[str], new: list[str]) -> dict[int, int]:
    """Return the place in the old of each word of the new that is kept; they follow each other in both."""
    found = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return {block.b + k: block.a + k for block in found for k in range(block.size)}


def _silences(clip: AlignedRecording) -> list[tuple[int, int]]:
    """Return where the silences before, between and after words begin, and how long they last."""
    found, now = [(0, 0)], 0
    for word in clip.words:
        if word.is_silence:
            start, length = found[-1]
            found[-1] = (start if length else word.start, length + word.end - word.start)
        else:
            found.append((word.end, 0))
        now = word.end
    return [(start, length) if length else (min(start, now), 0) for start, length in found]


def _silence(place: tuple[int, int]) -> ScriptPhone:
    """Return a silence that is kept."""
    start, length = place
    return ScriptPhone(SIL, length, start)


def _parts(word: Word) -> list[ScriptPhone]:
    """Return the phones of a word that is kept."""
    names = with_word_positions([spoken.phone for spoken in word.phones])
    return [ScriptPhone(name, spoken.length, spoken.start) for name, spoken in zip(names, word.phones, strict=True)]


def _all_phones(clip: AlignedRecording) -> tuple[ScriptPhone, ...]:
    """Return all parts of a recording."""
    silences = _silences(clip)
    parts = [_silence(silences[0])]
    for i, word in enumerate(clip.spoken_words):
        parts += [*_parts(word), _silence(silences[i + 1])]
    return tuple(parts)
