"""Hyperbolic space in the Poincare ball model, suited to trees and hierarchies.

Source: Ganea, Becigneul and Hofmann 2018, "Hyperbolic neural networks", arXiv 1805.09112; the cancellation-free forms
are ours.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_integer
from feller.core.rng import RandomStream
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import asinhc, safe_sqrt, sinhc, sinhc_remainder, tanhc
from feller.spaces.space import Points


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, keepdim=True)


def _conformal_gap(x: Tensor) -> Tensor:
    """Return 1 - |x|^2; the conformal factor of the metric is 2 / (1 - |x|^2)."""
    return 1 - _dot(x, x)


def _sinh_square(x: Tensor, y: Tensor) -> Tensor:
    return _dot(y - x, y - x) / (_conformal_gap(x) * _conformal_gap(y))


@dataclass(frozen=True)
class Poincare(Manifold):
    """Open unit ball with curvature -1; the source is a wrapped normal distribution at the origin."""

    n: int = 2
    """Dimension of the ball."""
    shape: tuple[int, ...] = ()
    """Shape of the array of points in one example."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("n", self.n, ge=1)

    @property
    def dimension(self) -> int:
        return self.n * math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        """Sample z from N(0, I) and apply the exponential map at the origin."""
        z = rng.normal((n, *self.shape, self.n), device=device) / 2
        return tanhc(_dot(z, z)) * z

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        """Return the log density of the wrapped normal, corrected by the log-determinant of the exponential map."""
        s = _sinh_square(torch.zeros_like(x), x)
        square_distance = 4 * s * asinhc(s).square()
        log_probs = (
            -(square_distance + self.n * math.log(2 * math.pi)) / 2 - (self.n - 1) * sinhc(square_distance).log()
        )
        return log_probs.flatten(1).sum(1)

    def exp(self, x: Points, v: Points) -> Points:
        """Compute the exponential map by Moebius addition, without cancellation."""
        w = v / _conformal_gap(x)
        s = _dot(w, w)
        u = tanhc(s) * w
        denominator = _dot(x + u, x + u) + _conformal_gap(x) * (tanhc(s) / sinhc(s)).square()  # 1 + 2 x u + |x|^2 |u|^2
        return self.project(x + _conformal_gap(x) * (u + _dot(u, u) * x) / denominator)

    def log(self, x: Points, y: Points) -> Points:
        """Compute the logarithmic map from y - x, which is precise for nearby points."""
        d, s = y - x, _sinh_square(x, y)
        return asinhc(s) / (_conformal_gap(y) * (1 + s).sqrt()) * (_conformal_gap(x) * d - _dot(d, d) * x)

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        d, gap_x, gap_y = y - x, _conformal_gap(x), _conformal_gap(y)
        xv, dv, dd = _dot(x, v), _dot(d, v), _dot(d, d)
        gyration = (xv * (2 * _dot(x, d) - gap_x) - dv * _dot(x, x)) * d + (dv * gap_x - xv * dd) * x
        return gap_y / gap_x * (v + 2 * gyration / (gap_x * gap_y + dd))

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the derivative of log(x, y) as y moves with velocity v.

        This is v transported to x, with the part orthogonal to the geodesic multiplied by r / sinh(r), where r is the
        distance.
        """
        direction, v = self.log(x, y), self.transport(y, x, v)
        scale = 4 / _conformal_gap(x).square()
        s = scale * _dot(direction, direction)
        return (v + sinhc_remainder(s) * scale * _dot(direction, v) * direction) / sinhc(s)

    def project(self, x: Points) -> Points:
        """Clip points to a radius below 1 at which `1 - |x|^2` still has significant digits."""
        max_radius, s = 1 - 100 * torch.finfo(x.dtype).eps, _dot(x, x)
        is_outside = s > max_radius**2
        return torch.where(is_outside, x * (max_radius / s.masked_fill(~is_outside, 1.0).sqrt()), x)

    def to_tangent(self, x: Points, v: Points) -> Points:
        return v

    def whiten_probe(self, x: Points, z: Points) -> tuple[Tensor, Tensor]:
        """Return the tangent vector z / c and its dual c z, where c is the conformal factor at x.

        c is computed up to a factor 2, which cancels in the product of the two results.
        """
        gap = _conformal_gap(x)
        return gap * z, z / gap

    def norm(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        return safe_sqrt((4 * _dot(v, v) / _conformal_gap(x).square()).flatten(1).sum(1))

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        s = _sinh_square(x, y)
        return safe_sqrt((4 * s * asinhc(s).square()).flatten(1).sum(1))

    def log_volume_rate(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        return (2 * self.n * _dot(x, v) / _conformal_gap(x)).flatten(1).sum(1)
