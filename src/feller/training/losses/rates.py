"""Losses of rates of jumps, and of other numbers that cannot be negative.

Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587, proposition 2: regressing on the rates given
the data has the gradient of regressing on those of the marginal process for Bregman divergences, the target first.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from feller.training.losses.losses import Loss
from feller.training.losses.regression import Squared


@dataclass(frozen=True)
class InfinitesimalKL(Loss):
    """sum_y a log(a / b) - a + b over places y to jump to, for rates a of the target and b of the prediction.

    The prediction is log b, [b, ..., places], the target a. It splits into a loss of the total rate and the
    cross-entropy of where jumps land, **weighted by the rate**: unweighted it would have another minimiser. A place
    that no rate counts, such as the state's own, has a = 0 and a prediction far below.
    """

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Float[Tensor, "b *d K"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Return the divergence of each part of the state, over all places."""
        return (torch.xlogy(target, target) - target * prediction - target + prediction.exp()).sum(-1)


@dataclass(frozen=True)
class ItakuraSaito(Loss):
    """a / b - log(a / b) - 1 for positive numbers: an error counts by its ratio, whatever the size.

    The prediction is log b, the target a: an intensity with a large range, say.
    """

    def entries(
        self, prediction: Float[Tensor, " b *d"], target: Float[Tensor, " b *d"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Return a / b - log(a / b) - 1."""
        return target * (-prediction).exp() - target.log() + prediction - 1


@dataclass(frozen=True)
class RatesAndVelocity(Loss):
    """The loss of rates, and that of a velocity in the last place of prediction and target: their sum.

    So one network learns both processes, to be superposed; no weights are needed for either to be right.
    """

    rates: Loss = field(default_factory=InfinitesimalKL)
    velocity: Loss = field(default_factory=Squared)

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Float[Tensor, "b *d K"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Add both losses of each part of the state."""
        jumps = self.rates.entries(prediction[..., :-1], target[..., :-1], x_t, t)
        return jumps + self.velocity.entries(prediction[..., -1], target[..., -1], x_t, t)
