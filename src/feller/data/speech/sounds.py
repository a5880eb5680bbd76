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
from feller.data.fingerprints import fingerprint_of
from feller.data.loading.raw import RawExamples, RawWaveforms, Waveform, expect
from feller.data.modality import Dataset, Modality, Writer, check_finite_state, property_tensors
from feller.data.speech.audio_io import resample, wav, write_sound
from feller.data.speech.figure import SpectrogramPanel, spectrograms
from feller.data.speech.mel import FRAMES, MelConfig
from feller.spaces import Euclidean

INT16_MAX = 32767
"""The whole number that stands for 1."""
PIECE = 4
"""Seconds of a piece, at most, unless others are asked for."""


@dataclass(frozen=True)
class Waveforms(Modality):
    """Samples of sounds, long ones cut into pieces of whole frames.

    Values are samples, int16 [n, longest * hop], silence behind the end. States are the same numbers from -1 to 1.
    Given is `length`, the samples of each that are real, [n].
    """

    display_name = "sounds"
    raw_type = RawWaveforms
    has_density = False  # pieces have different lengths, so there is no one volume

    mel: MelConfig
    """How log mels are made of them."""
    longest: int
    """Frames of a piece."""

    def __post_init__(self) -> None:
        check_number("longest", self.longest, ge=1, kind=InputError)

    @property
    def read_size(self) -> int:
        return -(-self.longest // FRAMES)

    @property
    def writers(self) -> dict[str, Writer]:
        return {".wav": self._write_one, "": self._write_folder}

    @property
    def samples(self) -> int:
        """Samples of a piece."""
        return self.longest * self.mel.hop_length

    def space(self) -> Euclidean:
        return Euclidean((self.samples,))

    def encode(self, values: Int16[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return numbers from -1 to 1."""
        return values.float() / INT16_MAX

    def decode(self, state: Float[Tensor, "n l"]) -> Int16[Tensor, "n l"]:
        """Return whole numbers; what is louder than 1 is cut off."""
        check_finite_state(state)
        return (state.clamp(-1, 1) * INT16_MAX).round().to(torch.int16)

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        """Return pieces of sounds, brought to our rate; those without two frames are left out."""
        data = self.dataset_from_raw(raw)
        return data.values, data.given

    def dataset_from_raw(self, raw: RawExamples) -> Dataset:
        return self.cut_sounds(expect(raw, RawWaveforms))

    def cut_sounds(self, raw: RawWaveforms) -> Dataset:
        """Return pieces of sounds; those of one sound are a group; InputError if all sounds are too short."""
        sounds = [resample(sound, self.mel.sample_rate).samples for sound in raw.values]
        cuts = [_cut(len(samples) // self.mel.hop_length, self.longest) for samples in sounds]
        kept = [
            i
            for i, samples in enumerate(sounds)
            if len(samples) // self.mel.hop_length * self.mel.hop_length >= self.mel.shortest
        ]
        if not kept:
            raise InputError(f"sounds of at least {self.mel.shortest / self.mel.sample_rate:.3f} s", "shorter ones")
        parts = [(i, begin, end) for i in kept for begin, end in pairwise(cuts[i])]
        values = torch.zeros(len(parts), self.samples, dtype=torch.int16)
        for row, (i, begin, end) in zip(values, parts, strict=True):
            part = torch.from_numpy(sounds[i][begin * self.mel.hop_length : end * self.mel.hop_length])
            row[: len(part)] = self.decode(part[None])[0]
        length = torch.tensor([(end - begin) * self.mel.hop_length for _, begin, end in parts])
        minutes = int(length.sum()) / self.mel.sample_rate / 60
        notes = [f"{len(kept):,} sounds in {len(parts):,} pieces, {minutes:.1f} minutes at {self.mel.sample_rate:,} Hz"]
        if len(kept) < len(sounds):
            notes.append(f"{len(sounds) - len(kept):,} of {len(sounds):,} sounds left out: they are too short")
        return Dataset(
            values,
            {"length": length},
            self,
            (*raw.notes, *notes),
            groups=torch.tensor([i for i, *_ in parts]),
            properties={name: numbers[[i for i, *_ in parts]] for name, numbers in property_tensors(raw).items()},
            fingerprint=fingerprint_of(raw),
        )

    def sounds(self, values: Int16[Tensor, "n l"], given: Cond) -> list[Waveform]:
        """Return the sound of each piece, without the silence behind."""
        return [
            Waveform(row[:n].numpy(), self.mel.sample_rate)
            for row, n in zip(self.encode(values.cpu()), self._lengths(values, given).tolist(), strict=True)
        ]

    def num_entries(self, values: Any) -> Int64[Tensor, " n"]:
        return torch.stack([(row.nonzero()[-1, 0] + 1) if row.any() else torch.tensor(0) for row in values])

    def arrays(self, values: Int16[Tensor, "n l"], given: Cond) -> dict[str, np.ndarray]:
        """Return `sound` [n, l], `length` [n] and `rate`."""
        length = self._lengths(values, given)
        return {"sound": values.cpu().numpy(), "length": length.numpy(), "rate": np.array(self.mel.sample_rate)}

    def show(self, values: Int16[Tensor, "n l"], given: Cond, columns: int | None = None) -> Image.Image:
        mels = [self.mel.log_mel(torch.from_numpy(sound.samples)) for sound in self.sounds(values, given)]
        return spectrograms([SpectrogramPanel(mel.numpy()) for mel in mels], self.mel.f_max, columns)

    def _lengths(self, values: Tensor, given: Cond) -> Int64[Tensor, " n"]:
        return given["length"].cpu() if "length" in given else torch.full((len(values),), values.shape[1])

    def _write_one(self, values: State, given: Cond, out: pathlib.Path) -> None:
        if len(values) != 1:
            raise UsageError(f"{out.name} holds one sound", found=len(values), remedy="Name a folder")
        write_sound(self.sounds(values, given)[0], out)

    def _write_folder(self, values: State, given: Cond, out: pathlib.Path) -> None:
        contents = map(wav, self.sounds(values, given))
        sample_folder.save_files(
            self.show(values, given), out, sample_folder.numbered_names(len(values), ".wav"), contents
        )


def _cut(frames: int, max_frames: int) -> list[int]:
    """Return the first frames of equal pieces of at most so many frames, and the end."""
    count = max(1, -(-frames // max_frames))
    return [i * frames // count for i in range(count + 1)]


def waveform_dataset(raw: RawWaveforms, seconds: int | None = None) -> Dataset:
    """Make a data set of sounds, in pieces of at most so many seconds; InputError if all are too short."""
    mel = MelConfig.default_for(raw.values[0].sample_rate)
    frames = max(sound.frames for sound in raw.values)
    return Waveforms(mel, min((seconds or PIECE) * FRAMES, max(frames, 1))).cut_sounds(raw)
