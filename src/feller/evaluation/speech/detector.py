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
        below, above = 0.0, 0.0
        for right, n in ((self.num_real_right, self.num_real), (self.num_made_right, self.num_made)):
            low, high = wilson_interval(right, n)
            below, above = below + (right / n - low) ** 2, above + (high - right / n) ** 2
        return max(self.accuracy - math.sqrt(below) / 2, 0.0), min(self.accuracy + math.sqrt(above) / 2, 1.0)


def wilson_interval(num_right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of the proportion `num_right` / n.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209.
    """
    fraction, z2 = num_right / n, NORMAL_QUANTILE_95**2
    middle = (fraction + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_QUANTILE_95 / (1 + z2 / n) * math.sqrt(fraction * (1 - fraction) / n + z2 / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


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
        found = []
        for mel in mels:
            parts = split_windows(mel.to(weight), HOP).split(CHUNK)
            found.append(torch.cat([self.network(part).double().sigmoid() for part in parts]).mean().cpu())
        return torch.stack(found) if found else torch.zeros(0, dtype=torch.float64)

    def evaluate(
        self, real: Sequence[Float[Tensor, "_ bands"]], made: Sequence[Float[Tensor, "_ bands"]]
    ) -> DetectionCounts:
        """Classify real and synthetic sounds, which must not be in the training set, from their log mels.

        Raises:
            UsageError: If either set is empty.
        """
        if not real or not made:
            raise UsageError("real and synthetic sounds", f"{len(real)} real and {len(made)} synthetic")
        spared, caught = self.generated_prob(real) <= 0.5, self.generated_prob(made) > 0.5
        return DetectionCounts(int(spared.sum()), len(real), int(caught.sum()), len(made))


@dataclass(frozen=True)
class DetectionObjective(Objective):
    """Binary classification of log mel windows as synthetic or real."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        return batch

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        answer = example["made"].to(example["window"])
        return F.binary_cross_entropy_with_logits(network(example["window"]), answer, reduction="none")


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
    train_state, give = (
        make_train_state(network, training),
        _batches(real, made, training.batch_size, rng.fold_in("windows")),
    )
    for report in train(train_state, DetectionObjective(), give, training, rng=rng, engine=device):
        follow(report)
        if report.step == training.steps:
            check_finite(report)
    seconds = [sum(map(len, mels)) / 100 for mels in (real, made)]
    data_text = f"{len(real):,} real sounds of {seconds[0]:,.0f} s and {len(made):,} made ones of {seconds[1]:,.0f} s"
    return Detector(network.eval().requires_grad_(False), size, data_text)


def _batches(real: Sequence[Tensor], made: Sequence[Tensor], size: int, rng: Rng) -> Callable[[int, slice], Batch]:
    """Return the data loader (step, rows) -> batch: alternately windows of real and of synthetic sounds."""
    kinds = [_places(mels) for mels in (real, made)]

    def batch(step: int, rows: slice) -> Batch:
        stream = rng.stream("place", step)
        answer = torch.arange(size) % 2
        place = stream.uniform((size,), torch.float64)
        picked = [starts[(place * len(starts)).long()] for _, starts in kinds]
        each = [
            frames[start[:, None] + torch.arange(WINDOW_FRAMES)]
            for (frames, _), start in zip(kinds, picked, strict=True)
        ]
        window = torch.where(answer[:, None, None] == 1, each[1], each[0])
        return {"window": window[rows], "made": answer[rows]}

    return batch


def _places(mels: Sequence[Tensor]) -> tuple[Float[Tensor, "frames bands"], Tensor]:
    """Return the concatenated frames of all sounds, and the start indices of windows within one sound."""
    whole = [mel.float().cpu() if len(mel) >= WINDOW_FRAMES else split_windows(mel.float().cpu(), 1)[0] for mel in mels]
    starts, first = [], 0
    for mel in whole:
        starts.append(torch.arange(first, first + len(mel) - WINDOW_FRAMES + 1))
        first += len(mel)
    return torch.cat(whole), torch.cat(starts)


def save_detector(path: pathlib.Path, detector: Detector) -> None:
    """Write a detector to a file."""
    record = {"bands": detector.network.mean.shape[1], "size": detector.size, "data": detector.data}
    save_tensors(path, detector.network.state_dict(), {"detector": json.dumps(record)})


def load_detector(path: pathlib.Path) -> Detector:
    """Read a detector from a file.

    Raises:
        InputError: If the file is missing or damaged, or does not contain a detector.
    """
    tensors, note = load_tensors(path)
    try:
        record = json.loads(note["detector"])
        num_bands, features = tensors["mean"].shape[1], {one.shape[1] for one in tensors.values() if one.ndim == 2}
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
