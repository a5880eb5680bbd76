"""Losses per example: squared, pseudo-Huber, cross-entropy, and divergences of jump rates."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from feller.core.errors import UsageError
from feller.core.pytree import State, append_dims, mean_over_entries, submask, zero_invalid
from feller.paths.path import Places
from feller.spaces.space import Points


def check_same_shape(prediction: Tensor, target: Tensor) -> None:
    """Refuse an answer and a target that differ in shape: torch would compare each entry with several."""
    if prediction.shape != target.shape:
        expected = f"an answer {list(target.shape)}, as the target of the path is"
        remedy = "Let the network answer in that shape"
        raise UsageError(argument="network", expected=expected, found=str(list(prediction.shape)), remedy=remedy)


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
            prediction, target, x_t = (zero_invalid(leaf, valid) for leaf in (prediction, target, x_t))
        return mean_over_entries(self.entries(prediction, target, x_t, t), valid)


@dataclass(frozen=True)
class TimeWeighted(Loss):
    """Another loss times a weight w(t)."""

    loss: Loss
    weight: Callable[[Tensor], Tensor]
    """Times [b] -> weights [b]."""

    def entries(self, prediction: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        entries = self.loss.entries(prediction, target, x_t, t)
        return append_dims(self.weight(t), entries) * entries


@dataclass(frozen=True)
class PerLeafLoss(Loss):
    """A loss for each leaf of a product; the example's loss is their weighted sum."""

    losses: dict[str, Loss]
    weights: dict[str, float] = field(default_factory=dict)
    """Of the leaves; 1 where none is named. They change no minimiser, but what is learned first."""

    def __post_init__(self) -> None:
        wrong = [name for name, weight in self.weights.items() if name not in self.losses or not weight > 0]
        if wrong:
            raise UsageError(f"positive weights of the leaves {', '.join(self.losses)}", wrong[0])

    def entries(self, prediction: State, target: State, x_t: State, t: State) -> State:
        return {k: part.entries(prediction[k], target[k], x_t[k], t[k]) for k, part in self.losses.items()}

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: State | None = None
    ) -> Float[Tensor, " b"]:
        """Add the means of the leaves; each has its own marks under its name, or all have the same."""
        means = [
            self.weights.get(k, 1.0) * part(prediction[k], target[k], x_t[k], t[k], submask(valid, k))
            for k, part in self.losses.items()
        ]
        return torch.stack(means).sum(0)


@dataclass(frozen=True)
class SquaredError(Loss):
    """(prediction - target)^2."""

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        check_same_shape(prediction, target)
        return functional.mse_loss(prediction, target, reduction="none")


@dataclass(frozen=True)
class AbsoluteError(Loss):
    """|prediction - target|. No Bregman divergence: its minimiser is the median."""

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        check_same_shape(prediction, target)
        return functional.l1_loss(prediction, target, reduction="none")


@dataclass(frozen=True)
class PseudoHuber(Loss):
    """sqrt((prediction - target)^2 + c^2) - c for each entry: robust against rare large errors.

    No Bregman divergence: its minimiser lies between mean and median.
    """

    c: float = 0.03
    """In units of the target: errors below it count as their square, errors above it as their size."""

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        """Return sqrt(difference^2 + c^2) - c, as a quotient that keeps its digits near zero."""
        check_same_shape(prediction, target)
        square = (prediction - target).square()
        return square / ((square + self.c**2).sqrt() + self.c)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log of the predicted probability of the data; predictions are logits [b, ..., K]."""

    def entries(self, prediction: Float[Tensor, "b *d K"], target: Places, x_t: Tensor, t: Tensor) -> Points:
        return functional.cross_entropy(prediction.movedim(-1, 1), target, reduction="none")


@dataclass(frozen=True)
class MaskedTokenLoss(Loss):
    """Another loss over the tokens that are the mask: its mean over them, so that every time counts alike.

    With the cross-entropy and uniform shares of masked tokens it bounds -log p(x_1) per token, with less variance than
    the generalised KL, whose weight is infinite at t = 1. Source: Sahoo et al. 2024, arXiv 2406.07524, reweighted.
    """

    loss: Loss = field(default_factory=CrossEntropy)

    def entries(self, prediction: Float[Tensor, "b *d K"], target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.loss.entries(prediction, target, x_t, t)

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        masked = x_t == prediction.shape[-1]
        if valid is not None:
            masked = masked & append_dims(valid, masked)
            prediction, target, x_t = (zero_invalid(leaf, valid) for leaf in (prediction, target, x_t))
        return mean_over_entries(self.entries(prediction, target, x_t, t), masked)


@dataclass(frozen=True)
class InfinitesimalKL(Loss):
    """sum_y a log(a / b) - a + b over places y to jump to, for rates a of the target and b of the prediction.

    The prediction is log b, [b, ..., places], the target a. It splits into a loss of the total rate and the
    cross-entropy of where jumps land, **weighted by the rate**: unweighted it would have another minimiser. A place
    that no rate counts, such as the state's own, has a = 0 and a prediction far below.

    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587, proposition 2: regressing on the rates
    given the data has the gradient of regressing on those of the marginal process for Bregman divergences, the target
    first.
    """

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Float[Tensor, "b *d K"], x_t: Tensor, t: Tensor
    ) -> Points:
        return (torch.xlogy(target, target) - target * prediction - target + prediction.exp()).sum(-1)


@dataclass(frozen=True)
class ItakuraSaito(Loss):
    """a / b - log(a / b) - 1 for positive numbers: an error counts by its ratio, whatever the size.

    The prediction is log b, the target a: an intensity with a large range, say.

    Source: Holderrieth et al. 2024, arXiv 2410.20587, proposition 2, as for `InfinitesimalKL`.
    """

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        """Return a / b - log(a / b) - 1."""
        return target * (-prediction).exp() - target.log() + prediction - 1


@dataclass(frozen=True)
class RateAndVelocityLoss(Loss):
    """The loss of rates, and that of a velocity in the last place of prediction and target: their sum.

    So one network learns both processes, to be superposed; no weights are needed for either to be right.

    Source: Holderrieth et al. 2024, arXiv 2410.20587, proposition 2, as for `InfinitesimalKL`.
    """

    rates: Loss = field(default_factory=InfinitesimalKL)
    velocity: Loss = field(default_factory=SquaredError)

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Float[Tensor, "b *d K"], x_t: Tensor, t: Tensor
    ) -> Points:
        jumps = self.rates.entries(prediction[..., :-1], target[..., :-1], x_t, t)
        return jumps + self.velocity.entries(prediction[..., -1], target[..., -1], x_t, t)
