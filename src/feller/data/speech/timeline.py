"""Words brought onto the frames of their sound: none overlap, none is missing."""

from collections.abc import Sequence

from feller.core.errors import InputError
from feller.data.speech.phones import SIL, Spoken, Word

SLACK = 2
"""Frames that words may reach over the ends of their sound, since times are rounded; that much is cut off."""


def fitted(words: Sequence[Word], frames: int, slack: int = SLACK) -> tuple[Word, ...]:
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
        if word.silent:  # it ends with the next word, or the sound
            continue
        kept = _cut(word, frames, slack)
        if kept.start < now:
            raise InputError(f"the word {word.text!r} begins at {_time(kept.start)}, before the last one ends")
        placed += [*_silence(now, kept.start), kept]
        now = kept.end
    return (*placed, *_silence(now, frames))


def _silence(start: int, end: int) -> tuple[Word, ...]:
    return (Word("", (Spoken(SIL, start, end - start),)),) if end > start else ()


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
        Spoken(spoken.phone, start, end - start) for spoken, (start, end) in zip(word.phones, bounds, strict=True)
    )
    gone = next((spoken.phone for spoken in phones if spoken.length < 1), None)
    if gone is not None:
        raise InputError(f"{gone} of the word {word.text!r} lies outside the sound; it is cut too short")
    return Word(word.text, phones)


def _time(frame: int) -> str:
    return f"{frame / 100:.2f} s"
