"""Utterances cut in two: what comes first is listened to, what follows is said anew, in the same voice."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import InputError
from feller.data.loading.raw import Sound
from feller.data.modality import Dataset
from feller.data.speech.phones import BEGIN, SIL, SINGLE, Spoken, Word
from feller.data.speech.script import Clip, Script, voiced_script
from feller.data.speech.speech_modality import Speech
from feller.data.speech.spoken_text import words_of


@dataclass(frozen=True, eq=False)
class Continued:
    """One utterance that was cut in two."""

    script: Script
    """Goes on behind the first part, with durations that are not known."""
    text: str
    """Of the second part; empty where it is not known."""
    heard: Float[Tensor, "frames bands"]
    """Log mels of the first part."""
    real: Float[Tensor, "more bands"]
    """And of the second, as it was recorded."""


def continued(kind: Speech, data: Dataset) -> list[Continued]:
    """Return utterances cut in two between words, as far as a model hears and says at once.

    Those are left out that have fewer than two words there.
    """
    cuts = (_cut(clip, kind.room // 2) for clip in clips_of(kind, data))
    return [cut for cut in cuts if cut is not None]


def _cut(clip: Clip, most: int) -> Continued | None:
    """Cut a clip in its middle, and leave away what is further than so many frames from there."""
    said = clip.said
    if not said:
        return None
    first, rest = said[: len(said) // 2], said[len(said) // 2 :]
    first = [word for word in first if first[-1].end - word.start <= most]
    rest = [word for word in rest if word.end - rest[0].start <= most]
    if not first or not rest:
        return None
    prompt = clip.between(first[0].start, first[-1].end)
    script = voiced_script(prompt, [[spoken.phone for spoken in word.phones] for word in rest])
    real = clip.mel[rest[0].start : rest[-1].end]
    text = " ".join(word.text for word in rest) if all(word.text for word in rest) else ""
    return Continued(script, text, prompt.mel, real)


def clips_of(kind: Speech, data: Dataset) -> list[Clip]:
    """Return examples as clips, without their sounds; words have no text where it is not known which they are."""
    values, valid = data.values, data.given["valid"]
    clips = []
    for i, text in enumerate(kind.texts(values)):
        there = values["phone"][i] >= 0
        names = [kind.inventory.names[p] for p in values["phone"][i, there].tolist()]
        words = _words(names, values["duration"][i, there].tolist(), text)
        clips.append(Clip(values["mel"][i, valid[i]], words, Sound(np.zeros(0, dtype=np.float32), kind.mel.rate)))
    return clips


def _words(names: Sequence[str], lengths: Sequence[int], text: str) -> tuple[Word, ...]:
    """Return words and silences at their times."""
    number, numbers = 0, []
    for name in names:
        number += name == SIL or name.endswith((BEGIN, SINGLE)) or (bool(numbers) and names[len(numbers) - 1] == SIL)
        numbers.append(number)
    now, words = 0, []
    for _, group in groupby(zip(numbers, names, lengths, strict=True), key=lambda entry: entry[0]):
        spoken = []
        for _, name, length in group:
            spoken.append(Spoken(name if name == SIL else name[: -len(BEGIN)], now, length))
            now += length
        if spoken[0].phone != SIL or spoken[0].length:
            words.append(spoken)
    said = sum(spoken[0].phone != SIL for spoken in words)
    known = iter(_known(text, said))
    return tuple(Word("" if spoken[0].phone == SIL else next(known), tuple(spoken)) for spoken in words)


def _known(text: str, count: int) -> Sequence[str]:
    """Return the words of a text, empty ones where it has another number of them."""
    try:
        words = words_of(text)
    except InputError:
        words = ()
    return words if len(words) == count else [""] * count
