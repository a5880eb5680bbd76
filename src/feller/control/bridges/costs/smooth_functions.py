"""Elementary functions of obstacle and congestion costs, with hand-written backward passes.

These backward passes are two to three times as fast as autograd.

The functions are differentiable only once. They are fastest if each coordinate is contiguous in memory, as in a tensor
[d, times, n] whose first axis is moved to the end.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MIN_EXPONENT = -80.0
"""Lower limit of exponents: smaller exponentials are negligible, and denormal floats are slow."""


def softplus(z: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
    """Return log(1 + e^z)."""
    return _Softplus.apply(z)


def weighted_square(x: Float[Tensor, "*b d"], weights: Float[Tensor, " d"]) -> Float[Tensor, " *b"]:
    """Return sum_i weight_i x_i^2."""
    return _WeightedSquare.apply(x, weights)


def congestion_kernel(x: Float[Tensor, "*b d"], y: Float[Tensor, "*b d"]) -> Float[Tensor, " *b"]:
    """Return 2 / (|x - y|^2 + 1)."""
    return _Nearness.apply(x, y)


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        z = z.clamp(min=MIN_EXPONENT)
        ctx.save_for_backward(z)
        return F.softplus(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_output: Tensor) -> Tensor:  # pyrefly: ignore
        (z,) = ctx.saved_tensors
        return torch.sigmoid(z).mul_(grad_output[0])


class _WeightedSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, weights)
        return x.square() @ weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_output: Tensor) -> tuple[Tensor, None]:  # pyrefly: ignore
        x, weights = ctx.saved_tensors
        return (x * (2 * weights)).mul_(grad_output[0][..., None]), None


class _Nearness(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        difference = x - y
        reciprocal = (difference.square() @ difference.new_ones(difference.shape[-1])).add_(1).reciprocal_()
        ctx.save_for_backward(difference, reciprocal)
        return 2 * reciprocal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_output: Tensor) -> tuple[Tensor, Tensor | None]:  # pyrefly: ignore
        difference, reciprocal = ctx.saved_tensors
        grad_x = reciprocal.square().mul_(-4).mul_(grad_output[0])[..., None] * difference
        return grad_x, -grad_x if ctx.needs_input_grad[1] else None
