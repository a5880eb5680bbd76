"""How far a prediction is from its target: one number per example; only the trainer averages.

Source: Lipman et al. 2024, arXiv 2412.06264, sections 4.5 and 7.5; every loss here but the pseudo-Huber is a Bregman
divergence, whose minimiser is the conditional mean (the posterior, for tokens).
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from feller.schedules import Linear, Schedule
from feller.tree import State, pad_right


def mean_over_entries(entries: Tensor, valid: Tensor | None = None) -> Float[Tensor, " b"]:
    """Average all entries of an example but padding; `valid` [b, n] marks the second axis."""
    if valid is None:
        return entries.mean(tuple(range(1, entries.ndim))) if entries.ndim > 1 else entries
    weight = pad_right(valid, entries).expand(entries.shape).to(entries.dtype)
    total = torch.where(weight > 0, entries, torch.zeros_like(entries)).flatten(1).sum(1)
    return total / weight.flatten(1).sum(1).clamp(min=1)


def blank(leaf: Tensor, valid: Tensor) -> Tensor:
    """Put zeros where `valid` [b, n] is False: zero times a padded NaN would be NaN in the backward pass."""
    return torch.where(pad_right(valid, leaf), leaf, torch.zeros((), dtype=leaf.dtype, device=leaf.device))


class Loss(abc.ABC):
    """One number per entry, then per example. Implement one method to add one."""

    @abc.abstractmethod
    def entries(self, prediction: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the loss of each entry, [b, ...]."""

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        """Return the mean over the valid entries of each example; what padding holds reaches no gradient either."""
        if valid is not None:
            prediction, target, x_t = (blank(leaf, valid) for leaf in (prediction, target, x_t))
        return mean_over_entries(self.entries(prediction, target, x_t, t), valid)


@dataclass(frozen=True)
class Squared(Loss):
    """(prediction - target)^2."""

    def entries(
        self, prediction: Float[Tensor, " b *d"], target: Float[Tensor, " b *d"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Square the difference."""
        return functional.mse_loss(prediction, target, reduction="none")


@dataclass(frozen=True)
class PseudoHuber(Loss):
    """sqrt((prediction - target)^2 + c^2) - c for each entry: robust against rare large errors.

    No Bregman divergence: its minimiser lies between mean and median.
    """

    c: float = 0.03
    """In units of the target: errors below it count as their square, errors above it as their size."""

    def entries(
        self, prediction: Float[Tensor, " b *d"], target: Float[Tensor, " b *d"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Return sqrt(difference^2 + c^2) - c, as a quotient that keeps its digits near zero."""
        square = (prediction - target).square()
        return square / ((square + self.c**2).sqrt() + self.c)


@dataclass(frozen=True)
class Weighted(Loss):
    """Another loss times a weight w(t)."""

    loss: Loss
    weight: Callable[[Tensor], Tensor]
    """Times [b] -> weights [b]."""

    def entries(self, prediction: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Weigh each example by its time."""
        entries = self.loss.entries(prediction, target, x_t, t)
        return pad_right(self.weight(t), entries) * entries


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log of the predicted probability of the data; predictions are logits [b, ..., K]."""

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Int[Tensor, " b *d"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Return -log softmax at the target."""
        return functional.cross_entropy(prediction.movedim(-1, 1), target, reduction="none")


@dataclass(frozen=True)
class GeneralisedKL(Loss):
    """Divergence between conditional and predicted rates of a mixture path: its sum over tokens bounds -log p(x_1).

    The weight alpha' / (1 - alpha) is infinite at t = 1: draw times with `Until`.
    """

    schedule: Schedule = field(default_factory=Linear)

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Int[Tensor, " b *d"], x_t: Int[Tensor, " b *d"], t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Return w [(D - 1) log p(x_1) + D - p(x_t)] with D = [x_t is x_1]; a mask symbol has p = 0."""
        log_p = prediction.log_softmax(-1)
        same = (x_t == target).to(log_p.dtype)
        symbols = log_p.shape[-1]
        stay = log_p.gather(-1, x_t.clamp(max=symbols - 1)[..., None])[..., 0].exp() * (x_t < symbols)
        miss = torch.where(x_t == target, 0.0, log_p.gather(-1, target[..., None])[..., 0])  # also where p(x_1) is 0
        entries = same - stay - miss
        scales = self.schedule(t)
        weight = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma)
        return pad_right(weight.expand(t.shape), entries) * entries


@dataclass(frozen=True)
class PerLeaf(Loss):
    """A loss for each leaf of a product; the example's loss is their sum."""

    parts: dict[str, Loss]

    def entries(self, prediction: State, target: State, x_t: State, t: State) -> State:
        """Return the entries of each leaf."""
        return {k: part.entries(prediction[k], target[k], x_t[k], t[k]) for k, part in self.parts.items()}

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        """Add the means of the leaves."""
        means = [part(prediction[k], target[k], x_t[k], t[k], valid) for k, part in self.parts.items()]
        return torch.stack(means).sum(0)
