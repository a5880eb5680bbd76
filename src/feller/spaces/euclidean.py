"""Real vectors, images, any array of real numbers."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Draw
from feller.spaces.manifold import Parallel


@dataclass(frozen=True)
class Euclidean(Parallel):
    """R^shape with the standard normal law as source."""

    flat = True
    shape: tuple[int, ...] = ()
    """Shape of one example; only `reference` and `dimension` need it."""

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return math.prod(self.shape)

    def reference(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> Tensor:
        """Draw from N(0, I)."""
        return draw.normal((n, *self.shape), device=device)

    def log_reference(self, x: Float[Tensor, " b *d"]) -> Float[Tensor, " b"]:
        """Return the log density of N(0, I)."""
        return -(x.square() + math.log(2 * math.pi)).reshape(len(x), -1).sum(1) / 2

    def exp(self, x: Float[Tensor, " b *d"], v: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        """Add."""
        return x + v

    def log(self, x: Float[Tensor, " b *d"], y: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        """Subtract."""
        return y - x

    def project(self, x: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        """Return x."""
        return x

    def move(self, x: Tensor, v: Tensor, h: float) -> Tensor:
        """Add h v, in one operation."""
        return torch.add(x, v, alpha=h)
