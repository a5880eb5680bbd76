"""Phones: their inventory, their order in a sound with a silence at every place that can have one, their durations."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Int64, Shaped
from torch import Tensor

from feller.core.errors import InputError
from feller.data.loading.raw import PhoneAlignment

SIL = "SIL"
"""Silence, the first of each inventory."""
ARPABET = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"),
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH"),
    *("V", "W", "Y", "Z", "ZH"),
)
"""The 39 phones of English, without stress: vowels, then consonants."""
BEGIN, INNER, END, SINGLE = "_B", "_I", "_E", "_S"
"""Where a phone stands in its word: first, inside, last, or alone."""
PLACES = (BEGIN, INNER, END, SINGLE)
STRESSED = re.compile(r"([A-Z]{2})[012]")


@dataclass(frozen=True)
class TimedPhone:
    """A phone in a sound."""

    phone: str
    start: int
    """Frame of 10 ms in which it begins."""
    length: int
    """In frames."""

    @property
    def end(self) -> int:
        """The frame behind it."""
        return self.start + self.length


@dataclass(frozen=True)
class Word:
    """A word in a sound, or a silence."""

    text: str
    """As it was written, or how it is called; empty where that is not known, and of silences."""
    phones: tuple[TimedPhone, ...]

    def shifted(self, frames: int) -> "Word":
        """Return the word so many frames later."""
        return Word(self.text, tuple(TimedPhone(one.phone, one.start + frames, one.length) for one in self.phones))

    @property
    def is_silence(self) -> bool:
        """Whether it is a silence."""
        return all(spoken.phone == SIL for spoken in self.phones)

    @property
    def start(self) -> int:
        """Frame in which it begins."""
        return self.phones[0].start

    @property
    def end(self) -> int:
        """The frame behind it."""
        return self.phones[-1].end


@dataclass(frozen=True)
class Inventory:
    """The phones that a model knows, each with its place in a word; silence first."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or self.names[0] != SIL or len(set(self.names)) < len(self.names) or not all(self.names):
            raise InputError(f"different phones, {SIL} first", ", ".join(self.names[:5]) or "none")

    @classmethod
    def of(cls, phones: Iterable[str]) -> "Inventory":
        """Return the inventory that holds phones with their places: all of English, or else those of the data.

        Any of these has all four places, since another text may need those that the data lack.
        """
        base = {name[: -len(BEGIN)] if name.endswith(PLACES) else name for name in phones} - {SIL}
        chosen = ARPABET if base <= {*ARPABET} else sorted(base)
        return cls((SIL, *(phone + place for phone in chosen for place in PLACES)))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def phones(self) -> tuple[str, ...]:
        """The phones without their places, and without silence."""
        return tuple(dict.fromkeys(name[: -len(BEGIN)] for name in self.names if name.endswith(PLACES)))

    @property
    def english(self) -> bool:
        """Whether all are phones of English."""
        return {*self.phones} <= {*ARPABET}

    def numbers(self, phones: Sequence[str]) -> Int64[Tensor, " m"]:
        """Return the positions of phones; InputError if any is not known."""
        place = {name: i for i, name in enumerate(self.names)}
        unknown = sorted({*phones} - place.keys())
        if unknown:
            raise InputError(
                f"{len(unknown)} phones are not among the {len(self)} that are known, first {unknown[0]}",
                remedy="Use one set of phones throughout",
            )
        return torch.tensor([place[phone] for phone in phones], dtype=torch.long)


def strip_stress(phone: str) -> str:
    """Return a phone without the stress that dictionaries of English mark: AH0 is AH; and accents in one form."""
    phone = unicodedata.normalize("NFC", phone)
    stressed = STRESSED.fullmatch(phone)
    return stressed[1] if stressed and stressed[1] in ARPABET else phone


def with_word_positions(phones: Sequence[str]) -> tuple[str, ...]:
    """Return the phones of a word with their places in it."""
    if len(phones) == 1:
        return (phones[0] + SINGLE,)
    return (phones[0] + BEGIN, *(phone + INNER for phone in phones[1:-1]), phones[-1] + END)


def align_phones(words: Sequence[Word]) -> PhoneAlignment:
    """Return the phones of words in their order, a silence between any two words and at both ends.

    One that was not aligned has duration 0.
    """
    phones, durations = [SIL], [0]
    for word in words:
        lengths = [spoken.length for spoken in word.phones]
        if word.is_silence:
            durations[-1] += sum(lengths)
        else:
            phones += [*with_word_positions([spoken.phone for spoken in word.phones]), SIL]
            durations += [*lengths, 0]
    return PhoneAlignment(tuple(phones), tuple(durations))


def unaligned_phones(words: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the phones of words whose durations are not known yet, laid out in the same way."""
    return (SIL, *(phone for word in words for phone in (*with_word_positions(word), SIL)))


def repeat_by_duration(
    values: Shaped[Tensor, "*b m"], durations: Int[Tensor, "*b m"], longest: int | None = None
) -> Shaped[Tensor, "*b n"]:
    """Return each value as often as it lasts, 0 behind the last; what lasts 0 frames is nowhere.

    Args:
        values: One for each phone.
        durations: In frames.
        longest: Frames of the result; without it, as many as the longest row needs. What is beyond is cut off.
    """
    ends = durations.cumsum(-1)
    n = int(ends[..., -1:].max()) if longest is None else longest
    frames = torch.arange(n, device=ends.device).expand(*ends.shape[:-1], n)
    which = torch.searchsorted(ends, frames.contiguous(), right=True)
    there = which < ends.shape[-1]
    found = values.gather(-1, which.clamp(max=ends.shape[-1] - 1))
    return torch.where(there, found, torch.zeros_like(found))


def frames_of(
    phone_mask: Bool[Tensor, "*b m"], durations: Int[Tensor, "*b m"], longest: int | None = None
) -> Bool[Tensor, "*b n"]:
    """Mark the frames of marked phones: each phone is marked as a whole, or not at all."""
    return repeat_by_duration(phone_mask, durations, longest)
