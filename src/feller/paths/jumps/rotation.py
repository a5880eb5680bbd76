"""Conditional path of rotations, with a uniform source."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.paths.jumps.conditional_path import ConcentrationSchedule
from feller.paths.jumps.radial import RadialConditionalPath
from feller.spaces.rotations import hat, rotation, to_quaternion

_MIN_KAPPA = 1e-8
"""Lower bound on kappa, so that quotients of Bessel functions stay finite."""


@dataclass(frozen=True)
class RotationConditionalPath(RadialConditionalPath):
    """Rotation path with density cosh(kappa_t cos(w / 2)) / (2 I_1(kappa_t) / kappa_t), w the angle from z to x.

    The density is relative to the uniform distribution. This is the von Mises-Fisher distribution of unit quaternions,
    symmetrized over q and -q. States are matrices [..., 3, 3]; velocities are tangent as in `SO3`, in radians per time.
    Source: Holderrieth et al. 2024, arXiv 2410.20587, and its public code; the angle is sampled from its exact
    distribution instead of a grid of rotations.
    """

    event_ndim: ClassVar[int] = 2
    num_uniforms: ClassVar[int] = 3
    concentration: ConcentrationSchedule = field(default_factory=lambda: ConcentrationSchedule(0.01, 1.0, 200.99**4))

    def angle_and_direction(self, x: Tensor, z: Tensor) -> tuple[Float[Tensor, "..."], Tensor]:
        """Return the angle of the rotation from z to x, and its axis, [..., 3]."""
        z = z.to(x.dtype)
        q = to_quaternion(z.mT @ (x - z))
        sine = torch.linalg.vector_norm(q[..., 1:], dim=-1)
        axis = q[..., 1:] / sine.clamp(min=torch.finfo(x.dtype).tiny)[..., None]
        return 2 * torch.atan2(sine, q[..., 0]), axis

    def at_angle(self, z: Tensor, angle: Tensor, direction: Tensor) -> Tensor:
        return z.to(angle.dtype) @ rotation(angle[..., None] * direction.to(angle.dtype))

    def velocity_of_angle(self, x: Tensor, direction: Tensor, rate: Tensor) -> Tensor:
        return x @ hat(rate[..., None] * direction)

    def sample_direction(self, z: Tensor, u: Float64[Tensor, "... n"]) -> tuple[Float64[Tensor, "..."], Tensor]:
        height, longitude = 2 * u[..., 1] - 1, 2 * math.pi * u[..., 2]
        radius = ((1 - height) * (1 + height)).sqrt()
        return u[..., 0], torch.stack([radius * longitude.cos(), radius * longitude.sin(), height], -1)

    def uniform_cdf(self, angle: Tensor) -> Tensor:
        return (angle - torch.sin(angle)) / math.pi

    def uniform_density(self, angle: Tensor) -> Tensor:
        return torch.sin(angle / 2).square()

    def log_unnormalized(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return the unnormalized log density log cosh(kappa c) - kappa with c = cos(angle / 2)."""
        c = torch.cos(angle / 2).clamp(min=0)
        return -2 * kappa * torch.sin(angle / 4).square() + torch.log1p(torch.exp(-2 * kappa * c)) - math.log(2)

    def kappa_score(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return the derivative of the log density in kappa: c tanh(kappa c) - I_2(kappa) / I_1(kappa).

        Here c = cos(angle / 2), and I_1 and I_2 are modified Bessel functions.
        """
        kappa = kappa.double().clamp(min=_MIN_KAPPA)
        i_0, i_1 = torch.special.i0e(kappa), torch.special.i1e(kappa)
        one_minus_ratio = (i_1 - i_0) / i_1 + 2 / kappa  # 1 - I_2 / I_1, by the recurrence of Bessel functions
        c = torch.cos(angle / 2).clamp(min=0)
        correction = c * (1 - torch.tanh(kappa.to(angle.dtype) * c))
        return one_minus_ratio.to(angle.dtype) - 2 * torch.sin(angle / 4).square() - correction

    def log_normalizer(self, kappa: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Return log(16 pi^2 I_1(kappa) / kappa) - kappa, with I_1 the modified Bessel function.

        This is the log of the integral of cosh(kappa c) e^-kappa over all rotations, with c = cos(angle / 2).
        """
        kappa = kappa.clamp(min=_MIN_KAPPA)
        return torch.special.i1e(kappa).log() - kappa.log() + math.log(16 * math.pi**2)
