"""A row that is read from one noisy sum of clipped gradients, by whoever knows all the other rows.

Who knows the others takes them off, and is left with what the row adds, and the noise: the likeliest row is looked for
by Gauss and Newton's steps. Source: Balle, Cherubin and Hayes 2022, arXiv 2201.04845, for the attacker; Zhu, Liu and
Han 2019, "Deep leakage from gradients", arXiv 1906.08935, for reading rows from gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacfwd, vmap

STEPS = 30
DAMPING, LARGEST = 1e-6, 1e12
"""Of the first step, beside the prior, and beyond which no step helps."""
Added = Callable[[Tensor], Tensor]
"""A row [d] -> what it adds to the sum [p], which can be mapped and has slopes."""


@dataclass(frozen=True)
class Prior:
    """What an attacker knows of rows before anything is told: a normal law."""

    mean: Float[Tensor, " d"]
    spread: float
    """Standard deviation of each number."""


def inverted(
    added: Added, seen: Float[Tensor, "b p"], scale: float, prior: Prior, start: Float[Tensor, "b d"]
) -> Float[Tensor, "b d"]:
    """Return the likeliest rows: least of |added(z) - seen|^2 / scale^2 + |z - mean|^2 / spread^2, from a start.

    Args:
        added: What a row adds.
        seen: What was told of each row, with noise.
        scale: Standard deviation of the noise of each number.
        prior: Of rows.
        start: Where the search begins; it may end in a valley that is not the deepest.
    """
    z, precision = start.double(), prior.spread**-2
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    many, slopes = vmap(added), vmap(jacfwd(added))

    def value(z: Tensor) -> Tensor:
        away = (many(z) - seen).square().sum(1) / scale**2
        return away + precision * (z - prior.mean).square().sum(1)

    damping, here = torch.full_like(z[:, 0], DAMPING * precision), value(z)
    for _ in range(STEPS):
        jacobian, residual = slopes(z), many(z) - seen
        pull = torch.einsum("bpd,bp->bd", jacobian, residual) / scale**2 + precision * (z - prior.mean)
        curvature = jacobian.mT @ jacobian / scale**2 + (precision + damping)[:, None, None] * identity
        step = torch.linalg.solve(curvature, pull)
        there = value(z - step)
        better = there < here
        z, here = z - step * better[:, None], torch.where(better, there, here)
        damping = (damping * torch.where(better, 0.1, 10.0)).clamp(max=LARGEST * precision)
    return z


def deepest(
    added: Added, seen: Float[Tensor, "b p"], scale: float, prior: Prior, starts: Float[Tensor, "s b d"]
) -> Float[Tensor, "b d"]:
    """Return the likeliest of what is found from several starts."""
    found = torch.stack([inverted(added, seen, scale, prior, start) for start in starts])
    away = torch.stack([(vmap(added)(z) - seen).square().sum(1) / scale**2 for z in found])
    cost = away + (found - prior.mean).square().sum(2) / prior.spread**2
    return found[cost.argmin(0), torch.arange(len(seen))]
