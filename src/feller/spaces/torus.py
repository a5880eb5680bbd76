"""Angles: the flat torus."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Draw
from feller.spaces.manifold import Parallel
from feller.spaces.space import Points

TURN = 2 * math.pi


def wrap(x: Points) -> Points:
    """Bring angles into [0, 2 pi); a rounded remainder can be 2 pi itself."""
    x = torch.remainder(x, TURN)
    return torch.where(x >= TURN, x - TURN, x)


@dataclass(frozen=True)
class Torus(Parallel):
    """Arrays of angles in radians, from 0 to below 2 pi, with the uniform law as source."""

    shape: tuple[int, ...] = (1,)
    """Shape of one example: each number is an angle."""

    @property
    def dimension(self) -> int:
        """Number of angles."""
        return math.prod(self.shape)

    def reference(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> Tensor:
        """Draw from the uniform law."""
        return wrap(TURN * draw.uniform((n, *self.shape), device=device))

    def log_reference(self, x: Points) -> Float[Tensor, " b"]:
        """Return -log 2 pi for each angle."""
        return x.new_full((len(x),), -math.log(TURN) * self.dimension)

    def exp(self, x: Points, v: Points) -> Points:
        """Add, around the circle."""
        return wrap(x + v)

    def log(self, x: Points, y: Points) -> Points:
        """Return the shorter way around, in [-pi, pi)."""
        way = y - x
        way = way - TURN * torch.round(way.detach() / TURN)
        return torch.where(way >= math.pi, way - TURN, way)

    def between(self, x: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Go a share of the shorter way."""
        way = self.log(x, y)
        return wrap(x + share * way), way

    def project(self, x: Points) -> Points:
        """Bring angles into [0, 2 pi)."""
        return wrap(x)
