"""What single rows add to private steps at fixed weights, as a function of the rows that has slopes.

Whoever knows all other rows takes them off, and is left with this and the noise. What the row meets in each step, such
as time and source, is given to the attacker too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.core.gradient import LossFunction
from feller.privacy.leakage.leakage_tracking import hard_clip
from feller.privacy.leakage.row_gradients import RowGradients

MIN_NORM_SQ = 1e-30
"""Squared length of a gradient below which it has no direction."""
CHUNK_SIZE = 2**25
"""Numbers of gradients that are laid out beside each other."""
RowGradientFn = Callable[[Tensor], Tensor]
"""Rows [n, d] -> what each adds, [n, p], by itself alone; has slopes, and can be mapped."""


@dataclass(frozen=True, eq=False)
class ClippedGradientFn:
    """Clipped gradients of rows at several steps, one after the other: [n, d] -> [n, steps p]."""

    loss: LossFunction
    network: nn.Module
    clip: float
    """Longest gradient."""
    build_examples: Callable[[Tensor], Any]
    """Rows [n, d] -> the examples of all steps of the first row, of the second, ..., each with its random numbers."""

    def __call__(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n p"]:
        """Return what rows add, cut to its length in each step."""
        slopes = RowGradients(self.loss, self.network)

        def one(example: Any) -> Tensor:
            found = grad(lambda values: functional_call(slopes.module, values, (example,)))(slopes.weights)
            flat = torch.cat([each.flatten() for each in found.values()])
            return flat * hard_clip(flat.square().sum().clamp(min=MIN_NORM_SQ).sqrt(), self.clip)

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no slopes of slopes
            return torch.vmap(one)(self.build_examples(z)).reshape(len(z), -1)


def jacobian(
    row_gradient: RowGradientFn, row: Float[Tensor, "1 d"], directions: Float[Tensor, "r d"]
) -> Float[Tensor, "r p"]:
    """Return how what one row adds follows it along some ways.

    Args:
        row_gradient: What rows add.
        row: One of them.
        directions: Directions.
    """

    def along(way: Tensor) -> Tensor:
        return jvp(row_gradient, (row,), (way[None],))[1][0]

    size = row_gradient(row).numel()
    parts = directions.split(max(1, CHUNK_SIZE // size))
    with sdpa_kernel(SDPBackend.MATH):
        return torch.cat([torch.vmap(along, randomness="same")(part) for part in parts])


def row_vjp(
    row_gradient: RowGradientFn, rows: Float[Tensor, "n d"], by: Float[Tensor, "b n p"]
) -> Float[Tensor, "b n d"]:
    """Return products of numbers of what is added with how it follows the rows."""
    with sdpa_kernel(SDPBackend.MATH):
        along: Any = vjp(row_gradient, rows)
        return torch.vmap(lambda one: along[1](one)[0])(by)


def misfit_and_gradient(
    row_gradient: RowGradientFn, observed: Float[Tensor, "b n p"], scale: float
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a look at rows [b, n, d]: half of |added(z) - seen|^2 / scale^2 of each, and its slope.

    Args:
        row_gradient: What rows add.
        observed: What was told, with noise.
        scale: Standard deviation of the noise.
    """

    def one(z: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        along: Any = vjp(row_gradient, z)
        there, back = along
        apart = there - told
        return apart.square().sum(1).double() / (2 * scale**2), back(apart)[0] / scale**2

    def look(z: Tensor) -> tuple[Tensor, Tensor]:
        with sdpa_kernel(SDPBackend.MATH):
            return torch.vmap(one, randomness="same")(z, observed)

    return look
