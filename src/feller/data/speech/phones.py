"""Phones: inventories, word positions, silences between words, and durations."""

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
"""Name of the phone for silence, the first entry of each inventory."""
ARPABET = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"),
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH"),
    *("V", "W", "Y", "Z", "ZH"),
)
"""The 39 phones of English, without stress: first vowels, then consonants."""
BEGIN, INNER, END, SINGLE = "_B", "_I", "_E", "_S"
"""Suffixes for the position of a phone in its word: first, inner, last, or only phone."""
PLACES = (BEGIN, INNER, END, SINGLE)
STRESSED = re.compile(r"([A-Z]{2})[012]")


@dataclass(frozen=True)
class TimedPhone:
    """Phone with its start and length in a recording."""

    phone: str
    start: int
    """Index of the first frame of 10 ms."""
    length: int
    """Number of frames."""

    @property
    def end(self) -> int:
        """End frame, exclusive."""
        return self.start + self.length


@dataclass(frozen=True)
class Word:
    """Word or silence, with its phones and their times in a recording."""

    text: str
    """Text of the word; empty for a silence, or if the text is unknown."""
    phones: tuple[TimedPhone, ...]

    def shifted(self, frames: int) -> "Word":
        """Return the word shifted in time by a number of frames."""
        return Word(
            self.text, tuple(TimedPhone(timed.phone, timed.start + frames, timed.length) for timed in self.phones)
        )

    @property
    def is_silence(self) -> bool:
        return all(timed.phone == SIL for timed in self.phones)

    @property
    def start(self) -> int:
        """Index of the first frame."""
        return self.phones[0].start

    @property
    def end(self) -> int:
        """End frame, exclusive."""
        return self.phones[-1].end


@dataclass(frozen=True)
class Inventory:
    """Phone inventory: silence, then all phones with their word positions."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or self.names[0] != SIL or len(set(self.names)) < len(self.names) or not all(self.names):
            raise InputError(f"distinct phones, {SIL} first", ", ".join(self.names[:5]) or "none")

    @classmethod
    def of(cls, phones: Iterable[str]) -> "Inventory":
        """Return the inventory of all ARPABET phones if they include `phones`, otherwise the inventory of `phones`.

        Each phone has all four word positions, because new texts may need combinations that the data lack.
        """
        base = {name[: -len(BEGIN)] if name.endswith(PLACES) else name for name in phones} - {SIL}
        selected = ARPABET if base <= {*ARPABET} else sorted(base)
        return cls((SIL, *(phone + position for phone in selected for position in PLACES)))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def phones(self) -> tuple[str, ...]:
        """Phones of the inventory, without word positions and without silence."""
        return tuple(dict.fromkeys(name[: -len(BEGIN)] for name in self.names if name.endswith(PLACES)))

    @property
    def english(self) -> bool:
        """True if all phones of the inventory are in ARPABET."""
        return {*self.phones} <= {*ARPABET}

    def numbers(self, phones: Sequence[str]) -> Int64[Tensor, " m"]:
        """Return the indices of phones in the inventory; InputError if a phone is not in the inventory."""
        index = {name: i for i, name in enumerate(self.names)}
        unknown = sorted({*phones} - index.keys())
        if unknown:
            raise InputError(
                f"only phones from the inventory of {len(self)} phones",
                f"{len(unknown)} other phones, such as {unknown[0]}",
                "Use the same set of phones in all files",
            )
        return torch.tensor([index[phone] for phone in phones], dtype=torch.long)


def strip_stress(phone: str) -> str:
    """Strip the stress digit of an ARPABET phone (AH0 becomes AH), and normalise Unicode."""
    phone = unicodedata.normalize("NFC", phone)
    match = STRESSED.fullmatch(phone)
    return match[1] if match and match[1] in ARPABET else phone


def with_word_positions(phones: Sequence[str]) -> tuple[str, ...]:
    """Add word positions to the phones of a word."""
    if len(phones) == 1:
        return (phones[0] + SINGLE,)
    return (phones[0] + BEGIN, *(phone + INNER for phone in phones[1:-1]), phones[-1] + END)


def align_phones(words: Sequence[Word]) -> PhoneAlignment:
    """Return the phones of words in order, with a silence (duration 0 if absent) before, between and after words."""
    phones, durations = [SIL], [0]
    for word in words:
        lengths = [timed.length for timed in word.phones]
        if word.is_silence:
            durations[-1] += sum(lengths)
        else:
            phones += [*with_word_positions([timed.phone for timed in word.phones]), SIL]
            durations += [*lengths, 0]
    return PhoneAlignment(tuple(phones), tuple(durations))


def unaligned_phones(words: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the phones of words in the order of `align_phones`, including silences, without durations."""
    return (SIL, *(phone for word in words for phone in (*with_word_positions(word), SIL)))


def repeat_by_duration(
    values: Shaped[Tensor, "*b m"], durations: Int[Tensor, "*b m"], longest: int | None = None
) -> Shaped[Tensor, "*b n"]:
    """Repeat each value as often as its duration, and pad with zeros (the length regulator of FastSpeech).

    Args:
        values: One value per phone.
        durations: Number of frames of each phone; phones with duration 0 are skipped.
        longest: Number of frames of the result; excess frames are cut off. By default, the length of the longest
            example.
    """
    ends = durations.cumsum(-1)
    n = int(ends[..., -1:].max()) if longest is None else longest
    frames = torch.arange(n, device=ends.device).expand(*ends.shape[:-1], n)
    indices = torch.searchsorted(ends, frames.contiguous(), right=True)
    is_inside = indices < ends.shape[-1]
    repeated = values.gather(-1, indices.clamp(max=ends.shape[-1] - 1))
    return torch.where(is_inside, repeated, torch.zeros_like(repeated))


def frames_of(
    phone_mask: Bool[Tensor, "*b m"], durations: Int[Tensor, "*b m"], longest: int | None = None
) -> Bool[Tensor, "*b n"]:
    """Expand a mask of phones to a mask of frames; each entry is repeated as often as the duration of its phone.

    The result has `longest` frames, padded with False; see `repeat_by_duration`.
    """
    return repeat_by_duration(phone_mask, durations, longest)
