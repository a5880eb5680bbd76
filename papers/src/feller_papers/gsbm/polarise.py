"""Polarisation drift of opinions, along a direction that changes with time.

Source: Liu et al. 2022, "Deep generalized Schrödinger bridge", arXiv 2209.09893, after Gaitonde, Kleinberg and Tardos
2021, "Polarization in geometric opinion dynamics"; constants of Liu et al. 2024, arXiv 2310.02233.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

BATCH_SIZE = 10
"""Times per batch of the population mean."""
_SEED, _NOISE_SCALE, _REVERSION = 4078213, 0.4, 2.0
"""Ornstein-Uhlenbeck process of the directions: seed, noise scale, mean reversion rate."""


@dataclass(frozen=True, eq=False)
class Polarise:
    """f(x, t) = strength damp(t) sign<x, xi_t> M_t / |M_t|^(1/2), with M_t = E_y sign<y, xi_t> y / |y|^(1/2).

    Opinions that agree with the direction xi_t move towards M_t, all others away from it.
    """

    strength: float
    steepness: float
    """Steepness of the damping: damp(t) = (1 - e^(steepness (t - 1)))^5, from 1 to nearly 0."""
    directions: Float[Tensor, "500 d"]
    """xi at equally spaced times, of length 1."""
    mean: Float[Tensor, "500 d"] | None = None
    """M at these times; None to compute it from the input states at each time."""

    TIMES: ClassVar[int] = 500
    """Number of equally spaced times in [0, 1]; directions, means and damping use the nearest."""

    @staticmethod
    def for_dim(d: int, strength: float = 6.0, steepness: float = 8.0) -> "Polarise":
        """Return the drift for opinions on d questions."""
        noise = np.random.default_rng(_SEED).standard_normal([Polarise.TIMES, d])
        step, xi = 1 / Polarise.TIMES, [noise[0]]
        for increment in noise[1:]:
            xi.append(xi[-1] - _REVERSION * xi[-1] * step + _NOISE_SCALE * step**0.5 * increment)
        directions = torch.from_numpy(np.stack(xi))
        return Polarise(strength, steepness, (directions / directions.norm(dim=1, keepdim=True)).float())

    def with_population(self, sample: Callable[[Float[Tensor, " s"]], Float[Tensor, "s n d"]]) -> "Polarise":
        """Return the drift with the mean M of a population.

        Args:
            sample: Times -> samples at these times; called with a batch of times.
        """
        means = []
        for rows in torch.arange(self.TIMES).split(BATCH_SIZE):
            samples = sample(rows / (self.TIMES - 1))
            means.append(_aligned(samples, self.directions[rows].to(samples)[:, None]).mean(1))
        return replace(self, mean=torch.cat(means))

    def damp(self, t: Tensor) -> Tensor:
        """Return the damping factor in [0, 1] at a time."""
        nearest = (t * (self.TIMES - 1)).round() / (self.TIMES - 1)
        return (1 - torch.exp(self.steepness * (nearest - 1)) + 1e-5).clamp(1e-4, 1) ** 5

    def __call__(self, x: Float[Tensor, "*b d"], t: Tensor) -> Float[Tensor, "*b d"]:
        """Return the drift at states; times broadcast to [*b]."""
        index = (t * (self.TIMES - 1)).round().long()
        xi = self.directions.to(x)[index]
        mean = self._batch_mean(x, xi, index) if self.mean is None else self.mean.to(x)[index]
        direction = mean / _norm(mean).sqrt() * self.damp(t)[..., None]
        return torch.sign(_alignment(x, xi)) * (self.strength * direction)

    def _batch_mean(self, x: Tensor, xi: Tensor, index: Tensor) -> Float[Tensor, "*c d"]:
        """Return M over the states that share a time."""
        aligned = _aligned(x, xi)
        if index.shape[-1] == 1:  # one population per time
            return aligned.mean(-2, keepdim=True)
        time_index = index.expand(x.shape[:-1]).reshape(-1)
        total = aligned.new_zeros(self.TIMES, x.shape[-1]).index_add(0, time_index, aligned.reshape(-1, x.shape[-1]))
        return (total / torch.bincount(time_index, minlength=self.TIMES).clamp(min=1)[:, None])[index]


def _aligned(y: Tensor, xi: Tensor) -> Tensor:
    """Return sign<y, xi> y / |y|^(1/2)."""
    return y * (torch.sign(_alignment(y, xi)) / _norm(y).sqrt())


def _alignment(y: Tensor, xi: Tensor) -> Tensor:
    """Return <y, xi>, [*b, 1]."""
    if xi.ndim > 2 and xi.shape[-2] == 1:
        return y @ xi.mT
    return (y * xi).sum(-1, keepdim=True)


def _norm(y: Tensor) -> Tensor:
    """Return |y|, [*b, 1], above 0."""
    return y.square().sum(-1, keepdim=True).sqrt().clamp(min=torch.finfo(y.dtype).tiny)
