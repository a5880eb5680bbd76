"""Gaussian paths between pairs of points, with piecewise linear mean and scale, and diffusions with their marginals.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233. Energies are relative to the
Brownian bridge, as absolute ones diverge near the end.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from feller.core.errors import UsageError, check_number

SOFTPLUS_OFFSET = math.log(math.e - 1)
"""Argument at which softplus is 1, so that zero knots give the Brownian bridge.

The standard deviation is that of the Brownian bridge times h = softplus(y + SOFTPLUS_OFFSET), where y has knots. At
both ends h must be 1: otherwise the path would be singular with respect to the Brownian bridge.
"""
NODES = 8
"""Number of Gauss-Legendre nodes between two knots, for computing energies."""


@dataclass(frozen=True, eq=False)
class PathMoments:
    """Mean and standard deviation of paths at given times, and their time derivatives."""

    mean: Float[Tensor, "*b d"]
    velocity: Float[Tensor, "*b d"]
    """Time derivative of the mean."""
    std: Float[Tensor, "*b"]
    """Standard deviation, which is the same for every coordinate."""
    std_rate: Float[Tensor, "*b"]
    """Time derivative of the standard deviation, which is unbounded at both ends."""


@dataclass(frozen=True, eq=False)
class GaussianPaths:
    """Gaussian paths X_t ~ N(m_t, gamma_t^2 I), t in [0, 1], of endpoint pairs; each path goes exactly from x_0 to x_1.

    The mean m_t is linear between equally spaced knots. The standard deviation gamma_t is that of the Brownian bridge
    times h = softplus(y + log(e - 1)), with y linear between its own knots and 0 at both ends.
    """

    means: Float[Tensor, "n k d"]
    """Knots of the mean; the first and last are x_0 and x_1."""
    scales: Float[Tensor, "n l"]
    """Knots of y, which determines the standard deviation."""
    noise: float
    """Standard deviation of the free Brownian motion at time 1; 0 for deterministic paths."""

    def __post_init__(self) -> None:
        check_number("noise", self.noise, ge=0, lt=math.inf, remedy="Give it in data units")
        if min(self.means.shape[1], self.scales.shape[1]) < 2:
            raise UsageError(
                "at least 2 knots",
                f"{self.means.shape[1]} of the mean and {self.scales.shape[1]} of the scale",
                "Add knots; the first and the last are the ends of the path",
            )

    @classmethod
    def from_knots(cls, knots: Float[Tensor, "n k d"], noise: float, scale_knots: int) -> "GaussianPaths":
        """Return paths with the given knots of the mean, and with the standard deviation of the Brownian bridge.

        Args:
            knots: Knots of the mean; the first and last are x_0 and x_1.
            noise: Standard deviation of the free Brownian motion at time 1.
            scale_knots: Number of knots of the standard deviation.
        """
        return cls(knots, knots.new_zeros(len(knots), scale_knots), noise)

    @classmethod
    def brownian_bridges(
        cls, x_0: Float[Tensor, "n d"], x_1: Float[Tensor, "n d"], noise: float, mean_knots: int, scale_knots: int
    ) -> "GaussianPaths":
        """Return the Brownian bridges from x_0 to x_1, as Gaussian paths.

        Args:
            x_0: Start points.
            x_1: End points.
            noise: Standard deviation of the free Brownian motion at time 1.
            mean_knots: Number of knots of the mean, both ends included.
            scale_knots: Number of knots of the standard deviation, both ends included.
        """
        fractions = torch.linspace(0, 1, mean_knots, dtype=x_0.dtype, device=x_0.device)[:, None]
        return cls.from_knots(torch.lerp(x_0[:, None], x_1[:, None], fractions), noise, scale_knots)

    def select(self, index: Int[Tensor, " b"] | slice) -> "GaussianPaths":
        """Return the paths of selected pairs."""
        return GaussianPaths(self.means[index], self.scales[index], self.noise)

    def grid(self, t: Float[Tensor, " s"]) -> PathMoments:
        """Return the moments of all n paths at s shared times, [n, s, ...]."""
        t = t.to(self.means.dtype)
        (mean, velocity), (y, y_rate) = (interpolation(t, knots.shape[1]) for knots in (self.means, self.scales))
        return PathMoments(
            mean @ self.means, velocity @ self.means, *self._std_and_rate(self.scales @ y.T, self.scales @ y_rate.T, t)
        )

    def moments_at(self, rows: Int[Tensor, " b"], t: Float[Tensor, " b"]) -> PathMoments:
        """Return the moments of the paths with indices `rows`, each at its own time, [b, ...]."""
        t = t.to(self.means.dtype)
        mean, velocity = _interpolate_rows(self.means, rows, t)
        return PathMoments(mean, velocity, *self._std_and_rate(*_interpolate_rows(self.scales, rows, t), t))

    def _std_and_rate(self, y: Tensor, y_rate: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if not self.noise:
            return torch.zeros_like(y), torch.zeros_like(y)
        h, h_rate = multiplier(y, y_rate)
        bridge = (t * (1 - t)).sqrt()
        return self.noise * bridge * h, self.noise * ((1 - 2 * t) / (2 * bridge) * h + bridge * h_rate)


def interpolation(t: Float[Tensor, " s"], knots: int) -> tuple[Float[Tensor, "s k"], Float[Tensor, "s k"]]:
    """Return the matrices that map values at equally spaced knots in [0, 1] to values, and to slopes, at times t."""
    low, fraction = _knot_position(t, knots)
    values, slopes = t.new_zeros(2, len(t), knots)
    values.scatter_(1, low[:, None], 1 - fraction[:, None]).scatter_(1, low[:, None] + 1, fraction[:, None])
    slopes.scatter_(1, low[:, None], 1.0 - knots).scatter_(1, low[:, None] + 1, knots - 1.0)
    return values, slopes


def multiplier(y: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the multiplier h = softplus(y + log(e - 1)) of the standard deviation, and the time derivative of h.

    `slope` is the time derivative of y.
    """
    return torch.nn.functional.softplus(y + SOFTPLUS_OFFSET), torch.sigmoid(y + SOFTPLUS_OFFSET) * slope


def drift(
    moments: PathMoments, x: Float[Tensor, "*b d"], t: Float[Tensor, "*c"], noise: float, *, backward: bool = False
) -> Float[Tensor, "*b d"]:
    """Return the forward or backward drift, in state units per time, of the diffusion with the marginals of a path.

    Args:
        moments: Moments of the path at t.
        x: States; where the standard deviation is 0, they must equal the mean.
        t: Times in [0, 1], broadcastable to the batch axes of the moments.
        noise: Diffusion coefficient of the process.
        backward: True to return the drift v of the backward process dY = v dr + noise dW in the time r = 1 - t.
    """
    velocity = -moments.velocity if backward else moments.velocity
    if not noise:
        return velocity
    bridge_variance = t * (1 - t)
    h = moments.std / (noise * bridge_variance.sqrt())
    log_rate = moments.std_rate / moments.std  # time derivative of log gamma
    gain = (-log_rate if backward else log_rate) - 1 / (2 * bridge_variance * h.square())
    gain = torch.where(moments.std > 0, gain, 0)
    return velocity + gain[..., None] * (x - moments.mean)


def kinetic(paths: GaussianPaths) -> Float[Tensor, " n"]:
    """Return the kinetic energy relative to the Brownian bridge, that is, noise^2 times the KL divergence from it.

    Here m is the mean, and h the ratio of the standard deviation to that of the Brownian bridge. The energy is
    1/2 int |m'|^2 dt - 1/2 |x_1 - x_0|^2, exact for piecewise linear means, plus
    d noise^2 / 8 int (h - 1/h)^2 / (t (1 - t)) + 4 t (1 - t) h'^2 dt: the cross terms are total derivatives.
    """
    k = paths.means.shape[1]
    straight_sq = (paths.means[:, -1] - paths.means[:, 0]).square().sum(-1)
    excess = ((k - 1) * paths.means.diff(dim=1).square().sum((1, 2)) - straight_sq) / 2
    if not paths.noise:
        return excess
    t, weights = (values.to(paths.scales) for values in quadrature(paths.scales.shape[1]))
    y, y_rate = interpolation(t, paths.scales.shape[1])
    h, h_rate = multiplier(paths.scales @ y.T, paths.scales @ y_rate.T)
    bridge_variance = t * (1 - t)
    scale_energy = ((h - 1 / h).square() / bridge_variance + 4 * bridge_variance * h_rate.square()) @ weights
    return excess + paths.means.shape[-1] * paths.noise**2 / 8 * scale_energy


def quadrature(knots: int) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
    """Return nodes and weights, in float64, of the composite quadrature on [0, 1] over the intervals between knots."""
    nodes, weights = (torch.from_numpy(array) for array in leggauss(NODES))
    starts = torch.arange(knots - 1, dtype=torch.float64)[:, None]
    return ((starts + (nodes + 1) / 2) / (knots - 1)).flatten(), weights.repeat(knots - 1) / (2 * (knots - 1))


def _knot_position(t: Tensor, knots: int) -> tuple[Tensor, Tensor]:
    """Return the index of the knot at or before each time t, and how far t is on the way to the next knot, 0 to 1."""
    position = t * (knots - 1)
    low = position.long().clamp(0, knots - 2)
    return low, position - low


def _interpolate_rows(knots: Tensor, rows: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return value and time derivative of the paths `rows` at times t, interpolated between their knots."""
    low, fraction = _knot_position(t, knots.shape[1])
    left, right = knots[rows, low], knots[rows, low + 1]
    fraction = fraction.reshape(-1, *(1,) * (knots.ndim - 2))
    return torch.lerp(left, right, fraction), (knots.shape[1] - 1) * (right - left)
