"""A drift that moves a crowd's opinions apart by itself, along a direction that turns with time.

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

AT_ONCE = 10
"""Times at which a crowd is looked at in one piece."""
_SEED, _TURN, _RETURN = 4078213, 0.4, 2.0
"""Of the directions: seed, strength of their noise, and how fast they forget."""


@dataclass(frozen=True, eq=False)
class Polarise:
    """f(x, t) = strength damp(t) sign<x, xi_t> M_t / |M_t|^(1/2), with M_t = E_y sign<y, xi_t> y / |y|^(1/2).

    Who agrees with the direction xi_t of a time is drawn to the mean of those who do, all others away from it.
    """

    strength: float
    steepness: float
    """How late it ends: damp(t) = (1 - e^(steepness (t - 1)))^5, between 1 and nearly 0."""
    directions: Float[Tensor, "500 d"]
    """xi at equally spaced times, of length 1."""
    mean: Float[Tensor, "500 d"] | None = None
    """M at these times; None to take it, at each time, from the very states that are asked about."""

    TIMES: ClassVar[int] = 500
    """Equally spaced from 0 to 1: directions, means and damping are known there, and taken from the nearest."""

    @staticmethod
    def of(d: int, strength: float = 6.0, steepness: float = 8.0) -> "Polarise":
        """Return it for opinions on d questions."""
        noise = np.random.default_rng(_SEED).standard_normal([Polarise.TIMES, d])
        step, xi = 1 / Polarise.TIMES, [noise[0]]
        for more in noise[1:]:
            xi.append(xi[-1] - _RETURN * xi[-1] * step + _TURN * step**0.5 * more)
        directions = torch.from_numpy(np.stack(xi))
        return Polarise(strength, steepness, (directions / directions.norm(dim=1, keepdim=True)).float())

    def refreshed(self, crowd: Callable[[Float[Tensor, " s"]], Float[Tensor, "s n d"]]) -> "Polarise":
        """Return it with the mean M of a crowd.

        Args:
            crowd: Times -> members then; asked for a few times at once.
        """
        means = []
        for rows in torch.arange(self.TIMES).split(AT_ONCE):
            members = crowd(rows / (self.TIMES - 1))
            means.append(_agreeing(members, self.directions[rows].to(members)[:, None]).mean(1))
        return replace(self, mean=torch.cat(means))

    def damp(self, t: Tensor) -> Tensor:
        """Return by how much the drift is weaker at a time, between 0 and 1."""
        near = (t * (self.TIMES - 1)).round() / (self.TIMES - 1)
        return (1 - torch.exp(self.steepness * (near - 1)) + 1e-5).clamp(1e-4, 1) ** 5

    def __call__(self, x: Float[Tensor, "*b d"], t: Tensor) -> Float[Tensor, "*b d"]:
        """Return the drift, in state per time, of states at times that broadcast to [*b]."""
        index = (t * (self.TIMES - 1)).round().long()
        xi = self.directions.to(x)[index]
        mean = self._of_these(x, xi, index) if self.mean is None else self.mean.to(x)[index]
        pull = mean / _length(mean).sqrt() * self.damp(t)[..., None]
        return torch.sign(_agreement(x, xi)) * (self.strength * pull)

    def _of_these(self, x: Tensor, xi: Tensor, index: Tensor) -> Float[Tensor, "*c d"]:
        """Return M of the states of each state's time."""
        agreeing = _agreeing(x, xi)
        if index.shape[-1] == 1:  # a crowd to each time
            return agreeing.mean(-2, keepdim=True)
        at = index.expand(x.shape[:-1]).reshape(-1)
        total = agreeing.new_zeros(self.TIMES, x.shape[-1]).index_add(0, at, agreeing.reshape(-1, x.shape[-1]))
        return (total / torch.bincount(at, minlength=self.TIMES).clamp(min=1)[:, None])[index]


def _agreeing(y: Tensor, xi: Tensor) -> Tensor:
    """Return sign<y, xi> y / |y|^(1/2)."""
    return y * (torch.sign(_agreement(y, xi)) / _length(y).sqrt())


def _agreement(y: Tensor, xi: Tensor) -> Tensor:
    """Return <y, xi>, [*b, 1]."""
    if xi.ndim > 2 and xi.shape[-2] == 1:
        return y @ xi.mT
    return (y * xi).sum(-1, keepdim=True)


def _length(y: Tensor) -> Tensor:
    """Return |y|, [*b, 1], above 0."""
    return y.square().sum(-1, keepdim=True).sqrt().clamp(min=torch.finfo(y.dtype).tiny)
