"""How sharply a law on a curved space gathers around its end."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import UsageError


@dataclass(frozen=True)
class Growth:
    """kappa_t = least + scale (factor^t - 1): from nearly uniform at t = 0 to a deviation of 1 / sqrt(kappa_1) radians.

    The paper's, for the orientations of proteins, is Growth(0.01, 1.0, 200.99**4), with kappa_1 = 1.6e9.
    """

    least: float = 0.0
    scale: float = 0.05
    factor: float = 8001.0

    def __post_init__(self) -> None:
        if not (self.least >= 0 and self.scale > 0 and self.factor > 1):
            raise UsageError(
                f"a concentration must not be negative and must grow, expected least >= 0, scale > 0, factor > 1, "
                f"got {self}"
            )

    def __call__(self, t: Tensor) -> Float64[Tensor, "..."]:
        """Return kappa."""
        return self.least + self.scale * torch.expm1(math.log(self.factor) * t.double())

    def rate(self, t: Tensor) -> Float64[Tensor, "..."]:
        """Return the time derivative of kappa."""
        return self.scale * math.log(self.factor) * torch.exp(math.log(self.factor) * t.double())
