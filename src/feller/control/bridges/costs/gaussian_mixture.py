"""Log density of mixtures of equally weighted isotropic Gaussians, computed in bounded memory."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_SIZE = 400_000
"""Number of (state, centre) pairs per chunk; small enough for the CPU cache."""
MIN_LOG_WEIGHT = -60.0
"""Lower limit of log weights, relative to the largest; smaller weights are negligible, and denormal floats are slow."""


def log_density(
    x: Float[Tensor, "times n d"], centres: Float[Tensor, "times k d"], widths: Float[Tensor, "times k"]
) -> Float[Tensor, "times n"]:
    """Return the mixture's log density, log(1/k sum_j N(x; c_j, w_j^2 I)), at each state x.

    The centres c_j and widths w_j are those at the time of the state.

    The gradient flows only through x, and cannot be differentiated again.
    """
    return _LogDensity.apply(x, centres.detach(), widths.detach())


def scott(samples: Float[Tensor, "times n d"]) -> Float[Tensor, " times"]:
    """Return Scott's bandwidth of a kernel density estimate: n^(-1 / (d + 4)) times the standard deviation.

    Source: Scott 1992, "Multivariate density estimation".
    """
    n, d = samples.shape[1:]
    return samples.var(1).mean(1).sqrt() * n ** (-1 / (d + 4))


class _LogDensity(torch.autograd.Function):
    """Log density and its gradient in x, computed together: both need the same exponentials."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
        (times, n, d), k = x.shape, centres.shape[1]
        centroid = centres.mean(1, keepdim=True)  # centred for numerical precision of the squares below
        x, centres = x - centroid, centres - centroid
        precision = widths**-2
        scaled_centres = precision[..., None] * centres
        log_constants = (
            -(centres * scaled_centres).sum(-1) / 2 - d * widths.log() - d / 2 * math.log(2 * math.pi) - math.log(k)
        )
        square_coefs, state_coefs = torch.stack([-precision / 2, log_constants], 1), scaled_centres.mT
        means = torch.cat([scaled_centres, precision[..., None]], 2)
        values, grads = x.new_empty(times, n), torch.empty_like(x)
        chunk_size = max(1, CHUNK_SIZE // (times * k))
        for start in range(0, n, chunk_size):
            chunk = x[:, start : start + chunk_size]
            square = chunk.square().sum(-1, keepdim=True)
            logs = torch.baddbmm(torch.cat([square, torch.ones_like(square)], 2) @ square_coefs, chunk, state_coefs)
            max_log = logs.amax(-1, keepdim=True)
            weights = logs.sub_(max_log).clamp_(min=MIN_LOG_WEIGHT).exp_()
            total = weights.sum(-1, keepdim=True)
            values[:, start : start + chunk_size] = (max_log + total.log())[..., 0]
            mean = weights @ means / total
            grads[:, start : start + chunk_size] = mean[..., :d] - chunk * mean[..., d:]
        ctx.save_for_backward(grads)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_output: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore
        (grads,) = ctx.saved_tensors
        return grad_output[0][..., None] * grads, None, None
