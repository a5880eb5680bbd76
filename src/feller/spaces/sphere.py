"""Unit sphere, for directions."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_integer
from feller.core.pytree import maybe_any
from feller.core.rng import RandomStream
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import angle_over_sine, cosc, sinc, sinc_remainder
from feller.spaces.space import Points

ANTIPODE_SINE = 1e-15
"""Sine of the angle below which a float64 point counts as the antipode; an arbitrary geodesic is then chosen."""
MIN_SINE = 2e-19
"""Lower bound on a sine in a denominator; its square is above zero in float32."""


def great_circle_exp(x: Float[Tensor, "*d"], v: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return the points at time 1 of great circles from unit vectors x with velocities v."""
    s = v.square().sum(-1, keepdim=True)
    y = (1 - s * cosc(s)) * x + sinc(s) * v
    return y / y.square().sum(-1, keepdim=True).sqrt()


def great_circle_log(
    x: Float[Tensor, "*d n"], w: Float[Tensor, "*d n"], cosine: Float[Tensor, "*d 1"]
) -> Float[Tensor, "*d n"]:
    """Return the velocities at x of great circles that reach points y at time 1.

    `w` is y plus any multiple of x, and `cosine` the cosine of the angle between x and y. The tangent part of w, whose
    norm is sin(angle), is rescaled so that its norm is the angle.
    """
    w = w - (x * w).sum(-1, keepdim=True) * x
    s = w.square().sum(-1, keepdim=True)
    is_antipode = (s < ANTIPODE_SINE**2) & (cosine < 0)
    if maybe_any(is_antipode):
        w, s = (
            torch.where(is_antipode, ANTIPODE_SINE * orthogonal_unit(x), w),
            s.masked_fill(is_antipode, ANTIPODE_SINE**2),
        )
    return angle_over_sine(s, cosine) * w


def orthogonal_unit(x: Float[Tensor, "*d n"]) -> Float[Tensor, "*d n"]:
    """Return a unit vector orthogonal to x: the projected first axis, or second axis if x is close to the first."""
    axis_index = x[..., :1].abs() > 0.8
    axis = (torch.arange(x.shape[-1], device=x.device) == axis_index).to(x)
    axis = axis - (x * axis).sum(-1, keepdim=True) * x
    return axis / axis.square().sum(-1, keepdim=True).sqrt()


def great_circle_transport(
    x: Float[Tensor, "*d"], direction: Float[Tensor, "*d"], v: Float[Tensor, "*d"]
) -> Float[Tensor, "*d"]:
    """Parallel-transport v along the great circle from x with velocity `direction` to time 1."""
    s = direction.square().sum(-1, keepdim=True)
    return v - (direction * v).sum(-1, keepdim=True) * (cosc(s) * direction + sinc(s) * x)


def great_circle_log_differential(
    x: Float[Tensor, "*d"], y: Float[Tensor, "*d"], direction: Float[Tensor, "*d"], v: Float[Tensor, "*d"]
) -> Float[Tensor, "*d"]:
    """Return the derivative of log(x, y) as y moves with velocity v; `direction` is log(x, y).

    After transport to x, the part of v along the great circle is unchanged. The orthogonal part is scaled by
    r / sin(r), because great circles diverge more slowly than straight lines.
    """
    s = direction.square().sum(-1, keepdim=True)
    reversed_velocity = -(1 - s * cosc(s)) * direction + s * sinc(s) * x  # velocity at y of the reversed geodesic
    v = great_circle_transport(y, reversed_velocity, v)
    return (v - sinc_remainder(s) * (direction * v).sum(-1, keepdim=True) * direction) / sinc(s)


@dataclass(frozen=True)
class Sphere(Manifold):
    """Unit sphere in n + 1 dimensions, with the uniform distribution as source; distances are angles."""

    n: int = 2
    """Dimension of the sphere; 2 is the ordinary sphere in space."""
    shape: tuple[int, ...] = ()
    """Shape of the array of points in one example."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("n", self.n, ge=1)

    @property
    def dimension(self) -> int:
        return self.n * math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        return self.project(rng.normal((n, *self.shape, self.n + 1), device=device))

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        half = (self.n + 1) / 2
        log_area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
        return x.new_full((len(x),), -log_area * math.prod(self.shape))

    def exp(self, x: Points, v: Points) -> Points:
        return great_circle_exp(x, v)

    def log(self, x: Points, y: Points) -> Points:
        """Compute the logarithmic map: velocities of the shortest arcs.

        The formula uses y - x for near points and y + x for near antipodes, because y itself would round off small
        angles.
        """
        cosine = (x * y).sum(-1, keepdim=True)
        return great_circle_log(x, torch.where(cosine >= 0, y - x, y + x), cosine)

    def geodesic_interpolant(self, x: Tensor, y: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
        cosine = (x * y).sum(-1, keepdim=True)
        w = torch.addcmul(y, cosine.sign(), x, value=-1)  # free of rounding, as in `log`
        w = torch.addcmul(w, (x * w).sum(-1, keepdim=True), x, value=-1)
        sine = w.square().sum(-1, keepdim=True).clamp(min=MIN_SINE**2).sqrt()
        is_degenerate = sine < ANTIPODE_SINE
        if maybe_any(is_degenerate):
            is_antipode = is_degenerate & (cosine < 0)
            w, sine = (
                torch.where(is_antipode, MIN_SINE * orthogonal_unit(x), w),
                sine.masked_fill(is_antipode, MIN_SINE),
            )
        angle, direction = torch.atan2(sine, cosine), w / sine
        partial_angle = fraction * angle
        a, b = partial_angle.cos(), partial_angle.sin()
        return torch.addcmul(a * x, b, direction), angle * torch.addcmul(a * direction, b, x, value=-1)

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        return great_circle_transport(x, self.log(x, y), v)

    def transport_along(self, x: Tensor, direction: Tensor, v: Tensor) -> Tensor:
        return great_circle_transport(x, direction, v)

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return great_circle_log_differential(x, y, self.log(x, y), v)

    def project(self, x: Points) -> Points:
        """Divide by the norm; the origin, which is equally far from all points, maps to the first unit vector."""
        is_first = torch.arange(x.shape[-1], device=x.device) == 0
        x = torch.where((x == 0).all(-1, keepdim=True) & is_first, torch.ones_like(x), x)
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    def to_tangent(self, x: Points, v: Points) -> Points:
        return v - (x * v).sum(-1, keepdim=True) * x
