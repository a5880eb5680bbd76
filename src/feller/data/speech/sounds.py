"""Modality of waveforms, for training vocoders."""

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
"""Integer that represents an amplitude of 1."""
PIECE = 4
"""Default maximum length of a segment in seconds."""


@dataclass(frozen=True)
class Waveforms(Modality):
    """Modality of audio samples, cut into segments of whole frames.

    Values are int16 [n, longest * hop], zero-padded. States are scaled to [-1, 1]. The condition `length` is the number
    of real samples, [n].
    """

    display_name = "sounds"
    raw_type = RawWaveforms
    has_density = False  # segments have different lengths

    mel: MelConfig
    """Configuration of the log mel spectrograms from which the vocoder generates audio."""
    longest: int
    """Number of frames of a segment."""

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
        """Number of audio samples of a segment."""
        return self.longest * self.mel.hop_length

    def space(self) -> Euclidean:
        return Euclidean((self.samples,))

    def encode(self, values: Int16[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Scale int16 samples to [-1, 1]."""
        return values.float() / INT16_MAX

    def decode(self, state: Float[Tensor, "n l"]) -> Int16[Tensor, "n l"]:
        """Clip states to [-1, 1] and convert them to int16 samples."""
        check_finite_state(state)
        return (state.clamp(-1, 1) * INT16_MAX).round().to(torch.int16)

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        """Convert recordings to (segments at the model's sample rate, conditions); leave out too short recordings."""
        data = self.dataset_from_raw(raw)
        return data.values, data.given

    def dataset_from_raw(self, raw: RawExamples) -> Dataset:
        return self.cut_sounds(expect(raw, RawWaveforms))

    def cut_sounds(self, raw: RawWaveforms) -> Dataset:
        """Cut recordings into segments; the segments of a recording form a group, which a split keeps together.

        InputError if all recordings are too short.
        """
        sounds = [resample(sound, self.mel.sample_rate).samples for sound in raw.values]
        boundaries = [_cut(len(samples) // self.mel.hop_length, self.longest) for samples in sounds]
        usable = [
            i
            for i, samples in enumerate(sounds)
            if len(samples) // self.mel.hop_length * self.mel.hop_length >= self.mel.shortest
        ]
        if not usable:
            raise InputError(
                f"sounds of at least {self.mel.shortest / self.mel.sample_rate:.3f} s", "only shorter ones"
            )
        segments = [(i, begin, end) for i in usable for begin, end in pairwise(boundaries[i])]
        values = torch.zeros(len(segments), self.samples, dtype=torch.int16)
        for row, (i, begin, end) in zip(values, segments, strict=True):
            segment = torch.from_numpy(sounds[i][begin * self.mel.hop_length : end * self.mel.hop_length])
            row[: len(segment)] = self.decode(segment[None])[0]
        length = torch.tensor([(end - begin) * self.mel.hop_length for _, begin, end in segments])
        minutes = int(length.sum()) / self.mel.sample_rate / 60
        notes = [
            f"{len(usable):,} sounds in {len(segments):,} pieces, {minutes:.1f} minutes at {self.mel.sample_rate:,} Hz"
        ]
        if len(usable) < len(sounds):
            notes.append(f"{len(sounds) - len(usable):,} of {len(sounds):,} sounds left out: they are too short")
        return Dataset(
            values,
            {"length": length},
            self,
            (*raw.notes, *notes),
            groups=torch.tensor([i for i, *_ in segments]),
            properties={name: column[[i for i, *_ in segments]] for name, column in property_tensors(raw).items()},
            fingerprint=fingerprint_of(raw),
        )

    def sounds(self, values: Int16[Tensor, "n l"], given: Cond) -> list[Waveform]:
        """Return each segment as a waveform without padding."""
        return [
            Waveform(row[:n].numpy(), self.mel.sample_rate)
            for row, n in zip(self.encode(values.cpu()), self._lengths(values, given).tolist(), strict=True)
        ]

    def num_entries(self, values: Any) -> Int64[Tensor, " n"]:
        return torch.stack([(row.nonzero()[-1, 0] + 1) if row.any() else torch.tensor(0) for row in values])

    def arrays(self, values: Int16[Tensor, "n l"], given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `sound`, audio samples [n, l]; `length`, the number of real samples [n]; `rate` in Hz."""
        length = self._lengths(values, given)
        return {"sound": values.cpu().numpy(), "length": length.numpy(), "rate": np.array(self.mel.sample_rate)}

    def show(self, values: Int16[Tensor, "n l"], given: Cond, columns: int | None = None) -> Image.Image:
        mels = [self.mel.log_mel(torch.from_numpy(sound.samples)) for sound in self.sounds(values, given)]
        return spectrograms([SpectrogramPanel(mel.numpy()) for mel in mels], self.mel.f_max, columns)

    def _lengths(self, values: Tensor, given: Cond) -> Int64[Tensor, " n"]:
        return given["length"].cpu() if "length" in given else torch.full((len(values),), values.shape[1])

    def _write_one(self, values: State, given: Cond, out: pathlib.Path) -> None:
        if len(values) != 1:
            raise UsageError(f"one recording for {out.name}", len(values), "Name a folder")
        write_sound(self.sounds(values, given)[0], out)

    def _write_folder(self, values: State, given: Cond, out: pathlib.Path) -> None:
        contents = map(wav, self.sounds(values, given))
        sample_folder.save_files(
            self.show(values, given), out, sample_folder.numbered_names(len(values), ".wav"), contents
        )


def _cut(frames: int, max_frames: int) -> list[int]:
    """Return the boundaries of equal segments of at most `max_frames` frames."""
    count = max(1, -(-frames // max_frames))
    return [i * frames // count for i in range(count + 1)]


def waveform_dataset(raw: RawWaveforms, seconds: int | None = None) -> Dataset:
    """Build a dataset of segments of at most `seconds` (default 4); InputError if all recordings are too short."""
    mel = MelConfig.default_for(raw.values[0].sample_rate)
    frames = max(sound.frames for sound in raw.values)
    return Waveforms(mel, min((seconds or PIECE) * FRAMES, max(frames, 1))).cut_sounds(raw)
