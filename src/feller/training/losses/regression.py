"""Losses of numbers."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from feller.training.losses.losses import Loss, check_alike


@dataclass(frozen=True)
class Squared(Loss):
    """(prediction - target)^2."""

    def entries(
        self, prediction: Float[Tensor, " b *d"], target: Float[Tensor, " b *d"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Square the difference."""
        check_alike(prediction, target)
        return functional.mse_loss(prediction, target, reduction="none")


@dataclass(frozen=True)
class Absolute(Loss):
    """|prediction - target|. No Bregman divergence: its minimiser is the median."""

    def entries(
        self, prediction: Float[Tensor, " b *d"], target: Float[Tensor, " b *d"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Return the size of the difference."""
        check_alike(prediction, target)
        return functional.l1_loss(prediction, target, reduction="none")


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
        check_alike(prediction, target)
        square = (prediction - target).square()
        return square / ((square + self.c**2).sqrt() + self.c)
