"""Gradient inversion: a row from one noisy sum of clipped gradients, by an attacker who knows all other rows.

The attacker subtracts the known rows, and computes the MAP estimate of the row by Levenberg-Marquardt. Source: Balle,
Cherubin and Hayes 2022, arXiv 2201.04845, for the attacker; Zhu, Liu and Han 2019, "Deep leakage from gradients",
arXiv 1906.08935, for gradient inversion.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacfwd, vmap

STEPS = 30
DAMPING, LARGEST = 1e-6, 1e12
"""Initial and largest damping, relative to the precision of the prior."""
Contribution = Callable[[Tensor], Tensor]
"""Row [d] -> its contribution to the sum [p]; differentiable and compatible with vmap."""


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of the attacker on rows."""

    mean: Float[Tensor, " d"]
    spread: float
    """Standard deviation per coordinate."""


def invert_gradients(
    added: Contribution, seen: Float[Tensor, "b p"], scale: float, prior: Prior, start: Float[Tensor, "b d"]
) -> Float[Tensor, "b d"]:
    """Return MAP estimates of rows: argmin |added(z) - seen|^2 / scale^2 + |z - mean|^2 / spread^2.

    Args:
        added: Contribution of a row.
        seen: Noisy observation of each row.
        scale: Standard deviation of the noise.
        prior: Prior on rows.
        start: Initial rows; the minimum may be local.
    """
    z, precision = start.double(), prior.spread**-2
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    batch_added, batch_jacobian = vmap(added), vmap(jacfwd(added))

    def value(z: Tensor) -> Tensor:
        misfit = (batch_added(z) - seen).square().sum(1) / scale**2
        return misfit + precision * (z - prior.mean).square().sum(1)

    damping, current = torch.full_like(z[:, 0], DAMPING * precision), value(z)
    for _ in range(STEPS):
        jacobian, residual = batch_jacobian(z), batch_added(z) - seen
        gradient = torch.einsum("bpd,bp->bd", jacobian, residual) / scale**2 + precision * (z - prior.mean)
        curvature = jacobian.mT @ jacobian / scale**2 + (precision + damping)[:, None, None] * identity
        step = torch.linalg.solve(curvature, gradient)
        candidate = value(z - step)
        improved = candidate < current
        z, current = z - step * improved[:, None], torch.where(improved, candidate, current)
        damping = (damping * torch.where(improved, 0.1, 10.0)).clamp(max=LARGEST * precision)
    return z


def best_of_starts(
    added: Contribution, seen: Float[Tensor, "b p"], scale: float, prior: Prior, starts: Float[Tensor, "s b d"]
) -> Float[Tensor, "b d"]:
    """Return the best MAP estimates over several starts."""
    estimates = torch.stack([invert_gradients(added, seen, scale, prior, start) for start in starts])
    misfit = torch.stack([(vmap(added)(z) - seen).square().sum(1) / scale**2 for z in estimates])
    cost = misfit + (estimates - prior.mean).square().sum(2) / prior.spread**2
    return estimates[cost.argmin(0), torch.arange(len(seen))]
