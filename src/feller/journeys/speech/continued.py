"""Utterances cut in two: the first half is listened to, the second said anew, in the same voice."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float
from torch import Tensor

from feller.data.found import Sound
from feller.data.modality import Dataset
from feller.data.speech.modality import Speech
from feller.data.speech.phones import BEGIN, SIL, SINGLE, Spoken, Word
from feller.data.speech.script import Clip, Script, voiced_script
from feller.data.speech.spoken_text import words_of
from feller.errors import InputError


@dataclass(frozen=True, eq=False)
class Continued:
    """One utterance that was cut in two."""

    script: Script
    """Goes on behind the first half, with durations that are not known."""
    text: str
    """Of the second half."""
    heard: Float[Tensor, "frames bands"]
    """Log mels of the first half."""
    real: Float[Tensor, "frames bands"]
    """And of the second, as it was recorded."""


def continued(kind: Speech, data: Dataset) -> list[Continued]:
    """Return utterances of two words or more, cut in two between words, where it is known what their words are."""
    return [cut for cut in map(_cut, clips_of(kind, data)) if cut is not None]


def _cut(clip: Clip) -> Continued | None:
    said = clip.said
    if len(said) < 2 or not all(word.text for word in said):
        return None
    first, rest = said[: len(said) // 2], said[len(said) // 2 :]
    end, start = first[-1].end, rest[0].start
    prompt = Clip(clip.mel[:end], tuple(w for w in clip.words if w.end <= end), clip.sound, clip.name)
    script = voiced_script(prompt, [[spoken.phone for spoken in word.phones] for word in rest])
    return Continued(script, " ".join(word.text for word in rest), prompt.mel, clip.mel[start:])


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
