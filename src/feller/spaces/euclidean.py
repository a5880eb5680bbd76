"""Real vectors, images, any array of real numbers."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import RandomStream
from feller.spaces.manifold import Parallel
from feller.spaces.space import Points


@dataclass(frozen=True)
class Euclidean(Parallel):
    """R^shape with the standard normal law as source."""

    is_flat = True
    shape: tuple[int, ...] = ()
    """Shape of one example; only `sample_base` and `dimension` need it."""

    @property
    def dimension(self) -> int:
        return math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        """Draw from N(0, I)."""
        return rng.normal((n, *self.shape), device=device)

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        """Return the log density of N(0, I)."""
        return -(x.square() + math.log(2 * math.pi)).reshape(len(x), -1).sum(1) / 2

    def exp(self, x: Points, v: Points) -> Points:
        return x + v

    def log(self, x: Points, y: Points) -> Points:
        return y - x

    def project(self, x: Points) -> Points:
        return x

    def integrate_step(self, x: Tensor, v: Tensor, h: float) -> Tensor:
        return torch.add(x, v, alpha=h)
