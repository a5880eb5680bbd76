"""Detector of synthetic speech: a small classifier, and its accuracy with a confidence interval."""

import json
import math
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.safetensors_io import load_tensors, load_weights, save_tensors
from feller.data.speech.griffin_lim import Vocoder
from feller.data.speech.mel import MelConfig
from feller.networks.audio.synthetic_speech_detector import (
    WIDTHS,
    WINDOW_FRAMES,
    SyntheticSpeechDetector,
    check_mels,
    split_windows,
)
from feller.training.engine import Engine, get_engine
from feller.training.loop import StepMetrics, check_finite, make_train_state, train
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig

NORMAL_QUANTILE_95 = 1.959964
"""Two-sided 95 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class DetectionCounts:
    """Numbers of real and of synthetic sounds, and numbers of these that a detector classifies correctly."""

    num_real_right: int
    """Number of real sounds classified as real."""
    num_real: int
    num_made_right: int
    """Number of synthetic sounds classified as synthetic."""
    num_made: int

    @property
    def accuracy(self) -> float:
        """Balanced accuracy: the mean of the accuracies on real and on synthetic sounds; 0.5 is chance level."""
        return (self.num_real_right / self.num_real + self.num_made_right / self.num_made) / 2

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the balanced accuracy, for independent sounds.

        The interval combines the Wilson intervals of both classes. Source: Newcombe 1998, "Interval estimation for the
        difference between independent proportions", Statistics in Medicine 17, 873.
        """
        lower_sq, upper_sq = 0.0, 0.0
        for num_right, n in ((self.num_real_right, self.num_real), (self.num_made_right, self.num_made)):
            low, high = wilson_interval(num_right, n)
            lower_sq, upper_sq = lower_sq + (num_right / n - low) ** 2, upper_sq + (high - num_right / n) ** 2
        return max(self.accuracy - math.sqrt(lower_sq) / 2, 0.0), min(self.accuracy + math.sqrt(upper_sq) / 2, 1.0)


def wilson_interval(num_right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of the proportion `num_right` / n.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209.
    """
    fraction, z2 = num_right / n, NORMAL_QUANTILE_95**2
    center = (fraction + z2 / (2 * n)) / (1 + z2 / n)
    half_width = NORMAL_QUANTILE_95 / (1 + z2 / n) * math.sqrt(fraction * (1 - fraction) / n + z2 / (4 * n * n))
    return max(center - half_width, 0.0), min(center + half_width, 1.0)


HOP = 5
"""Number of frames between the starts of windows in inference."""
CHUNK = 512
"""Number of windows per batch."""
SIZE = 2
TRAINING = TrainConfig(
    batch_size=64, steps=800, lr=2e-3, warmup=30, lr_decay_fraction=0.7, weight_decay=1e-2, ema_decay=0.0
)


@dataclass(frozen=True, eq=False)
class Detector:
    """Binary classifier of real and synthetic speech, specific to the model and vocoder of its training data."""

    network: SyntheticSpeechDetector
    size: int
    data: str
    """Description of the detector's training data."""

    @torch.no_grad()
    def generated_prob(self, mels: Sequence[Float[Tensor, "_ bands"]]) -> Float64[Tensor, " n"]:
        """Return the probability that each sound is synthetic, averaged over its windows.

        Raises:
            UsageError: If the number of bands differs from that of the training data, or log mels are empty or not
                finite.
        """
        weight = self.network.head.weight
        check_mels(mels, self.network.mean.shape[1])
        probs = []
        for mel in mels:
            chunks = split_windows(mel.to(weight), HOP).split(CHUNK)
            probs.append(torch.cat([self.network(chunk).double().sigmoid() for chunk in chunks]).mean().cpu())
        return torch.stack(probs) if probs else torch.zeros(0, dtype=torch.float64)

    def evaluate(
        self, real: Sequence[Float[Tensor, "_ bands"]], made: Sequence[Float[Tensor, "_ bands"]]
    ) -> DetectionCounts:
        """Classify real and synthetic sounds, which must not be in the training set, from their log mels.

        Raises:
            UsageError: If either set is empty.
        """
        if not real or not made:
            raise UsageError("real and synthetic sounds", f"{len(real)} real and {len(made)} synthetic")
        real_right, made_right = self.generated_prob(real) <= 0.5, self.generated_prob(made) > 0.5
        return DetectionCounts(int(real_right.sum()), len(real), int(made_right.sum()), len(made))


@dataclass(frozen=True)
class DetectionObjective(Objective):
    """Binary classification of log mel windows as synthetic or real."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        return batch

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        target = example["made"].to(example["window"])
        return F.binary_cross_entropy_with_logits(network(example["window"]), target, reduction="none")


def fit_detector(
    real: Sequence[Float[Tensor, "_ bands"]],
    made: Sequence[Float[Tensor, "_ bands"]],
    rng: Rng,
    *,
    size: int = SIZE,
    training: TrainConfig = TRAINING,
    device: Engine | None = None,
    follow: Callable[[StepMetrics], None] = lambda report: None,
) -> Detector:
    """Train a detector on log mel spectrograms; the result is deterministic given the seed.

    If the synthetic sounds come from a vocoder, pass the real sounds through the same vocoder; otherwise the detector
    learns the vocoder's artifacts. Batches are balanced between the classes, and windows are sampled uniformly over all
    frames.

    Args:
        real: Log mels [frames, bands] of recordings.
        made: Log mels of synthetic sounds, ideally with the lengths, texts and speakers of the real sounds.
        rng: Random streams.
        size: Width multiplier: the first block has 8 * size channels and the last 64 * size; the paper has size 8.
        training: Training settings.
        device: Device and processes; default: the current engine.
        follow: Callback with the metrics of each training step.

    Raises:
        UsageError: If either set is empty, or log mels differ in the number of bands.
    """
    if not real or not made:
        raise UsageError("real and synthetic sounds to train on", f"{len(real)} real and {len(made)} synthetic")
    bands, device = real[0].shape[-1], device or get_engine()
    check_mels([*real, *made], bands)
    network = SyntheticSpeechDetector(bands, size, rng.fold_in("network"))
    network.fit_scale([mel.cpu() for mel in (*real, *made)])
    network.to(device.device)
    train_state, batches = (
        make_train_state(network, training),
        _batches(real, made, training.batch_size, rng.fold_in("windows")),
    )
    for report in train(train_state, DetectionObjective(), batches, training, rng=rng, engine=device):
        follow(report)
        if report.step == training.steps:
            check_finite(report)
    seconds = [sum(map(len, mels)) / 100 for mels in (real, made)]
    description = f"{len(real):,} real sounds of {seconds[0]:,.0f} s and {len(made):,} made ones of {seconds[1]:,.0f} s"
    return Detector(network.eval().requires_grad_(False), size, description)


def _batches(real: Sequence[Tensor], made: Sequence[Tensor], size: int, rng: Rng) -> Callable[[int, slice], Batch]:
    """Return a function (step, rows) -> batch of random windows, in turn from a real and from a synthetic sound."""
    sources = [_places(mels) for mels in (real, made)]

    def batch(step: int, rows: slice) -> Batch:
        stream = rng.stream("place", step)
        is_made = torch.arange(size) % 2
        position = stream.uniform((size,), torch.float64)
        chosen_starts = [starts[(position * len(starts)).long()] for _, starts in sources]
        windows = [
            frames[start[:, None] + torch.arange(WINDOW_FRAMES)]
            for (frames, _), start in zip(sources, chosen_starts, strict=True)
        ]
        window = torch.where(is_made[:, None, None] == 1, windows[1], windows[0])
        return {"window": window[rows], "made": is_made[rows]}

    return batch


def _places(mels: Sequence[Tensor]) -> tuple[Float[Tensor, "frames bands"], Tensor]:
    """Concatenate the frames of all sounds; return them, and the indices at which a window of one sound can start."""
    clips = [mel.float().cpu() if len(mel) >= WINDOW_FRAMES else split_windows(mel.float().cpu(), 1)[0] for mel in mels]
    starts, offset = [], 0
    for mel in clips:
        starts.append(torch.arange(offset, offset + len(mel) - WINDOW_FRAMES + 1))
        offset += len(mel)
    return torch.cat(clips), torch.cat(starts)


def save_detector(path: pathlib.Path, detector: Detector) -> None:
    """Write a detector to a file."""
    record = {"bands": detector.network.mean.shape[1], "size": detector.size, "data": detector.data}
    save_tensors(path, detector.network.state_dict(), {"detector": json.dumps(record)})


def load_detector(path: pathlib.Path) -> Detector:
    """Read a detector from a file; InputError if the file is missing or damaged, or does not contain a detector."""
    tensors, metadata = load_tensors(path)
    try:
        record = json.loads(metadata["detector"])
        num_bands, features = tensors["mean"].shape[1], {t.shape[1] for t in tensors.values() if t.ndim == 2}
        if num_bands != record["bands"] or record["size"] * WIDTHS[-1] not in features:  # before allocating memory
            raise ValueError(
                f"weights of {num_bands} bands and {max(features, default=0)} features contradict the metadata"
            )
        network = SyntheticSpeechDetector(record["bands"], record["size"], Rng(0))
        load_weights(tensors, network)
        data = str(record["data"])
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"not a valid detector ({error})", remedy="Delete the file to train a new detector", file=path
        ) from error
    return Detector(network.eval().requires_grad_(False), record["size"], data)


Mels = Sequence[Float[Tensor, "_ bands"]]


def vocode(mels: Mels, settings: MelConfig, vocoder: Vocoder) -> list[Float[Tensor, "_ bands"]]:
    """Synthesize sounds from log mels with a vocoder, and return the log mels of these sounds."""
    return [settings.log_mel(vocoder.synthesize(mel, settings)) for mel in mels]
