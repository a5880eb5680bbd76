"""Clipped gradients of single rows in DP-SGD steps at fixed weights, as differentiable functions of the row.

The attacker knows all other rows and subtracts their gradients, so the attacker observes the gradient of one row plus
noise. The attacker also knows the training time t and the source point of the row in each step.
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
"""Squared gradient norm below which clipping treats a gradient as zero."""
CHUNK_SIZE = 2**25
"""Number of gradient entries per chunk."""
RowGradientFn = Callable[[Tensor], Tensor]
"""Function from rows [n, d] to the clipped gradient of each row [n, p]; row-wise, differentiable, compatible with
vmap."""


@dataclass(frozen=True, eq=False)
class ClippedGradientFn:
    """Function from rows [n, d] to their clipped per-example gradients, concatenated over steps, [n, steps p].

    The gradients are those of `loss` with respect to the p weights of `network`.
    """

    loss: LossFunction
    network: nn.Module
    clip: float
    build_examples: Callable[[Tensor], Any]
    """Function from rows [n, d] to n * steps training examples, including their random draws such as t. The examples of
    a row, one per step, are adjacent."""

    def __call__(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n p"]:
        """Return the clipped gradients of all steps."""
        row_loss = RowGradients(self.loss, self.network)

        def clipped_gradient(example: Any) -> Tensor:
            grads = grad(lambda values: functional_call(row_loss.module, values, (example,)))(row_loss.weights)
            gradient = torch.cat([part.flatten() for part in grads.values()])
            return gradient * hard_clip(gradient.square().sum().clamp(min=MIN_NORM_SQ).sqrt(), self.clip)

        with sdpa_kernel(SDPBackend.MATH):  # fused attention kernels have no double backward
            return torch.vmap(clipped_gradient)(self.build_examples(z)).reshape(len(z), -1)


def jacobian(
    row_gradient: RowGradientFn, row: Float[Tensor, "1 d"], directions: Float[Tensor, "r d"]
) -> Float[Tensor, "r p"]:
    """Return the derivatives of the clipped gradient of one row with respect to the row, along r directions."""

    def directional(direction: Tensor) -> Tensor:
        return jvp(row_gradient, (row,), (direction[None],))[1][0]

    size = row_gradient(row).numel()
    chunks = directions.split(max(1, CHUNK_SIZE // size))
    with sdpa_kernel(SDPBackend.MATH):
        return torch.cat([torch.vmap(directional, randomness="same")(chunk) for chunk in chunks])


def row_vjp(
    row_gradient: RowGradientFn, rows: Float[Tensor, "n d"], by: Float[Tensor, "b n p"]
) -> Float[Tensor, "b n d"]:
    """Return vector-Jacobian products of the clipped gradients of rows with respect to the rows.

    Args:
        row_gradient: Function that returns the clipped gradients of rows.
        rows: Rows at which the Jacobian is taken.
        by: Vectors to multiply with the Jacobian of each row: b vectors of length p per row.
    """
    with sdpa_kernel(SDPBackend.MATH):
        pullback: Any = vjp(row_gradient, rows)
        return torch.vmap(lambda cotangent: pullback[1](cotangent)[0])(by)


def misfit_and_gradient(
    row_gradient: RowGradientFn, observed: Float[Tensor, "b n p"], scale: float
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a function that computes |g(z) - observed|^2 / (2 scale^2) and its gradient with respect to z.

    The function takes candidate rows z, [b, n, d], and returns one value per row, [b, n], and the gradients, [b, n, d].

    Args:
        row_gradient: Function g that returns the clipped gradients of rows.
        observed: Noisy gradients seen by the attacker: b noise draws for each of n rows.
        scale: Standard deviation of the noise.
    """

    def misfit(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        pullback: Any = vjp(row_gradient, z)
        predicted, backward = pullback
        residual = predicted - target
        return residual.square().sum(1).double() / (2 * scale**2), backward(residual)[0] / scale**2

    def batched(z: Tensor) -> tuple[Tensor, Tensor]:
        with sdpa_kernel(SDPBackend.MATH):
            return torch.vmap(misfit, randomness="same")(z, observed)

    return batched
