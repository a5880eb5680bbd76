"""Recordings that a person names, as clips whose words are at their times."""

import pathlib
from collections.abc import Callable
from dataclasses import replace

import torch

from feller.app.reporter import Tell
from feller.core.errors import InputError, UsageError
from feller.data.speech.files import read_recording
from feller.data.speech.script import Clip
from feller.data.speech.speech_mel import FRAMES
from feller.data.speech.speech_modality import Speech
from feller.data.speech.textgrid import ENDING as GRID
from feller.data.speech.utterances import TEXT, text_of

Listen = Callable[[pathlib.Path], str]
"""Finds out what is said in a file."""


def recorded(kind: Speech, named: tuple[str, ...], flag: str, listen: Listen, tell: Tell, *, spelled: bool) -> Clip:
    """Return a recording with what is said in it: that is named, lies beside it, or can be heard.

    Args:
        kind: Of the model.
        named: The file, and its text.
        flag: Where it was named.
        listen: Used where nobody knows the text.
        tell: Hears what was done to the file.
        spelled: Look for words that are missing in the dictionary letter by letter.

    Raises:
        InputError: If it is no sound, or its text cannot be found in it.
        UsageError: If more is named than these, or a package is missing.
    """
    if not 1 <= len(named) <= 2:
        raise UsageError(f"{flag} takes a sound and, in quotes, what is said in it, got {' '.join(named)}")
    path = pathlib.Path(named[0])
    if not path.is_file():
        raise InputError(f"expected a sound at {path}, found {'a folder; name a file' if path.is_dir() else 'none'}")
    if not kind.inventory.english and not path.with_suffix(GRID).is_file():
        raise InputError(f"{path}: the aligner knows English alone; put an alignment beside it, {path.stem}{GRID}")
    text = named[1] if len(named) == 2 else _text(path, flag, listen, tell)
    sound, words, notes = read_recording(path, text, kind.mel.rate, kind.own, spelled=spelled)
    for note in notes:
        tell.say(note)
    mel = kind.mel.log_mel(torch.from_numpy(sound.samples))
    end = len(mel) * kind.mel.hop
    return Clip(mel, words, replace(sound, samples=sound.samples[:end]), path.name, sound.samples[end:])


def _text(path: pathlib.Path, flag: str, listen: Listen, tell: Tell) -> str:
    """Return what is said in a file: what is written beside it, or else what is heard."""
    beside = path.with_suffix(TEXT)
    if beside.is_file():
        return text_of(path)
    try:
        text = listen(path)
    except UsageError as error:
        raise UsageError(
            f'what is said in {path.name}? say it: {flag} {path.name} "...", or write it into {beside.name} beside it'
            f" ({error})"
        ) from error
    if not text:
        raise InputError(f'nothing is heard in {path.name}; say what is said: {flag} {path.name} "..."')
    tell.say(f"heard in {path.name}: {text}")
    return text


def shortened(clip: Clip, frames: int, tell: Tell) -> Clip:
    """Return the first words of a recording, as many as have room; it ends where a word does.

    Raises:
        InputError: If its first word is too long.
    """
    if len(clip.mel) <= frames:
        return clip
    words = clip.words
    while words and (words[-1].silent or words[-1].end > frames):
        words = words[:-1]
    if not words:
        raise InputError(
            f"{clip.name}: the model listens to {frames / FRAMES:g} s at most, and its first word ends later; name a"
            " recording that begins sooner"
        )
    end = words[-1].end
    tell.say(f"of {clip.name} the first {end / FRAMES:.1f} s are listened to: the model hears no more at once")
    return clip.between(0, end)
