"""Judge network: a small classifier trained on real images to evaluate samples; FD-cnn uses its features."""

import abc
import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64, Int, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.core.migrations import UNSTAMPED, Older, current_format
from feller.core.rng import Rng
from feller.core.safetensors_io import load_tensors, load_weights, save_tensors
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Dataset
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.networks.image.classifier import ImageClassifier
from feller.networks.network_config import limit_parameter_bytes
from feller.training.engine import Engine
from feller.training.loop import check_finite, make_train_state, train
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig

SHIFT_FRACTION = 12
"""Divisor of the image side that gives the maximum random shift in training, which is at least one pixel."""


def window(
    x: Shaped[Tensor, "b c H W"], top: Int[Tensor, " b"], left: Int[Tensor, " b"], height: int, width: int
) -> Shaped[Tensor, "b c h w"]:
    """Crop a window of `height` x `width` pixels, with its upper left corner at (`top`, `left`), from each image.

    Parts of a window beyond the image repeat the nearest edge pixels.
    """
    rows = (top[:, None] + torch.arange(height, device=x.device)).clamp(0, x.shape[2] - 1)
    columns = (left[:, None] + torch.arange(width, device=x.device)).clamp(0, x.shape[3] - 1)
    x = x.gather(2, rows[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
    return x.gather(3, columns[:, None, None, :].expand(-1, x.shape[1], height, -1))


def _random_crop(x: Float[Tensor, "b c H W"], height: int, width: int, rng: Rng) -> Float[Tensor, "b c h w"]:
    """Crop each image at a random position, which may extend slightly beyond the edges."""
    stream = rng.stream("place")

    def start(side: int, size: int) -> Tensor:
        max_shift = max(1, size // SHIFT_FRACTION)
        return stream.randint(side - size + 2 * max_shift + 1, (len(x),), x.device) - max_shift

    return window(x, start(x.shape[2], height), start(x.shape[3], width), height, width)


def turn(x: Shaped[Tensor, "b c s s"], quarters: Int[Tensor, " b"]) -> Shaped[Tensor, "b c s s"]:
    """Rotate each square image by its number of quarter turns."""
    rotations = torch.stack([x.rot90(quarter, (2, 3)) for quarter in range(4)], 1)
    return rotations[torch.arange(len(x), device=x.device), quarters]


class ClassificationObjective(Objective):
    """Base class of objectives for image classification; subclasses define the classes."""

    label_smoothing: ClassVar[float] = 0.1
    """Amount of label smoothing, which reduces memorization of training images."""

    @abc.abstractmethod
    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return a training example with images `x` and class indices `answer`."""

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the cross-entropy of each image, with label smoothing."""
        logits = network(example["x"])
        return F.cross_entropy(logits, example["answer"], reduction="none", label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class LabelClassification(ClassificationObjective):
    """Classification of images by their labels, with random shifts."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        return {"x": _random_crop(x, x.shape[2], x.shape[3], rng), "answer": batch["given"]["label"]}


@dataclass(frozen=True)
class RotationClassification(ClassificationObjective):
    """Classification of square crops by their rotation, one of four, for data without labels.

    Source: Gidaris, Singh and Komodakis 2018, "Unsupervised representation learning by predicting image rotations",
    arXiv 1803.07728.
    """

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        quarters = rng.stream("rotation").randint(4, (len(x),), x.device)
        side = min(x.shape[2:])
        return {"x": turn(_random_crop(x, side, side, rng), quarters), "answer": quarters}


CHUNK = 512
"""Number of images per batch in inference."""
TRAINING = TrainConfig(steps=600, lr=3e-3, warmup=30, lr_decay_fraction=0.7, weight_decay=1e-2, ema_decay=0.0)
JUDGE_SHARE = 0.25
"""Fraction of the evaluation time spent on training the judge."""
RETRAIN_ADVICE = "remove it; `feller evaluate` then trains a new one"
OBJECTIVES = {"label": LabelClassification(), "rotation": RotationClassification()}


@dataclass(frozen=True, eq=False)
class Judge:
    """Classifier trained on real images only, so that its errors do not depend on the evaluated model."""

    network: ImageClassifier
    modality: Images
    """Modality of the judge's input images."""
    target: str
    """Classes that the judge predicts: `label`, or `rotation` for data without labels."""
    data: str
    """Description of the judge's training data."""
    accuracy: float | None = None
    """Accuracy on held-out real images; None without held-out images."""
    steps: int = 600
    """Number of training steps; under a time limit fewer than in `TRAINING`."""

    def features(self, values: UInt8[Tensor, "n c h w"]) -> Float64[Tensor, "n f"]:
        """Return the judge's features of each image."""
        return self._run_chunks(values, self.network.features).double()

    def classify(self, values: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, " n"]:
        """Return the predicted class index of each image; for the target `rotation`, its number of quarter turns."""
        return self._run_chunks(values, self.network).argmax(1)

    @torch.no_grad()
    def _run_chunks(self, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        device = self.network.head.weight.device
        return torch.cat([function(self.modality.encode(chunk.to(device))).cpu() for chunk in values.split(CHUNK)])


def train_judge(
    real: Dataset,
    held_out: Dataset,
    rng: Rng,
    engine: Engine,
    on_progress: Callable[[float], None] = lambda share: None,
    budget: EvaluationBudget = EvaluationBudget(),  # noqa: B008 - frozen
) -> Judge:
    """Train a judge on real images and test it on held-out images; deterministic given the seed.

    The judge classifies labels if the data have two or more, otherwise rotations.

    Args:
        real: Training images.
        held_out: Test images for the accuracy; may be empty.
        rng: Random streams.
        engine: Device and processes, all of which must call this function.
        on_progress: Progress callback, called with the completed fraction.
        budget: Time limit, which may reduce the number of training steps.

    Raises:
        InputError: If the data are not images, or empty.
    """
    if (images := real.modality.view(Images)) is None:
        raise InputError(
            expected="images, to train a judge (a classifier that scores samples) on", found=real.modality.display_name
        )
    modality = as_numbers(images)
    real = replace(real, modality=modality)
    labels = real.given["label"].unique() if "label" in real.given else ()
    target = "label" if len(labels) > 1 else "rotation"
    loader = batch_loader(real, TRAINING.batch_size, rng)

    def train_network(steps: int, on_progress: Callable[[float], None]) -> ImageClassifier:
        network, training = _network(modality, target, rng).to(engine.device), replace(TRAINING, steps=steps)
        state = make_train_state(network, training)
        for report in train(state, OBJECTIVES[target], loader, training, rng=rng, engine=engine):
            if report.step == steps:
                check_finite(report)
            on_progress(report.progress)
        return network

    steps = budget.num_affordable(TRAINING.steps or 0, JUDGE_SHARE, lambda n: train_network(n, on_progress), engine)
    network = train_network(steps, on_progress)
    task = f"the labels of {len(labels)} classes" if target == "label" else "their rotations, since they have no labels"
    judge = Judge(
        network.eval().requires_grad_(False), modality, target, f"{len(real):,} real images and {task}", steps=steps
    )
    return replace(judge, accuracy=judge_accuracy(judge, held_out))


def as_numbers(modality: Images) -> Images:
    """Return a copy of an image modality whose states are continuous pixel values, as the judge needs them.

    The modality of the evaluated model may encode pixels otherwise, for example as tokens.
    """
    return replace(modality, code=AsNumbers())


def _network(modality: Images, target: str, rng: Rng) -> ImageClassifier:
    side = min(modality.height, modality.width)
    if target == "label":
        return ImageClassifier((modality.channels, modality.height, modality.width), len(modality.classes), rng)
    return ImageClassifier((modality.channels, side, side), 4, rng)


def judge_accuracy(judge: Judge, real: Dataset) -> float | None:
    """Return the fraction of real examples for which the judge predicts the label.

    For a judge of rotations, the label is which of four rotations was applied to an image. None if the data are empty,
    or if the judge predicts labels and the data have none.
    """
    values, labels = real.values.cpu(), real.given.get("label")
    if judge.target == "rotation":
        height, width = values.shape[2:]
        side = min(height, width)
        top, left = (torch.full((len(values),), (length - side) // 2) for length in (height, width))
        labels = torch.arange(4).repeat_interleave(len(values))
        values = turn(window(values, top, left, side, side).repeat(4, 1, 1, 1), labels)
    if labels is None or not len(values):
        return None
    return torch.eq(judge.classify(values), labels.cpu()).double().mean().item()


def save_judge(path: pathlib.Path, judge: Judge) -> None:
    """Write a judge to a file."""
    record = {
        "format": current_format(),
        "modality": to_dict(judge.modality),
        "target": judge.target,
        "data": judge.data,
        "accuracy": judge.accuracy,
        "steps": judge.steps,
    }
    save_tensors(path, judge.network.state_dict(), {"judge": json.dumps(record)})


def load_judge(path: pathlib.Path) -> Judge:
    """Read a judge from a file; InputError if the file is missing or damaged, or does not contain a judge."""
    tensors, metadata = load_tensors(path, advice=RETRAIN_ADVICE)
    try:
        record = json.loads(metadata["judge"])
        modality = from_dict(Images, Older.of(record["modality"], record.get("format", UNSTAMPED)))
        network = limit_parameter_bytes(path.stat().st_size, lambda: _network(modality, record["target"], Rng(0)))
        load_weights(tensors, network)
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"not a valid judge (the classifier that scores samples): {error}; {RETRAIN_ADVICE}", file=path
        ) from error
    network = network.eval().requires_grad_(False)
    return Judge(network, modality, record["target"], record["data"], record["accuracy"], record.get("steps", 600))
