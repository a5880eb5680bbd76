"""Euclidean space: vectors, images and other arrays of real numbers."""

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
    """Euclidean space R^shape with a standard normal source."""

    is_flat = True
    shape: tuple[int, ...] = ()
    """Shape of one example; needed only by `sample_base` and `dimension`."""

    @property
    def dimension(self) -> int:
        return math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        return rng.normal((n, *self.shape), device=device)

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        return -(x.square() + math.log(2 * math.pi)).reshape(len(x), -1).sum(1) / 2

    def exp(self, x: Points, v: Points) -> Points:
        return x + v

    def log(self, x: Points, y: Points) -> Points:
        return y - x

    def project(self, x: Points) -> Points:
        return x

    def integrate_step(self, x: Tensor, v: Tensor, h: float) -> Tensor:
        return torch.add(x, v, alpha=h)
