"""Probability simplex with the Fisher-Rao metric.

Square roots map the simplex to the positive orthant of the unit sphere; the metric is four times that of the sphere.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_integer
from feller.core.rng import RandomStream
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import safe_sqrt
from feller.spaces.space import Points
from feller.spaces.sphere import (
    great_circle_exp,
    great_circle_log,
    great_circle_log_differential,
    great_circle_transport,
)


def _roots(p: Tensor) -> Tensor:
    """Return square roots, with derivative 0 instead of infinity at 0."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).sqrt()


def _root_velocity(p: Tensor, v: Tensor) -> Tensor:
    """Return the velocity of sqrt(p), given the velocity v of p; 0 where a probability is 0."""
    return torch.where(p > 0, v / (2 * _roots(p)), 0.0)


def _root_log(p: Tensor, q: Tensor) -> Tensor:
    """Return the great-circle velocity from sqrt(p) to sqrt(q), computed from q - p for precision."""
    x, y = _roots(p), _roots(q)
    return great_circle_log(x, (q - p) / (x + y), (x * y).sum(-1, keepdim=True))


@dataclass(frozen=True)
class Simplex(Manifold):
    """Probability vectors p of n + 1 entries with the Fisher-Rao metric sum v^2 / p; source: Dirichlet(1, ..., 1).

    Entries may be 0, and tangent vectors there stay in the face. Geodesics that would leave the positive orthant of the
    sphere are reflected at its boundary.
    """

    n: int
    """Dimension of one point: the number of entries of the point minus one."""
    shape: tuple[int, ...] = ()
    """Shape of the array of points in one example."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("n", self.n, ge=1)

    @property
    def dimension(self) -> int:
        return self.n * math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        exponentials = -torch.log1p(-rng.uniform((n, *self.shape, self.n + 1), device=device))
        return exponentials / exponentials.sum(-1, keepdim=True)

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        return _roots(x).log().flatten(1).sum(1) + math.lgamma(self.n + 1) * math.prod(self.shape)

    def exp(self, x: Points, v: Points) -> Points:
        return great_circle_exp(_roots(x), _root_velocity(x, v)).square()

    def log(self, x: Points, y: Points) -> Points:
        return 2 * _roots(x) * _root_log(x, y)

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        return 2 * _roots(y) * great_circle_transport(_roots(x), _root_log(x, y), _root_velocity(x, v))

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return (
            2 * _roots(x) * great_circle_log_differential(_roots(x), _roots(y), _root_log(x, y), _root_velocity(y, v))
        )

    def project(self, x: Points) -> Points:
        """Return the nearest point of the simplex: subtract a constant and clip at 0, so that the entries sum to 1."""
        ranked = x.sort(-1, descending=True).values
        count = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
        excess = (ranked.cumsum(-1) - 1) / count
        index = (ranked > excess).sum(-1, keepdim=True).clamp_min(1) - 1
        return (x - torch.take_along_dim(excess, index, -1)).relu()

    def to_tangent(self, x: Points, v: Points) -> Points:
        return v - v.mean(-1, keepdim=True)

    def whiten_probe(self, x: Points, z: Points) -> tuple[Tensor, Tensor]:
        """Return a tangent vector and its dual, from z projected onto the tangent space in square-root coordinates.

        Entries at which x is 0 are 0 in the tangent vector.
        """
        y = _roots(x)
        z = torch.where(x > 0, z, 0.0)
        z = z - (y * z).sum(-1, keepdim=True) * y
        return y * z, self.to_tangent(x, torch.where(x > 0, z / y, 0.0))

    def norm(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the Fisher-Rao norm sqrt(sum v^2 / x) of the tangent vector v at x."""
        return 2 * safe_sqrt(_root_velocity(x, v).square().flatten(1).sum(1))

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        return 2 * safe_sqrt(_root_log(x, y).square().flatten(1).sum(1))

    def log_volume_rate(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the derivative along v of log prod x^(-1/2), the log volume element."""
        return -(_root_velocity(x, v) / _roots(x)).flatten(1).sum(1)
