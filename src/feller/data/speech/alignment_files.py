"""Phone alignments: reading of JSON Lines files with times in frames of 10 ms, and fitting of words to a recording."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from feller.core.errors import InputError, error_context
from feller.data.files.plain_text import json_lines
from feller.data.speech.phones import SIL, TimedPhone, Word, strip_stress
from feller.data.speech.textgrid import SILENCES, UNKNOWN

NAME = "alignments.jsonl"
"""Name of the alignment file in the folder of the recordings."""
FILE, WORDS, PHONES = "file", "words", "phones"
"""Keys of the JSON object in each line of an alignment file."""
PAUSE = "<sil>"
"""Text of the word that stands for silence."""
FORMS = f"an object with {FILE!r}, and {WORDS!r} or {PHONES!r}"


def read_alignments(path: pathlib.Path) -> dict[str, tuple[Word, ...]]:
    """Read an alignment file; return the words of each recording, by the file name of the recording.

    A line is `{"file": ..., "words": [[word, start, length, [[phone, start, length], ...]], ...]}`, or
    `{"file": ..., "phones": [[phone, start, length], ...]}`; phones between two silences then form one word. `start`
    and `length` are numbers of frames of 10 ms.

    Raises:
        InputError: If a line is malformed, or two lines name the same file.
    """
    alignments: dict[str, tuple[Word, ...]] = {}
    for line, entry in json_lines(path, FORMS):
        with error_context(f"{path}: line {line}"):
            has_name = isinstance(entry, dict) and isinstance(entry.get(FILE), str) and entry[FILE]
            if not has_name or (WORDS in entry) == (PHONES in entry):
                raise InputError(FORMS, repr(json.dumps(entry)[:40]))
            name = entry[FILE]
            if name in alignments:
                raise InputError(f"one line for {name}", "two", "Remove one")
            words = _words(entry[WORDS]) if WORDS in entry else _runs(_phones(entry[PHONES]))
            if all(word.is_silence for word in words):
                raise InputError(f"words in {name}", "only silence")
            alignments[name] = tuple(words)
    if not alignments:
        raise InputError("alignments, one per line", "none", file=path)
    return alignments


def _words(entries: Any) -> list[Word]:
    if not isinstance(entries, list) or not entries:
        raise InputError("a list of words", repr(str(entries)[:40]))
    words = []
    for entry in entries:
        is_entry = isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], str)
        if not is_entry or not _are_frames(entry[1:3]):
            raise InputError("[word, start, length, phones]", json.dumps(entry)[:60])
        text, start, length, phone_entries = entry
        phones = _phones(phone_entries)
        if text.lower() in SILENCES:
            phones = [TimedPhone(SIL, start, length)]
        elif any(timed.phone == SIL for timed in phones):
            raise InputError("words without silence inside", f"{text!r}", f"Write silence as a word {PAUSE!r}")
        word = Word("" if text.lower() in SILENCES else text, tuple(phones))
        if (word.start, word.end) != (start, start + length):
            raise InputError(
                f"phones from frame {start} to {start + length}, as the word {text!r}",
                f"phones from frame {word.start} to {word.end}",
                "Correct the start and the length of the word or of its phones",
            )
        words.append(word)
    return words


def _phones(entries: Any) -> list[TimedPhone]:
    if not isinstance(entries, list) or not entries:
        raise InputError("a list of phones", repr(str(entries)[:40]))
    phones = []
    for entry in entries:
        is_entry = isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)
        if not is_entry or not _are_frames(entry[1:]):
            raise InputError("[phone, start, length] in frames", json.dumps(entry)[:60])
        name, start, length = entry
        if name.lower() in UNKNOWN:
            raise InputError("phones", f"{name} at frame {start}, an out-of-vocabulary word", "Write its phones")
        phones.append(TimedPhone(SIL if name.lower() in SILENCES else strip_stress(name), start, length))
    return phones


def _are_frames(frames: list[Any]) -> bool:
    """Return True if `frames`, the start and length of a phone, are non-negative integers."""
    return all(isinstance(n, int) and not isinstance(n, bool) for n in frames) and frames[1] >= 0 and frames[0] >= 0


def _runs(phones: list[TimedPhone]) -> list[Word]:
    """Group consecutive phones between silences into words without text."""
    runs: list[list[TimedPhone]] = []
    for timed in phones:
        if runs and timed.phone != SIL and runs[-1][-1].phone != SIL:
            runs[-1].append(timed)
        else:
            runs.append([timed])
    return [Word("", tuple(run)) for run in runs]


SLACK = 2
"""Number of frames by which words may exceed the recording at each end; the excess is cut off."""


def fit_to_sound(words: Sequence[Word], frames: int, slack: int = SLACK) -> tuple[Word, ...]:
    """Return words and silences that cover a recording without gaps.

    Args:
        words: Words in order, with times in frames of 10 ms; gaps between words become silence.
        frames: Length of the recording in frames.
        slack: Number of frames by which words may exceed the recording at each end.

    Raises:
        InputError: If words overlap, have gaps between their phones, or exceed the recording by more than `slack`.
    """
    fitted: list[Word] = []
    end = 0
    for word in words:
        if not word.phones:
            raise InputError("phones for every word", f"none for {word.text!r}")
        _check_inside(word)
        if word.is_silence:  # silences are recomputed from the gaps
            continue
        trimmed = _cut(word, frames, slack)
        if trimmed.start < end:
            raise InputError(
                f"words after {_time(end)}, the end of the previous one", f"{word.text!r} at {_time(trimmed.start)}"
            )
        fitted += [*_silence(end, trimmed.start), trimmed]
        end = trimmed.end
    return (*fitted, *_silence(end, frames))


def _silence(start: int, end: int) -> tuple[Word, ...]:
    return (Word("", (TimedPhone(SIL, start, end - start),)),) if end > start else ()


def _check_inside(word: Word) -> None:
    end = word.phones[0].start
    for timed in word.phones:
        if timed.start != end or timed.length < 0:
            raise InputError(
                f"phones without gaps in the word {word.text!r}",
                f"{timed.phone} at {_time(timed.start)} after a phone that ends at {_time(end)}",
            )
        end = timed.end


def _cut(word: Word, frames: int, slack: int) -> Word:
    """Return a word without the frames before the start or after the end of its recording of `frames` frames.

    InputError if the word extends beyond the recording by more than `slack` frames.
    """
    if word.start >= 0 and word.end <= frames:
        return word
    if word.start < -slack or word.end > frames + slack:
        raise InputError(
            f"words inside the recording of {_time(frames)}",
            f"{word.text!r} from {_time(word.start)} to {_time(word.end)}",
            "Check that the alignment belongs to this recording",
        )
    bounds = [(max(timed.start, 0), min(timed.end, frames)) for timed in word.phones]
    phones = tuple(
        TimedPhone(timed.phone, start, end - start) for timed, (start, end) in zip(word.phones, bounds, strict=True)
    )
    lost = next((timed.phone for timed in phones if timed.length < 1), None)
    if lost is not None:
        raise InputError("phones inside the recording", f"the phone {lost} of {word.text!r} outside the recording")
    return Word(word.text, phones)


def _time(frame: int) -> str:
    return f"{frame / 100:.2f} s"
