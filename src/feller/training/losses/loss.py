"""Losses per example: squared, pseudo-Huber, cross-entropy, and divergences of jump rates."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from feller.core.errors import UsageError, check_kind
from feller.core.pytree import State, append_dims, mean_over_entries, submask, zero_invalid
from feller.paths.path import Path, Places
from feller.spaces.space import Points


def check_same_shape(prediction: Tensor, target: Tensor) -> None:
    """Check that prediction and target have the same shape, because torch would broadcast different shapes silently.

    Raises:
        UsageError: If the shapes differ.
    """
    if prediction.shape != target.shape:
        expected = f"an output of shape {list(target.shape)}, the target of the path"
        remedy = "Change the shape of the network's output"
        raise UsageError(argument="network", expected=expected, found=str(list(prediction.shape)), remedy=remedy)


class Loss(abc.ABC):
    """Loss per example, averaged over its entries. Subclasses implement `entries`."""

    @abc.abstractmethod
    def entries(self, prediction: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the loss of each entry, [b, ...]."""

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        """Return the mean over the valid entries of each example; padding, even NaN, does not affect gradients."""
        if valid is not None:
            prediction, target, x_t = (zero_invalid(leaf, valid) for leaf in (prediction, target, x_t))
        return mean_over_entries(self.entries(prediction, target, x_t, t), valid)


@dataclass(frozen=True)
class TimeWeighted(Loss):
    """Loss weighted by a function of time, w(t)."""

    loss: Loss
    weight: Callable[[Tensor], Tensor]
    """Weight function w: times [b] -> weights [b]."""

    def entries(self, prediction: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        entries = self.loss.entries(prediction, target, x_t, t)
        return append_dims(self.weight(t), entries) * entries


@dataclass(frozen=True)
class PerLeafLoss(Loss):
    """Weighted sum of losses on a product space, with one loss per leaf (component) of the state."""

    losses: dict[str, Loss]
    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each leaf (default: 1). Weights change the order in which leaves are learned, not the minimiser."""

    def __post_init__(self) -> None:
        invalid = [name for name, weight in self.weights.items() if name not in self.losses or not weight > 0]
        if invalid:
            raise UsageError(
                f"positive weights of components of the state ({', '.join(self.losses)})",
                f"the weight {self.weights[invalid[0]]:g} of {invalid[0]}",
            )

    def entries(self, prediction: State, target: State, x_t: State, t: State) -> State:
        return {k: loss.entries(prediction[k], target[k], x_t[k], t[k]) for k, loss in self.losses.items()}

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: State | None = None
    ) -> Float[Tensor, " b"]:
        """Return the weighted sum of the leaves' losses; `valid` is one mask, or one per leaf."""
        means = [
            self.weights.get(k, 1.0) * loss(prediction[k], target[k], x_t[k], t[k], submask(valid, k))
            for k, loss in self.losses.items()
        ]
        return torch.stack(means).sum(0)


@dataclass(frozen=True)
class SquaredError(Loss):
    """Squared error (prediction - target)^2."""

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        check_same_shape(prediction, target)
        return functional.mse_loss(prediction, target, reduction="none")


@dataclass(frozen=True)
class AbsoluteError(Loss):
    """Absolute error |prediction - target|, whose minimiser is the median; not a Bregman divergence."""

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        check_same_shape(prediction, target)
        return functional.l1_loss(prediction, target, reduction="none")


@dataclass(frozen=True)
class PseudoHuber(Loss):
    """Pseudo-Huber loss sqrt((prediction - target)^2 + c^2) - c per entry, robust against outliers.

    The loss is not a Bregman divergence: its minimiser is between mean and median.
    """

    c: float = 0.03
    """Scale, in units of the target: the loss is quadratic for smaller errors and linear for larger errors."""

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        """Return d^2 / (sqrt(d^2 + c^2) + c) with d = prediction - target; equals sqrt(d^2 + c^2) - c."""
        check_same_shape(prediction, target)
        squared_error = (prediction - target).square()
        return squared_error / ((squared_error + self.c**2).sqrt() + self.c)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy -log p(target); predictions are logits [b, ..., K]."""

    def entries(self, prediction: Float[Tensor, "b *d K"], target: Places, x_t: Tensor, t: Tensor) -> Points:
        return functional.cross_entropy(prediction.movedim(-1, 1), target, reduction="none")


@dataclass(frozen=True)
class MaskedTokenLoss(Loss):
    """Mean of a token loss over the masked tokens of an example, so that all times have the same weight.

    With cross-entropy and a uniform fraction of masked tokens, the loss is an upper bound on -log p(x_1) per token,
    with less variance than the generalised KL, whose weight is infinite at t = 1. Source: Sahoo et al. 2024, arXiv
    2406.07524, reweighted.
    """

    loss: Loss = field(default_factory=CrossEntropy)

    def entries(self, prediction: Float[Tensor, "b *d K"], target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.loss.entries(prediction, target, x_t, t)

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        is_masked = x_t == prediction.shape[-1]
        if valid is not None:
            is_masked = is_masked & append_dims(valid, is_masked)
            prediction, target, x_t = (zero_invalid(leaf, valid) for leaf in (prediction, target, x_t))
        return mean_over_entries(self.entries(prediction, target, x_t, t), is_masked)


@dataclass(frozen=True)
class InfinitesimalKL(Loss):
    """Generalised KL sum_y a log(a / b) - a + b over destinations y, for target rates a and predicted rates b.

    The prediction is log b, [b, ..., destinations], and the target is a. The loss is the sum of a loss of the total
    rate and the cross-entropy of destinations, **weighted by the rate**; without the weight, the minimiser would
    differ. Destinations without a rate, such as the state itself, have a = 0 and a very negative prediction.

    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587, proposition 2: for Bregman divergences with
    the target first, regression on conditional rates has the gradient of regression on marginal rates.
    """

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Float[Tensor, "b *d K"], x_t: Tensor, t: Tensor
    ) -> Points:
        return (torch.xlogy(target, target) - target * prediction - target + prediction.exp()).sum(-1)


@dataclass(frozen=True)
class ItakuraSaito(Loss):
    """Itakura-Saito divergence a / b - log(a / b) - 1 of a positive target a from a positive prediction b.

    The divergence depends only on a / b. The network predicts log b; a is, for example, an intensity with a large
    range.

    Source: Holderrieth et al. 2024, arXiv 2410.20587, proposition 2, as for `InfinitesimalKL`.
    """

    def entries(self, prediction: Points, target: Points, x_t: Tensor, t: Tensor) -> Points:
        return target * (-prediction).exp() - target.log() + prediction - 1


@dataclass(frozen=True)
class RateAndVelocityLoss(Loss):
    """Sum of a loss of jump rates and a loss of the velocity.

    In prediction and target, the last entry of the last axis is for the velocity; all others are for jump rates. One
    network learns a jump process and a flow for their superposition; weights of the two losses would not change the
    minimisers.

    Source: Holderrieth et al. 2024, arXiv 2410.20587, proposition 2, as for `InfinitesimalKL`.
    """

    rates: Loss = field(default_factory=InfinitesimalKL)
    velocity: Loss = field(default_factory=SquaredError)

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Float[Tensor, "b *d K"], x_t: Tensor, t: Tensor
    ) -> Points:
        jumps = self.rates.entries(prediction[..., :-1], target[..., :-1], x_t, t)
        return jumps + self.velocity.entries(prediction[..., -1], target[..., -1], x_t, t)


REAL_LOSSES = (SquaredError, AbsoluteError, PseudoHuber)
"""Losses of real values, which do not fit logits of tokens."""


def default_loss(path: Path) -> Loss:
    """Return the default loss of a path: cross-entropy for tokens, else squared error; one loss per leaf of a product.

    A leaf is a component of the state.
    """
    if path.leaf_names:
        return PerLeafLoss({name: default_loss(path.leaf_path(name)) for name in path.leaf_names})
    return CrossEntropy() if path.is_discrete else SquaredError()


def check_criterion(path: Path, criterion: Loss, name: str = "criterion") -> None:
    """Check that a loss fits the predictions of a path; losses of other packages are not checked.

    `name` is the name of the loss in the error, such as the argument.

    Raises:
        UsageError: If the value is not a loss, or is a loss of tokens for real values or vice versa.
    """
    default = default_loss(path)
    check_kind(name, criterion, Loss, f"feller.{type(default).__name__}()")
    if path.leaf_names and isinstance(criterion, PerLeafLoss):
        if criterion.losses.keys() != set(path.leaf_names):
            expected = f"one loss for each leaf (component) of the path: {', '.join(path.leaf_names)}"
            raise UsageError(argument=name, expected=expected, found=", ".join(criterion.losses) or "none")
        for leaf, loss in criterion.losses.items():
            check_criterion(path.leaf_path(leaf), loss, f"{name}[{leaf!r}]")
        return
    inner = criterion
    while isinstance(inner, TimeWeighted):
        inner = inner.loss
    is_of_tokens, is_of_reals = isinstance(inner, CrossEntropy), isinstance(inner, REAL_LOSSES)
    if path.leaf_names and (is_of_tokens or is_of_reals):
        kind, remedy = "PerLeafLoss", "Leave out the criterion, or write feller.PerLeafLoss({...})"
    elif (path.is_discrete and is_of_reals) or (path.answers_like_state and is_of_tokens):
        kind = "loss of tokens" if path.is_discrete else "loss of real values"
        remedy = f"Write feller.{type(default).__name__}()"
    else:
        return
    expected = f"a {kind}, for the path {type(path).__name__}"
    raise UsageError(argument=name, expected=expected, found=type(inner).__name__, remedy=remedy)
