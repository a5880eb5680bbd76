"""Alignments of phones as JSON lines in frames of 10 ms, and words fitted to frames."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from feller.core.errors import InputError
from feller.data.files.plain_text import json_lines
from feller.data.loading.raw import error_context
from feller.data.speech.phones import SIL, TimedPhone, Word, strip_stress
from feller.data.speech.textgrid import SILENCES, UNKNOWN

NAME = "alignments.jsonl"
"""In the folder of the sounds."""
FILE, WORDS, PHONES = "file", "words", "phones"
"""Keys of a line."""
PAUSE = "<sil>"
"""The word of a silence."""
FORMS = f"an object with {FILE!r}, and {WORDS!r} or {PHONES!r}"


def read_alignments(path: pathlib.Path) -> dict[str, tuple[Word, ...]]:
    """Read what is said in files, by their names.

    A line is `{"file": ..., "words": [[word, start, length, [[phone, start, length], ...]], ...]}`, or
    `{"file": ..., "phones": [[phone, start, length], ...]}`, where phones between two silences are one word.

    Raises:
        InputError: If a line is malformed, or two are of one file.
    """
    found: dict[str, tuple[Word, ...]] = {}
    for number, entry in json_lines(path, FORMS):
        with error_context(f"{path}: line {number}"):
            named = isinstance(entry, dict) and isinstance(entry.get(FILE), str) and entry[FILE]
            if not named or (WORDS in entry) == (PHONES in entry):
                raise InputError(FORMS, repr(json.dumps(entry)[:40]))
            name = entry[FILE]
            if name in found:
                raise InputError(f"{name} has a line already", remedy="Remove one")
            words = _words(entry[WORDS]) if WORDS in entry else _runs(_phones(entry[PHONES]))
            if all(word.is_silence for word in words):
                raise InputError(f"nothing is said in {name}")
            found[name] = tuple(words)
    if not found:
        raise InputError("alignments, one a line", "none", file=path)
    return found


def _words(entries: Any) -> list[Word]:
    if not isinstance(entries, list) or not entries:
        raise InputError("a list of words", repr(str(entries)[:40]))
    words = []
    for entry in entries:
        right = isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], str)
        if not right or not _are_frames(entry[1:3]):
            raise InputError("[word, start, length, phones]", json.dumps(entry)[:60])
        text, start, length, inside = entry
        phones = _phones(inside)
        if text.lower() in SILENCES:
            phones = [TimedPhone(SIL, start, length)]
        elif any(spoken.phone == SIL for spoken in phones):
            raise InputError(f"the word {text!r} holds silence", remedy=f"Write that as a word {PAUSE!r}")
        word = Word("" if text.lower() in SILENCES else text, tuple(phones))
        if (word.start, word.end) != (start, start + length):
            raise InputError(f"the word {text!r} lasts from {start} to {start + length}, and its phones do not")
        words.append(word)
    return words


def _phones(entries: Any) -> list[TimedPhone]:
    if not isinstance(entries, list) or not entries:
        raise InputError("a list of phones", repr(str(entries)[:40]))
    phones = []
    for entry in entries:
        right = isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)
        if not right or not _are_frames(entry[1:]):
            raise InputError("[phone, start, length] in frames", json.dumps(entry)[:60])
        name, start, length = entry
        if name.lower() in UNKNOWN:
            raise InputError(
                f"{name} at frame {start} is a word that its aligner did not know", remedy="Write its phones"
            )
        phones.append(TimedPhone(SIL if name.lower() in SILENCES else strip_stress(name), start, length))
    return phones


def _are_frames(numbers: list[Any]) -> bool:
    """Tell whether a start and a length are whole numbers that are possible."""
    return all(isinstance(n, int) and not isinstance(n, bool) for n in numbers) and numbers[1] >= 0 and numbers[0] >= 0


def _runs(phones: list[TimedPhone]) -> list[Word]:
    """Return what stands between silences as words without a text."""
    runs: list[list[TimedPhone]] = []
    for spoken in phones:
        if runs and spoken.phone != SIL and runs[-1][-1].phone != SIL:
            runs[-1].append(spoken)
        else:
            runs.append([spoken])
    return [Word("", tuple(run)) for run in runs]


SLACK = 2
"""Frames that words may reach over the ends of their sound, since times are rounded; that much is cut off."""


def fit_to_sound(words: Sequence[Word], frames: int, slack: int = SLACK) -> tuple[Word, ...]:
    """Return words and silences that follow each other from the first frame to the last.

    Args:
        words: In their order; where none is, there is silence.
        frames: Of the sound.
        slack: Frames that phones may reach over its ends.

    Raises:
        InputError: If they overlap, have gaps inside, or reach over the ends of the sound.
    """
    placed: list[Word] = []
    now = 0
    for word in words:
        if not word.phones:
            raise InputError(f"the word {word.text!r} has no phones")
        _check_inside(word)
        if word.is_silence:  # it ends with the next word, or the sound
            continue
        kept = _cut(word, frames, slack)
        if kept.start < now:
            raise InputError(f"the word {word.text!r} begins at {_time(kept.start)}, before the last one ends")
        placed += [*_silence(now, kept.start), kept]
        now = kept.end
    return (*placed, *_silence(now, frames))


def _silence(start: int, end: int) -> tuple[Word, ...]:
    return (Word("", (TimedPhone(SIL, start, end - start),)),) if end > start else ()


def _check_inside(word: Word) -> None:
    now = word.phones[0].start
    for spoken in word.phones:
        if spoken.start != now or spoken.length < 0:
            raise InputError(
                f"{spoken.phone} of the word {word.text!r} begins at {_time(spoken.start)}, and the phone before it"
                f" ends at {_time(now)}; expected phones that follow each other"
            )
        now = spoken.end


def _cut(word: Word, frames: int, slack: int) -> Word:
    """Cut off what reaches over the ends of the sound."""
    if word.start >= 0 and word.end <= frames:
        return word
    if word.start < -slack or word.end > frames + slack:
        raise InputError(
            f"the word {word.text!r} lies from {_time(word.start)} to {_time(word.end)}, and the sound ends at"
            f" {_time(frames)}; is it the right sound?"
        )
    bounds = [(max(spoken.start, 0), min(spoken.end, frames)) for spoken in word.phones]
    phones = tuple(
        TimedPhone(spoken.phone, start, end - start) for spoken, (start, end) in zip(word.phones, bounds, strict=True)
    )
    gone = next((spoken.phone for spoken in phones if spoken.length < 1), None)
    if gone is not None:
        raise InputError(f"{gone} of the word {word.text!r} lies outside the sound; it is cut too short")
    return Word(word.text, phones)


def _time(frame: int) -> str:
    return f"{frame / 100:.2f} s"
