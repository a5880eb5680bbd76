"""Driftless diffusion, as an example of a generator; no recipe uses it.

A driftless process keeps the mean, so none exists for a path whose mean moves, such as straight lines from noise to
data. Source: Holderrieth et al. 2024, arXiv 2410.20587, equation 10.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError


@dataclass(frozen=True)
class AbsorbingDiffusion:
    """Diffusion for the mixture of a uniform law on an interval and a point mass kappa_t at z.

    The variance is 0 at z, but finite steps cross it: call `absorb` after each step, or about half of the mass at z is
    lost. The ends of the interval reflect.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError("an interval needs low < high", found=f"{self.low:g} and {self.high:g}")

    def variance(
        self, x: Float[Tensor, "..."], z: Float[Tensor, "..."], kappa: Tensor | float, d_kappa: Tensor | float
    ) -> Float[Tensor, "..."]:
        """Return g^2 at x: 2 kappa' / (1 - kappa) times ((z - low)^2 - (x - low)^2) / 2 + length [x - z]_+."""
        length = self.high - self.low
        within = ((z - self.low).square() - (x - self.low).square()) / 2 + length * (x - z).clamp(min=0)
        return 2 * d_kappa / (1 - kappa) * within.clamp(min=0)

    def absorb(self, x: Float[Tensor, "..."], y: Float[Tensor, "..."], z: Tensor) -> Float[Tensor, "..."]:
        """Return where a step from x to y ends: at z if it met or crossed z, else y, reflected at the ends."""
        y = self.low + (y - self.low).abs()
        y = self.high - (self.high - y).abs()
        return torch.where((x - z) * (y - z) <= 0, z, y)
