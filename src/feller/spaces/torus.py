"""Flat torus, for angles."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import RandomStream
from feller.spaces.manifold import Parallel
from feller.spaces.space import Points

TWO_PI = 2 * math.pi


def wrap(x: Points) -> Points:
    """Wrap angles into [0, 2 pi); `torch.remainder` alone may round up to 2 pi."""
    x = torch.remainder(x, TWO_PI)
    return torch.where(x >= TWO_PI, x - TWO_PI, x)


@dataclass(frozen=True)
class Torus(Parallel):
    """Arrays of angles in [0, 2 pi) radians, with the uniform distribution as source."""

    shape: tuple[int, ...] = (1,)
    """Shape of one example, an array of angles."""

    @property
    def dimension(self) -> int:
        return math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        return wrap(TWO_PI * rng.uniform((n, *self.shape), device=device))

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        return x.new_full((len(x),), -math.log(TWO_PI) * self.dimension)

    def exp(self, x: Points, v: Points) -> Points:
        return wrap(x + v)

    def log(self, x: Points, y: Points) -> Points:
        """Return the signed difference y - x of the angles along the shorter arc, in [-pi, pi)."""
        difference = y - x
        difference = difference - TWO_PI * torch.round(difference.detach() / TWO_PI)
        return torch.where(difference >= math.pi, difference - TWO_PI, difference)

    def geodesic_interpolant(self, x: Tensor, y: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
        difference = self.log(x, y)
        return wrap(x + fraction * difference), difference

    def project(self, x: Points) -> Points:
        return wrap(x)
