"""Angles on the way from the uniform law to the data."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.paths.jumps.radial import RadialLaw
from feller.spaces.torus import TURN, wrap


@dataclass(frozen=True)
class VonMisesLaw(RadialLaw):
    """exp(kappa_t cos(x - z)) / (2 pi I_0(kappa_t)) on the circle, from the uniform law.

    Source: Holderrieth et al. 2024, arXiv 2410.20587, whose jumps need a density and no geodesics.
    """

    def offset(self, x: Tensor, z: Tensor) -> tuple[Float[Tensor, "..."], Tensor]:
        """Return the length of the shorter way around, and its sign."""
        way = x - z.to(x.dtype)
        way = way - TURN * torch.round(way / TURN)
        return way.abs(), way.sign()

    def put(self, z: Tensor, angle: Tensor, direction: Tensor) -> Tensor:
        """Return the angle in [0, 2 pi)."""
        return wrap(z.to(angle.dtype) + direction * angle)

    def moving(self, x: Tensor, direction: Tensor, rate: Tensor) -> Tensor:
        """Return the rate with the sign of the direction."""
        return direction * rate

    def any_direction(self, z: Tensor, u: Float64[Tensor, "... n"]) -> tuple[Float64[Tensor, "..."], Tensor]:
        """Let the first bit of the number choose the side."""
        twice = 2 * u[..., 0]
        return twice % 1, torch.where(twice < 1, 1.0, -1.0).double()

    def uniform_share(self, angle: Tensor) -> Tensor:
        """Return angle / pi."""
        return angle / math.pi

    def weight(self, angle: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(angle)

    def log_shape(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return kappa (cos(angle) - 1), as a square that keeps its digits."""
        return -2 * kappa * torch.sin(angle / 2).square()

    def tilt(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return cos(angle) - I_1 / I_0."""
        kappa = kappa.double()
        short = torch.special.i0e(kappa)
        missing = (short - torch.special.i1e(kappa)) / short
        return missing.to(angle.dtype) - 2 * torch.sin(angle / 2).square()

    def log_size(self, kappa: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Return log 2 pi I_0(kappa) - kappa."""
        return torch.special.i0e(kappa).log() + math.log(TURN)
