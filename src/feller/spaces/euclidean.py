"""Real vectors, images, any array of real numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from feller.draws import Draw
from feller.spaces.space import Space


@dataclass(frozen=True)
class Euclidean(Space):
    """R^shape with the standard normal law as source."""

    shape: tuple[int, ...] = ()
    """Shape of one example; only `reference` needs it."""

    def reference(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> Tensor:
        """Draw from N(0, I)."""
        return draw.normal((n, *self.shape), device=device)

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        """Add."""
        return x + v

    def move(self, x: Tensor, v: Tensor, h: float) -> Tensor:
        """Add h v, in one operation."""
        return torch.add(x, v, alpha=h)
