"""Modality of speech: log mel spectrograms conditioned on the phone of each frame."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from feller.core.errors import InputError, UsageError, check_number, error_context
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.data.files import sample_folder
from feller.data.loading.raw import PhoneAlignment, RawExamples, RawSpeech, Waveform, expect
from feller.data.modality import Dataset, Modality, Writer, check_finite_state
from feller.data.speech.audio_io import write_sound
from feller.data.speech.clip_chains import chain_clips
from feller.data.speech.durations import TABLE, DurationModel, write_durations
from feller.data.speech.figure import SpectrogramPanel, spectrograms
from feller.data.speech.griffin_lim import GriffinLim, Vocoder
from feller.data.speech.mel import FRAMES, MelConfig, Statistics, log_mels
from feller.data.speech.phones import Inventory, repeat_by_duration
from feller.spaces import Euclidean


def phone_alignments(values: State, given: Cond, names: Sequence[str]) -> list[PhoneAlignment]:
    """Return the phones and durations of each recording, from the values or, without phones, from frame labels."""
    if "phone" in values:
        rows = zip(values["phone"].tolist(), values["duration"].tolist(), strict=True)
        pairs = [[(p, d) for p, d in zip(phone, duration, strict=True) if p >= 0] for phone, duration in rows]
    elif "phone" in given and "valid" in given:
        rows = zip(given["phone"].cpu(), given["valid"].cpu(), strict=True)
        pairs = [[(p, len([*run])) for p, run in groupby(labels[mask].tolist())] for labels, mask in rows]
    else:
        return []
    return [PhoneAlignment(tuple(names[p] for p, _ in row), tuple(d for _, d in row)) for row in pairs]


def phone_intervals(alignment: PhoneAlignment) -> tuple[tuple[str, int, int], ...]:
    """Return (name, first frame, number of frames) of each phone with a positive duration."""
    starts = np.cumsum((0, *alignment.durations))
    intervals = zip(alignment.phones, starts.tolist(), alignment.durations, strict=False)
    return tuple((name, start, length) for name, start, length in intervals if length)


@dataclass(frozen=True)
class Speech(Modality):
    """Modality of speech: log mel spectrograms with their phones.

    Values are a dict of tensors. `mel`, float32 [n, longest, bands], is padded with the mean. `phone` holds indices
    into the inventory, padded with -1, and `duration` the frames per phone, padded with 0; both are [n, m], where m is
    the largest number of phones of a recording. `speaker` [n] holds indices into `speakers`, or -1. `text` [n, t] holds
    the code points of the transcript, if it is known, padded with -1. Samples may have only `mel`, or `mel` and `kept`,
    the mask of frames taken from a recording, [n, longest].

    A state is the normalised `mel`. The conditions are `valid`, the mask of real frames, and `phone`, the phone of each
    frame, zero-padded; both are [n, longest].
    """

    is_identified_by_notes = True
    display_name = "speech"
    raw_type = RawSpeech
    has_computed_values = True
    has_density = False  # recordings have different lengths

    mel: MelConfig
    statistics: Statistics
    inventory: Inventory
    longest: int
    """Maximum number of frames of a recording."""
    window_frames: int | None = None
    """Number of frames of a training crop; None to train on whole recordings."""
    chains: bool = False
    """Whether to train on chains of clips of one speaker, because a single clip is too short to infer a voice."""
    speakers: tuple[str, ...] = ()
    user_pronunciations: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Pronunciations defined by the user, by word."""
    duration_regressor: DurationModel | None = None
    """Deterministic duration model; None until it is trained."""
    duration_sampler: DurationModel | None = None
    """Stochastic duration model; None until it is trained."""
    vocoder: Vocoder = field(default_factory=GriffinLim)
    """Vocoder that converts log mels to audio."""

    def __post_init__(self) -> None:
        check_number("longest", self.longest, ge=1, kind=InputError)

    @property
    def read_size(self) -> int:
        return -(-self.longest // FRAMES)

    @property
    def room(self) -> int:
        """Maximum number of frames of a voice prompt and the output together."""
        return self.longest if self.window_frames is None else min(self.window_frames, self.longest)

    @property
    def entry_label_counts(self) -> dict[str, int]:
        return {"phone": len(self.inventory)}

    @property
    def aux_networks(self) -> dict[str, nn.Module]:
        models = {"durations": self.duration_regressor, "rhythm": self.duration_sampler}
        return {name: model.module for name, model in models.items() if model is not None}

    @property
    def writers(self) -> dict[str, Writer]:
        """Functions that write samples, by file suffix: arrays, one .wav file, or a folder.

        The folder has the empty suffix; it contains .wav files, phone durations and an overview image.
        """
        return {".npz": self._write_arrays, ".wav": self._write_sounds, "": self._write_sounds}

    def num_entries(self, values: Any) -> Int64[Tensor, " n"]:
        """Return the number of log mel values of each recording; padding is not counted if durations are known."""
        mel = values["mel"]
        frames = values["duration"].sum(1) if "duration" in values else torch.full((len(mel),), mel.shape[1])
        return frames * mel.shape[2]

    def for_training(self, data: Dataset, rng: Rng) -> Dataset:
        """Return the training data; if clips are chained, return as many chains as there are clips."""
        return chain_clips(data, len(data), self.statistics.mean, rng) if self.chains else data

    def add_derived_conditions(self, given: Cond) -> Cond:
        if "phone" not in given:
            raise UsageError(
                "a text (speech is not sampled unconditionally)", "none", 'Use: feller sample RUN --text "..."'
            )
        return given

    def texts(self, values: State) -> list[str]:
        """Return the transcript of each recording; an empty string if it is unknown."""
        rows = values["text"].tolist() if "text" in values else [[]] * len(values["mel"])
        return ["".join(chr(letter) for letter in row if letter >= 0) for row in rows]

    def space(self) -> Euclidean:
        return Euclidean((self.longest, self.mel.n_mels))

    def encode(self, values: State) -> Float[Tensor, "n l bands"]:
        return ((values["mel"].double() - self.statistics.mean) / self.statistics.std).float()

    def decode(self, state: Float[Tensor, "n l bands"]) -> State:
        check_finite_state(state)
        return {"mel": (state.double() * self.statistics.std + self.statistics.mean).float()}

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        raw = expect(raw, RawSpeech)
        mels = log_mels(raw, self.mel)
        lengths = torch.tensor([len(mel) for mel in mels])
        too_long = int(lengths.argmax())
        if len(mels[too_long]) > self.longest:
            raise InputError(
                f"at most {self.longest / FRAMES:g} s",
                f"{len(mels[too_long]) / FRAMES:g} s",
                "Split the recording at a pause, or leave it out",
                **raw.error_fields(too_long),
            )
        mel = torch.full((len(mels), self.longest, self.mel.n_mels), self.statistics.mean)
        for row, log_mel in zip(mel, mels, strict=True):
            row[: len(log_mel)] = log_mel
        valid = torch.arange(self.longest) < lengths[:, None]
        speaker = [self.speakers.index(name) if name in self.speakers else -1 for name in _speakers(raw)]
        values = {"mel": mel, "speaker": torch.tensor(speaker)}
        if raw.texts:
            rows = [torch.tensor([ord(letter) for letter in text], dtype=torch.long) for text in raw.texts]
            values["text"] = pad_sequence(rows, batch_first=True, padding_value=-1)
        if not raw.alignments:
            return values, {"valid": valid}
        phone, duration = self._phones(raw)
        labels = repeat_by_duration(phone.clamp(min=0), duration, self.longest)
        return {**values, "phone": phone, "duration": duration}, {"valid": valid, "phone": labels}

    def _phones(self, raw: RawSpeech) -> tuple[Int64[Tensor, "n m"], Int64[Tensor, "n m"]]:
        """Return the phone indices of all recordings, padded with -1, and the durations in frames, padded with 0."""
        max_phones = max(len(alignment.phones) for alignment in raw.alignments)
        phone = torch.full((len(raw.alignments), max_phones), -1)
        duration = torch.zeros_like(phone)
        for i, alignment in enumerate(raw.alignments):
            with error_context(**raw.error_fields(i)):
                phone[i, : len(alignment.phones)] = self.inventory.numbers(alignment.phones)
            duration[i, : len(alignment.phones)] = torch.tensor(alignment.durations)
        return phone, duration

    def sound(self, mel: Float[Tensor, "frames bands"]) -> Waveform:
        """Convert log mels to audio with the vocoder; UsageError if it needs a package that is not installed."""
        return Waveform(self.vocoder.synthesize(mel, self.mel).numpy().astype(np.float32), self.mel.sample_rate)

    def sounds(self, values: State, given: Cond) -> list[Waveform]:
        """Convert the log mels of each example to audio, without padding."""
        return [self.sound(mel) for mel in self._unpadded(values, given)]

    def _unpadded(self, values: State, given: Cond) -> list[Float[Tensor, "frames bands"]]:
        mel = values["mel"].detach().float().cpu()
        valid = given["valid"].cpu() if "valid" in given else torch.ones(mel.shape[:2], dtype=torch.bool)
        return [log_mel[mask] for log_mel, mask in zip(mel, valid, strict=True)]

    def arrays(self, values: State, given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `mel` [n, l, bands], `valid` [n, l] and `settings`; three more if phones are known.

        `settings` is the configuration of `mel`. The arrays for known phones are `phone` and `duration`, [n, m], and
        `phones`, the names of the phone indices.
        """
        unpadded = self._unpadded(values, given)
        mel = np.zeros((len(unpadded), self.longest, self.mel.n_mels), dtype=np.float32)
        valid = np.zeros(mel.shape[:2], dtype=bool)
        for i, log_mel in enumerate(unpadded):
            mel[i, : len(log_mel)], valid[i, : len(log_mel)] = log_mel.numpy(), True
        settings = np.array(self.mel.settings)
        alignments = phone_alignments(values, given, self.inventory.names)
        if not alignments:
            return {"mel": mel, "valid": valid, "settings": settings}
        phone, duration = self._phones(RawSpeech(np.zeros(len(alignments)), alignments=tuple(alignments)))
        return {
            "mel": mel,
            "valid": valid,
            "settings": settings,
            "phone": phone.numpy(),
            "duration": duration.numpy(),
            "phones": np.array(self.inventory.names),
        }

    def show(self, values: State, given: Cond, columns: int | None = None) -> Image.Image:
        alignments = phone_alignments(values, given, self.inventory.names)
        mels = self._unpadded(values, given)
        phones = [phone_intervals(alignment) for alignment in alignments] or [()] * len(mels)
        recorded = values["kept"].cpu().numpy() if "kept" in values else np.zeros((len(mels), 0), dtype=bool)
        panels = [
            SpectrogramPanel(mel.numpy(), intervals, mask)
            for mel, intervals, mask in zip(mels, phones, recorded, strict=True)
        ]
        return spectrograms(panels, self.mel.f_max, columns)

    def write_sounds(self, sounds: Sequence[Waveform], values: State, given: Cond, out: pathlib.Path) -> None:
        """Write waveforms to `out`: one waveform to a .wav file with an image, or all to a folder.

        Args:
            sounds: Waveforms.
            values: Values of the same samples, for the images of the log mels and for the phone durations.
            given: Conditions of the same samples.
            out: .wav file or folder to write.

        Raises:
            UsageError: If `out` is a .wav file and there are several waveforms.
        """
        if out.suffix.lower() == ".wav":
            if len(sounds) != 1:
                raise UsageError(f"one recording for {out.name}", len(sounds), "Name a folder or an .npz file")
            write_sound(sounds[0], out)
            sample_folder.write_picture(self.show(values, given), out.with_suffix(".png"))
            return
        sample_folder.prepare(out)
        names = sample_folder.numbered_names(len(sounds))
        alignments = phone_alignments(values, given, self.inventory.names)
        files = [f"{name}{ending}" for name in names for ending in (".wav", TABLE)[: 1 + bool(alignments)]]
        sample_folder.save_overview(self.show(values, given), out, files)
        for i, name in enumerate(names):
            write_sound(sounds[i], out / f"{name}.wav")
            if alignments:
                write_durations(alignments[i], out / f"{name}{TABLE}")

    def _write_sounds(self, values: State, given: Cond, out: pathlib.Path) -> None:
        self.write_sounds(self.sounds(values, given), values, given, out)


def _speakers(raw: RawSpeech) -> Sequence[str]:
    """Return the speaker of each recording; empty strings if unknown."""
    if raw.labels is None:
        return [""] * len(raw.values)
    return [raw.classes[label] for label in raw.labels.tolist()]
