"""Training objective that predicts masked speech frames from observed frames and phones (infilling)."""

import abc
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import tree_map, zero_invalid
from feller.core.rng import RandomStream, Rng
from feller.paths import Affine
from feller.paths.time_distributions import Stratified, TimeDistribution
from feller.spaces import Euclidean
from feller.training.losses import Loss, SquaredError
from feller.training.objective import Batch, ConditionalObjective, Example
from feller.training.objectives.span_masks import SpanMask, label_changes, unit_ids

RNG_BLOCK = 16
"""Block size of torch's normal generator.

Lengths are rounded up to multiples of it, so that padding of a sequence does not change the last numbers.
"""


def noise_like(x: Tensor, rng: Rng) -> Tensor:
    """Sample from N(0, 1) in the shape of x, [b, n, ...], with one stream per example.

    `RandomStream` samples blocks of 256 examples, which is expensive for small batches of long sequences. Padding of
    the second axis does not change the other numbers.
    """
    rows = [
        torch.randn(
            max(-(-row.numel() // RNG_BLOCK), 1) * RNG_BLOCK,
            generator=torch.Generator(x.device).manual_seed(rng.fold_in("noise", rng.first_example + i).seed),
            dtype=x.dtype,
            device=x.device,
        )[: row.numel()].view(row.shape)
        for i, row in enumerate(x)
    ]
    return torch.stack(rows) if rows else torch.empty_like(x)


def crop(rows: Any, valid: Bool[Tensor, "b n"], max_length: int, rng: RandomStream) -> tuple[Any, Bool[Tensor, "b m"]]:
    """Crop each example to a random window of at most `max_length` entries; padding shared by all examples is removed.

    `rows` is a tensor [b, n, ...] or a tree of such tensors, and `valid` the mask of the entries that are not padding.

    Returns:
        Cropped rows and their mask, [b, m] with m <= max_length.
    """
    lengths = valid.sum(1)
    length = min(max_length, max(int(lengths.max()), 1) if len(lengths) else 1)
    start = (rng.uniform((len(lengths),), torch.float64, valid.device) * ((lengths - length).clamp(min=0) + 1)).long()
    if length == valid.shape[1]:
        return rows, valid
    index = start[:, None] + torch.arange(length, device=valid.device)
    return tree_map(lambda leaf: _gather_rows(leaf, index), rows), _gather_rows(valid, index)


def _gather_rows(leaf: Tensor, index: Int[Tensor, "b m"]) -> Tensor:
    """Return leaf[i, index[i]] for each example i: entries [b, m, ...] of [b, n, ...]."""
    return leaf[torch.arange(len(leaf), device=leaf.device)[:, None], index]


class LossMask(abc.ABC):
    """Base class of rules that select the frames in the loss."""

    @abc.abstractmethod
    def __call__(self, masked: Bool[Tensor, "b n"], valid: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
        """Return the mask of the frames in the loss."""


@dataclass(frozen=True)
class MaskedFrames(LossMask):
    """Rule by which only masked frames count in the loss."""

    def __call__(self, masked: Bool[Tensor, "b n"], valid: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
        return masked


@dataclass(frozen=True)
class AllFrames(LossMask):
    """Rule by which all valid frames count in the loss, including observed ones."""

    def __call__(self, masked: Bool[Tensor, "b n"], valid: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
        return valid


@dataclass(frozen=True)
class Infilling(ConditionalObjective):
    """Conditional flow matching of masked frames, given the observed frames and the labels of all frames.

    The batch has x_1 [b, n, bands] and, in `given`, labels `phone` [b, n], the padding mask `valid` [b, n] (default:
    all True) and `start` [b, n], a mask of the first frame of each unit (default: label changes). The network gets
    `valid`, `phone`, `context` (x_1 where observed, else zero) and `known`, the mask of observed frames. Units, such as
    phones, are masked as a whole.

    The path `Affine(VP())` gives diffusion with velocities, `Affine(VP(), NoisePrediction())` gives score matching with
    weight sigma^2, and the path None gives regression on the data without time and noise. Source: Le et al. 2023,
    "Voicebox", arXiv 2306.15687.
    """

    length_bucketing = True
    path: Affine | None = field(default_factory=Affine)  # pyrefly: ignore[bad-override] - None is another family
    space: Euclidean = field(default_factory=Euclidean)
    """Space of the frames; sequences may have any length."""
    criterion: Loss = field(default_factory=SquaredError)
    time_distribution: TimeDistribution = field(default_factory=Stratified)
    """Distribution of the training time."""
    span_mask: SpanMask = field(default_factory=SpanMask)
    """Distribution of the masked spans."""
    loss_mask: LossMask = field(default_factory=MaskedFrames)
    """Rule that selects the frames in the loss."""
    cond_dropout: float = 0.2
    """Probability of dropping context and labels of an example together, for classifier-free guidance."""
    max_length: int = 1600
    """Largest number of frames per example; longer examples are cropped to a random window."""

    def __post_init__(self) -> None:
        check_number("cond_dropout", self.cond_dropout, ge=0, le=1)
        check_number("max_length", self.max_length, ge=1)

    @property
    def family(self) -> str:  # pyrefly: ignore[bad-override] - it depends on a field
        """Name of the model family: "process", or "expectation" if there is no path."""
        return "expectation" if self.path is None else "process"

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Crop the examples, and sample masked frames, noise, time, and which conditions are dropped.

        If present, `batch["told"]` [b, n, bands] replaces x_1 in the context: observed values may differ from targets.

        Raises:
            UsageError: If frames have no labels.
        """
        cond, x_1 = batch["given"], batch["x_1"]
        if "phone" not in cond:
            names = ", ".join(sorted(cond)) or "none"
            raise UsageError("a condition phone, the label of each frame", names, "Align the texts with the audio")
        phone = cond["phone"]
        valid = cond.get("valid", torch.ones_like(phone, dtype=torch.bool))
        rows = {
            "x_1": x_1,
            "told": batch.get("told", x_1),
            "phone": phone,
            "start": cond.get("start", label_changes(phone)),
        }
        rows, valid = crop(rows, valid, self.max_length, rng.stream("crop"))
        masked = self.span_mask(unit_ids(rows["start"]), valid, rng.stream("mask"))
        observed_mask, x_1 = valid & ~masked, rows["x_1"]
        t = self.time_distribution(len(x_1), rng.stream("time"), x_1.device)
        x_t, target = torch.zeros_like(x_1), x_1  # regression: the state must not reveal the target
        if self.path is not None:
            x_0 = noise_like(x_1, rng.fold_in("source"))
            x_t, target = self.path.sample_with_target(x_0, x_1, t, rng.stream("path"))
        network_cond = {
            "valid": valid,
            "phone": rows["phone"],
            "context": zero_invalid(rows["told"], observed_mask),
            "known": observed_mask,
        }
        network_cond = self.drop_conditions(network_cond, rng, network)
        return {"x_t": x_t, "t": t, "target": target, "given": network_cond, "counts": self.loss_mask(masked, valid)}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_t, t = example["x_t"], example["t"]
        output = network(x_t, t, example["given"])
        output = output if self.path is None else self.path.complete_prediction(output, x_t, t)
        return self.criterion(output, example["target"], x_t, t, example["counts"])
