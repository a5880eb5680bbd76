"""Conditional path of angles, with a uniform source."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.paths.jumps.radial import RadialConditionalPath
from feller.spaces.torus import TWO_PI, wrap


@dataclass(frozen=True)
class VonMisesConditionalPath(RadialConditionalPath):
    """Von Mises path on the circle with density exp(kappa_t cos(x - z)) / (2 pi I_0(kappa_t)).

    Source: Holderrieth et al. 2024, arXiv 2410.20587, whose jumps need a density but no geodesics.
    """

    def angle_and_direction(self, x: Tensor, z: Tensor) -> tuple[Float[Tensor, "..."], Tensor]:
        difference = x - z.to(x.dtype)
        difference = difference - TWO_PI * torch.round(difference / TWO_PI)
        return difference.abs(), difference.sign()

    def at_angle(self, z: Tensor, angle: Tensor, direction: Tensor) -> Tensor:
        return wrap(z.to(angle.dtype) + direction * angle)

    def velocity_of_angle(self, x: Tensor, direction: Tensor, rate: Tensor) -> Tensor:
        return direction * rate

    def sample_direction(self, z: Tensor, u: Float64[Tensor, "... n"]) -> tuple[Float64[Tensor, "..."], Tensor]:
        doubled_u = 2 * u[..., 0]
        return doubled_u % 1, torch.where(doubled_u < 1, 1.0, -1.0).double()

    def uniform_cdf(self, angle: Tensor) -> Tensor:
        return angle / math.pi

    def uniform_density(self, angle: Tensor) -> Tensor:
        return torch.ones_like(angle)

    def log_unnormalized(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return the unnormalized log density kappa (cos(angle) - 1), computed as a square for precision."""
        return -2 * kappa * torch.sin(angle / 2).square()

    def kappa_score(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return the derivative of the log density in kappa: cos(angle) - I_1(kappa) / I_0(kappa)."""
        kappa = kappa.double()
        i_0 = torch.special.i0e(kappa)
        one_minus_ratio = (i_0 - torch.special.i1e(kappa)) / i_0
        return one_minus_ratio.to(angle.dtype) - 2 * torch.sin(angle / 2).square()

    def log_normalizer(self, kappa: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Return log(2 pi I_0(kappa)) - kappa: the log of the integral of exp(log_unnormalized) over the circle."""
        return torch.special.i0e(kappa).log() + math.log(TWO_PI)
