"""Real spoken digits: clips of six speakers with aligned phones; takes 0 to 4 are the test set."""

import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.data.speech.alignment_files import NAME, fit_to_sound, read_alignments
from feller.data.speech.audio_io import read_sound
from feller.data.speech.mel import MelConfig, Statistics
from feller.data.speech.phones import Inventory, align_phones

RATE = 8_000
MEL = MelConfig.default_for(RATE)
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_TEST_TAKES = 5
"""Test takes per digit and speaker, the first ones."""
TARGET_RMS = 0.08
"""Root mean square of each clip: the loudness of a clip cannot be inferred from its neighbours."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Recording of one digit."""

    digit: int
    speaker: int
    sound: Float32[np.ndarray, " samples"]
    """Samples of all frames."""
    mel: Float[Tensor, "n bands"]
    """Log-mel amplitudes, standardised by the mean and standard deviation of the training clips."""
    phone: Int64[Tensor, " m"]
    """Silence, phones of the word, silence."""
    duration: Int64[Tensor, " m"]
    """In frames; 0 is allowed for silences."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Training and test clips."""

    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    inventory: Inventory
    scale: Statistics
    """Mean and standard deviation of the log mels of the training clips."""
    speakers: tuple[str, ...]

    @property
    def silence_level(self) -> float:
        """Return the standardised log mel of digital silence."""
        return (float(np.log(1e-5)) - self.scale.mean) / self.scale.std

    def pronunciations(self) -> dict[int, Int64[Tensor, " m"]]:
        """Return the most frequent pronunciation of each digit in the training clips, with silence at both ends."""
        candidates: dict[int, list[tuple[int, ...]]] = {}
        for clip in self.train:
            candidates.setdefault(clip.digit, []).append(tuple(clip.phone.tolist()))
        return {
            digit: torch.tensor(max(sorted(set(variants)), key=variants.count))
            for digit, variants in sorted(candidates.items())
        }


def read_digits(folder: pathlib.Path, max_takes: int | None = None) -> Digits:
    """Return the aligned clips of a folder.

    Args:
        folder: Has `alignments.jsonl`, and files `{digit}_{speaker}_{take}.wav` in it or in `recordings`.
        max_takes: Number of takes to read; by default all.

    Raises:
        InputError: If a clip cannot be read, or the training or test set is empty.
    """
    alignments = read_alignments(folder / NAME)
    sounds = folder / "recordings" if (folder / "recordings").is_dir() else folder
    fields = {name: _parse_name(name) for name in alignments}
    fields = {name: parts for name, parts in fields.items() if max_takes is None or parts[2] < max_takes}
    speakers = sorted({speaker for _, speaker, _ in fields.values()})
    layouts, recordings = {}, {}
    for name in fields:
        sound = read_sound(sounds / name).sound
        samples = sound.samples[: MEL.frames(len(sound.samples)) * MEL.hop_length]
        samples = samples * (TARGET_RMS / float(np.sqrt(np.square(samples).mean())))
        recordings[name] = samples, MEL.log_mel(torch.from_numpy(samples))
        layouts[name] = align_phones(fit_to_sound(alignments[name], len(recordings[name][1])))
    inventory = Inventory.of(phone for layout in layouts.values() for phone in layout.phones)
    train = [name for name, (_, _, take) in fields.items() if take >= NUM_TEST_TAKES]
    test = [name for name, (_, _, take) in fields.items() if take < NUM_TEST_TAKES]
    if not train or not test:
        raise InputError(f"takes below and from {NUM_TEST_TAKES}", f"{len(test)} and {len(train)} clips", file=folder)
    scale = Statistics.of([recordings[name][1] for name in train])

    def clip(name: str) -> Clip:
        digit, speaker, _ = fields[name]
        samples, mel = recordings[name]
        layout = layouts[name]
        phone, duration = inventory.numbers(layout.phones), torch.tensor(layout.durations)
        return Clip(digit, speakers.index(speaker), samples, (mel - scale.mean) / scale.std, phone, duration)

    return Digits(
        tuple(clip(name) for name in train), tuple(clip(name) for name in test), inventory, scale, tuple(speakers)
    )


def _parse_name(name: str) -> tuple[int, str, int]:
    digit, _, rest = pathlib.PurePath(name).stem.partition("_")
    speaker, _, take = rest.rpartition("_")
    if not (digit.isdecimal() and take.isdecimal() and int(digit) < len(DIGIT_NAMES)):
        raise InputError("a file called digit_speaker_take.wav", name)
    return int(digit), speaker, int(take)
