"""Sounds alone, whatever is said in them: what a network learns from that makes sounds of log mels."""

import pathlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int16, Int64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError, check_number
from feller.core.pytree import Cond, State
from feller.data.files import sample_folder
from feller.data.fingerprints import print_of
from feller.data.loading.raw import Found, FoundSounds, Sound, expect
from feller.data.modality import Dataset, Modality, Write, check_finite_state, told
from feller.data.speech.audio_io import resampled, wav, write_sound
from feller.data.speech.figure import Drawn, spectrograms
from feller.data.speech.mel import FRAMES, Mel
from feller.spaces import Euclidean

LOUDEST = 32767
"""The whole number that stands for 1."""
PIECE = 4
"""Seconds of a piece, at most, unless others are asked for."""


@dataclass(frozen=True)
class Sounds(Modality):
    """Samples of sounds, long ones cut into pieces of whole frames.

    Values are samples, int16 [n, longest * hop], silence behind the end. States are the same numbers from -1 to 1.
    Given is `length`, the samples of each that are real, [n].
    """

    called = "sounds"
    holds = FoundSounds
    has_density = False  # pieces have different lengths, so there is no one volume

    mel: Mel
    """How log mels are made of them."""
    longest: int
    """Frames of a piece."""

    def __post_init__(self) -> None:
        check_number("longest", self.longest, ge=1, kind=InputError)

    @property
    def read_size(self) -> int:
        """The most seconds, begun ones counted."""
        return -(-self.longest // FRAMES)

    @property
    def forms(self) -> dict[str, Write]:
        """One sound, or a folder with one .wav for each and a picture."""
        return {".wav": self._write_one, "": self._write_folder}

    @property
    def samples(self) -> int:
        """Samples of a piece."""
        return self.longest * self.mel.hop

    def space(self) -> Euclidean:
        """Return R^samples."""
        return Euclidean((self.samples,))

    def encode(self, values: Int16[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return numbers from -1 to 1."""
        return values.float() / LOUDEST

    def decode(self, state: Float[Tensor, "n l"]) -> Int16[Tensor, "n l"]:
        """Return whole numbers; what is louder than 1 is cut off."""
        check_finite_state(state)
        return (state.clamp(-1, 1) * LOUDEST).round().to(torch.int16)

    def accept(self, found: Found) -> tuple[State, Cond]:
        """Return pieces of sounds, brought to our rate; those without two frames are left out."""
        data = self.read(found)
        return data.values, data.given

    def read(self, found: Found) -> Dataset:
        """Return pieces of sounds; those of one sound are a group."""
        return self.pieces(expect(found, FoundSounds))

    def pieces(self, found: FoundSounds) -> Dataset:
        """Return pieces of sounds; those of one sound are a group; InputError if all sounds are too short."""
        sounds = [resampled(sound, self.mel.rate).samples for sound in found.values]
        cuts = [_cut(len(samples) // self.mel.hop, self.longest) for samples in sounds]
        kept = [
            i for i, samples in enumerate(sounds) if len(samples) // self.mel.hop * self.mel.hop >= self.mel.shortest
        ]
        if not kept:
            raise InputError(f"sounds of at least {self.mel.shortest / self.mel.rate:.3f} s", "shorter ones")
        parts = [(i, begin, end) for i in kept for begin, end in pairwise(cuts[i])]
        values = torch.zeros(len(parts), self.samples, dtype=torch.int16)
        for row, (i, begin, end) in zip(values, parts, strict=True):
            part = torch.from_numpy(sounds[i][begin * self.mel.hop : end * self.mel.hop])
            row[: len(part)] = self.decode(part[None])[0]
        length = torch.tensor([(end - begin) * self.mel.hop for _, begin, end in parts])
        minutes = int(length.sum()) / self.mel.rate / 60
        notes = [f"{len(kept):,} sounds in {len(parts):,} pieces, {minutes:.1f} minutes at {self.mel.rate:,} Hz"]
        if len(kept) < len(sounds):
            notes.append(f"{len(sounds) - len(kept):,} of {len(sounds):,} sounds left out: they are too short")
        return Dataset(
            values,
            {"length": length},
            self,
            (*found.notes, *notes),
            groups=torch.tensor([i for i, *_ in parts]),
            properties={name: numbers[[i for i, *_ in parts]] for name, numbers in told(found).items()},
            print=print_of(found),
        )

    def sounds(self, values: Int16[Tensor, "n l"], given: Cond) -> list[Sound]:
        """Return the sound of each piece, without the silence behind."""
        return [
            Sound(row[:n].numpy(), self.mel.rate)
            for row, n in zip(self.encode(values.cpu()), self._lengths(values, given).tolist(), strict=True)
        ]

    def counted(self, values: Any) -> Int64[Tensor, " n"]:
        """Return the samples of each up to the last that is no silence."""
        return torch.stack([(row.nonzero()[-1, 0] + 1) if row.any() else torch.tensor(0) for row in values])

    def arrays(self, values: Int16[Tensor, "n l"], given: Cond) -> dict[str, np.ndarray]:
        """Return `sound` [n, l], `length` [n] and `rate`."""
        length = self._lengths(values, given)
        return {"sound": values.cpu().numpy(), "length": length.numpy(), "rate": np.array(self.mel.rate)}

    def show(self, values: Int16[Tensor, "n l"], given: Cond, columns: int | None = None) -> Image.Image:
        """Draw the log mels of the first pieces."""
        mels = [self.mel.log_mel(torch.from_numpy(sound.samples)) for sound in self.sounds(values, given)]
        return spectrograms([Drawn(mel.numpy()) for mel in mels], self.mel.top, columns)

    def _lengths(self, values: Tensor, given: Cond) -> Int64[Tensor, " n"]:
        return given["length"].cpu() if "length" in given else torch.full((len(values),), values.shape[1])

    def _write_one(self, values: State, given: Cond, out: pathlib.Path) -> None:
        if len(values) != 1:
            raise UsageError(f"{out.name} holds one sound", found=len(values), remedy="Name a folder")
        write_sound(self.sounds(values, given)[0], out)

    def _write_folder(self, values: State, given: Cond, out: pathlib.Path) -> None:
        contents = map(wav, self.sounds(values, given))
        sample_folder.save_files(self.show(values, given), out, sample_folder.numbers(len(values), ".wav"), contents)


def _cut(frames: int, most: int) -> list[int]:
    """Return the first frames of equal pieces of at most so many frames, and the end."""
    count = max(1, -(-frames // most))
    return [i * frames // count for i in range(count + 1)]


def sounds(found: FoundSounds, seconds: int | None = None) -> Dataset:
    """Make a data set of sounds, in pieces of at most so many seconds; InputError if all are too short."""
    mel = Mel.usual(found.values[0].rate)
    frames = max(sound.frames for sound in found.values)
    return Sounds(mel, min((seconds or PIECE) * FRAMES, max(frames, 1))).pieces(found)
