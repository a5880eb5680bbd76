"""Conditional paths on curved spaces whose density depends on the angle to the endpoint.

Angle nodes are dense where a concentrated density has its mass and geometrically spaced beyond, so that one table size
suffices for concentrations from 0 to 1e10.
"""

import abc
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.paths.discrete.token_distribution import unique_times
from feller.paths.jumps.conditional_path import ConcentrationSchedule, ConditionalPath, same_times
from feller.paths.jumps.jump_step_rules import MaximalCoupling

_POINTS = torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64)
_WEIGHTS = torch.tensor([5 / 18, 8 / 18, 5 / 18], dtype=torch.float64)
"""Gauss-Legendre nodes and weights, of order 6."""
TABLE_NODES, TRAINING_TABLE_NODES = 1024, 384
"""Number of nodes in tables of velocities and destinations, and in tables of states at training times.

Training uses fewer nodes because it needs a table for each of many times. Both numbers are constants, because otherwise
a state would depend on the other examples of the batch."""
_STEEP = 5.0
"""Decrease of the log density from one node to the next above which it is integrated as an exponential."""


class AngularDensity(abc.ABC):
    """Density of the angle to the endpoint, for concentration kappa.

    The density is proportional to uniform_density(angle) exp(log_unnormalized(angle, kappa)).
    """

    @abc.abstractmethod
    def uniform_density(self, angle: Tensor) -> Tensor:
        """Return the angular density of the uniform distribution, up to a factor."""

    @abc.abstractmethod
    def log_unnormalized(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return the log density relative to the uniform distribution, up to a constant that makes it at most 0."""

    @abc.abstractmethod
    def kappa_score(self, angle: Tensor, kappa: Tensor) -> Tensor:
        """Return the derivative of the log density in kappa; it decreases with the angle and changes sign."""


@dataclass(frozen=True)
class AngleNodes:
    """Angles at which a function is tabulated, one row of the table per concentration kappa.

    The angles are scale * sinh(stretch i / size) for i = 0, ..., size, which are dense near 0.
    """

    kappa: Float64[Tensor, "n 1"]
    """Largest concentration that the nodes of each table row resolve."""
    size: int = TABLE_NODES

    @property
    def scale(self) -> Float64[Tensor, "n 1"]:
        """Width of the region with dense nodes."""
        return 2 / (1 + self.kappa).sqrt()

    @property
    def stretch(self) -> Float64[Tensor, "n 1"]:
        """Parameter asinh(pi / scale), for which the last node is pi."""
        return torch.asinh(math.pi / self.scale)

    @property
    def angles(self) -> Float64[Tensor, "n m"]:
        """Angles of all nodes."""
        fractions = torch.linspace(0, 1, self.size + 1, dtype=torch.float64, device=self.kappa.device)
        return self.angle(fractions).clamp(max=math.pi)

    def angle(self, along: Tensor) -> Tensor:
        """Return the angles at positions `along` in [0, 1], where node i has position i / size."""
        return self.scale * torch.sinh(self.stretch * along)

    def interpolate(self, values: Float64[Tensor, "n m"], row: Tensor, angle: Tensor) -> Tensor:
        """Interpolate the values of table row `row` linearly at `angle`; `row` and `angle` broadcast."""
        scale, stretch = (parameter[:, 0].to(angle.dtype)[row] for parameter in (self.scale, self.stretch))
        position = torch.asinh(angle / scale) / stretch * self.size
        cell = position.floor().clamp(0, self.size - 1)
        flat, left = values.to(angle.dtype).flatten(), (cell.long() + row * (self.size + 1))
        return torch.lerp(flat[left], flat[left + 1], (position - cell).clamp(0, 1))

    def invert(
        self, cdf: Float64[Tensor, "n m"], row: Tensor, target: Float64[Tensor, "..."]
    ) -> Float64[Tensor, "..."]:
        """Invert a CDF given at the nodes: return the angles at which the CDF of each `row` equals `target` < 1."""
        row = row.expand(target.shape)
        rows = torch.arange(len(cdf), dtype=torch.float64, device=cdf.device)[:, None]
        right = torch.searchsorted((cdf + 2 * rows).flatten(), (target + 2 * row).contiguous(), right=True)
        right = torch.minimum(torch.maximum(right, row * (self.size + 1) + 1), row * (self.size + 1) + self.size)
        cdf_left, cdf_right = cdf.flatten()[right - 1], cdf.flatten()[right]
        fraction = ((target - cdf_left) / (cdf_right - cdf_left).clamp(min=1e-300)).clamp(0, 1)
        node_fraction = (right - 1 - row * (self.size + 1) + fraction) / self.size
        scale, stretch = self.scale[:, 0][row], self.stretch[:, 0][row]
        return (scale * torch.sinh(stretch * node_fraction)).clamp(max=math.pi)


def cdf_at_nodes(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> Float64[Tensor, "n m"]:
    """Return the CDF of the angle at the nodes, by Simpson's rule."""
    fractions = torch.linspace(0, 1, 2 * at.size + 1, dtype=torch.float64, device=kappa.device)
    angle = at.angle(fractions).clamp(max=math.pi)
    density = (
        shape.log_unnormalized(angle, kappa[:, None]).exp_()
        * shape.uniform_density(angle)
        * torch.cosh(at.stretch * fractions)
    )
    cumulative = (density[:, :-1:2] + 4 * density[:, 1::2] + density[:, 2::2]).cumsum(1)
    return torch.nn.functional.pad(cumulative / cumulative[:, -1:], (1, 0))


def cdf_kappa_derivative(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> Float64[Tensor, "n m"]:
    """Return the derivative in kappa of the CDF at the nodes; arguments are those of `cdf_at_nodes`."""
    log_mass, log_tilt, sign = _sums(shape, at, kappa)
    total = log_mass.exp().sum(1, keepdim=True)
    return torch.nn.functional.pad((sign * log_tilt.exp()).cumsum(1) / total, (1, 0))


def angle_velocity(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> Float64[Tensor, "n m"]:
    """Return the velocity of the angle per unit of kappa at the nodes: -(d/dkappa CDF) / density.

    Arguments are those of `cdf_at_nodes`. The integral of `kappa_score` starts at angle 0 below the sign change of
    `kappa_score`, and at pi above the sign change. The integral is computed in logarithms, so it is accurate even where
    the density underflows.
    """
    angle = at.angles
    _, log_tilt, sign = _sums(shape, at, kappa)
    tilt = shape.kappa_score(angle, kappa[:, None])
    below = log_tilt.masked_fill((sign < 0) | (tilt[:, 1:] < 0), -torch.inf).logcumsumexp(1)
    above = log_tilt.masked_fill((sign > 0) | (tilt[:, :-1] > 0), -torch.inf).flip(1).logcumsumexp(1).flip(1)
    below, above = (torch.nn.functional.pad(*args, value=-torch.inf) for args in ((below, (1, 0)), (above, (0, 1))))
    log_density = shape.log_unnormalized(angle, kappa[:, None]) + shape.uniform_density(angle).log()
    velocity = -torch.exp(torch.where(tilt >= 0, below, above) - log_density)
    velocity[:, 0] = 0.0
    return velocity


def _sums(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate the density, and `kappa_score` times the density, over each interval between nodes, [n, m - 1].

    Returns the log of the first integral, and the log absolute value and the sign of the second.
    """
    angle = at.angles
    half_width = (angle[:, 1:] - angle[:, :-1])[..., None] / 2
    centre = (angle[:, 1:] + angle[:, :-1])[..., None] / 2
    points = centre + half_width * _POINTS.to(kappa.device)
    log_weights = (2 * half_width * _WEIGHTS.to(kappa.device) * shape.uniform_density(points)).log()
    log_mass = log_weights + shape.log_unnormalized(points, kappa[:, None, None])
    tilt = shape.kappa_score(points, kappa[:, None, None])
    max_log_mass = log_mass.amax(2, keepdim=True)
    integral = (tilt * (log_mass - max_log_mass).exp()).sum(2)
    log_tilt = integral.abs().log() + max_log_mass[..., 0]
    is_steep, steep_integral = _steep(shape, angle, kappa)
    return log_mass.logsumexp(2), torch.where(is_steep, steep_integral, log_tilt), integral.sign()


def _steep(shape: AngularDensity, angle: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask of intervals where the density falls too fast for quadrature, and log integrals for these.

    The integrals approximate the density by an exponential.
    """
    log_shape = shape.log_unnormalized(angle, kappa[:, None])
    log_height = log_shape + (shape.uniform_density(angle) * shape.kappa_score(angle, kappa[:, None]).abs()).log()
    drop = log_shape[:, :-1] - log_shape[:, 1:]
    return drop > _STEEP, log_height[:, :-1] + ((angle[:, 1:] - angle[:, :-1]) / drop).log()


@dataclass(frozen=True)
class RadialConditionalPath(ConditionalPath, AngularDensity):
    """Conditional path whose density depends on the angle to the endpoint; subclasses define angle and density.

    The flow changes the angle along a fixed direction from the endpoint; jumps land in a new uniform direction. Rates
    have closed forms; velocities and destinations come from tables over (time, angle).
    """

    default_rule = MaximalCoupling()
    concentration: ConcentrationSchedule = field(default_factory=ConcentrationSchedule)
    """Concentration kappa as a function of time."""

    @abc.abstractmethod
    def angle_and_direction(self, x: Tensor, z: Tensor) -> tuple[Float[Tensor, "..."], Tensor]:
        """Return the angle from z to x, in [0, pi], and the direction from z to x."""

    @abc.abstractmethod
    def at_angle(self, z: Tensor, angle: Tensor, direction: Tensor) -> Tensor:
        """Return the state at the given angle from z in the given direction."""

    @abc.abstractmethod
    def velocity_of_angle(self, x: Tensor, direction: Tensor, rate: Tensor) -> Tensor:
        """Return the velocity of the state x if its angle to the start z grows at `rate` along `direction`."""

    @abc.abstractmethod
    def sample_direction(self, z: Tensor, u: Float64[Tensor, "... n"]) -> tuple[Float64[Tensor, "..."], Tensor]:
        """Return a uniform number, from which the angle is sampled, and a uniformly sampled direction from z."""

    @abc.abstractmethod
    def uniform_cdf(self, angle: Tensor) -> Tensor:
        """Return the CDF of the angle under the uniform distribution."""

    @abc.abstractmethod
    def log_normalizer(self, kappa: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Return the log of the integral of exp(log_unnormalized) over the space."""

    def sample(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Transport x_0 to time t: keep the direction from z to x_0, and choose the angle with the same CDF value."""
        angle, direction = self.angle_and_direction(x_0, z)
        kappa, row = self._unique_kappas(t)
        nodes = AngleNodes(kappa[:, None], TRAINING_TABLE_NODES)
        target = self.uniform_cdf(angle.double()).clamp(0, 1 - 2**-53)
        return self.at_angle(z, nodes.invert(cdf_at_nodes(self, nodes, kappa), row, target).to(angle.dtype), direction)

    def _unique_kappas(self, t: Tensor) -> tuple[Float64[Tensor, " n"], Tensor]:
        """Return the distinct concentrations kappa at times t, and for each time the index of its concentration."""
        times, row = _unique_times(t)
        return self.concentration(times), row

    def log_density(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        angle, _ = self.angle_and_direction(x, z)
        kappa = self.concentration(t)
        return self.log_unnormalized(angle, kappa.to(angle.dtype)) - self.log_normalizer(kappa).to(angle.dtype)

    def time_derivative(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        angle, _ = self.angle_and_direction(x, z)
        return self.concentration.time_derivative(t).to(angle.dtype) * self.kappa_score(angle, self.concentration(t))

    def log_density_change(self, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        angle, _ = self.angle_and_direction(x, z)
        kappa_t, kappa_s = self.concentration(t), self.concentration(s)
        log_t, log_s = (self.log_unnormalized(angle, kappa.to(angle.dtype)) for kappa in (kappa_t, kappa_s))
        return log_s - log_t - (self.log_normalizer(kappa_s) - self.log_normalizer(kappa_t)).to(angle.dtype)

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        angle, direction = self.angle_and_direction(x, z)
        kappa, row = self._unique_kappas(t)
        nodes = AngleNodes(kappa[:, None])
        per_kappa = nodes.interpolate(angle_velocity(self, nodes, kappa), row, angle)
        return self.velocity_of_angle(x, direction, self.concentration.time_derivative(t).to(angle.dtype) * per_kappa)

    def sample_increase(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        nodes, row, increase = self._cdf_increase(t, s)
        u_angle, direction = self.sample_direction(z, u)
        running_max = increase.cummax(1).values
        angle = nodes.invert(running_max / running_max[:, -1:], row, u_angle)
        return self.at_angle(z.double(), angle, direction)

    def sample_decrease(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        nodes, row, increase = self._cdf_increase(t, s)
        u_angle, direction = self.sample_direction(z, u)
        running_max = increase.cummax(1).values
        angle = nodes.invert((running_max - increase) / running_max[:, -1:], row, u_angle)
        return self.at_angle(z.double(), angle, direction)

    def _cdf_increase(self, t: Tensor, s: Tensor) -> tuple[AngleNodes, Tensor, Float64[Tensor, "n m"]]:
        """Return a table of the increase from t to s of the CDF of the angle to the endpoint.

        It has one row per distinct pair of times: the nodes, the row of each entry, and the increase at the nodes. For
        t = s, it is the derivative of the CDF.
        """
        kappa_s, row = self._unique_kappas(s)
        if same_times(t, s):
            nodes = AngleNodes(kappa_s[:, None])
            return nodes, row, cdf_kappa_derivative(self, nodes, kappa_s)
        kappa_t, row_t = self._unique_kappas(t)
        row = row_t * len(kappa_s) + row
        kappa_t, kappa_s = kappa_t.repeat_interleave(len(kappa_s)), kappa_s.repeat(len(kappa_t))
        nodes = AngleNodes(kappa_s[:, None])
        return nodes, row, cdf_at_nodes(self, nodes, kappa_s) - cdf_at_nodes(self, nodes, kappa_t)


def _unique_times(t: Tensor) -> tuple[Float[Tensor, " n"], Tensor]:
    """Return the distinct times, and the index of each time among them, in the shape of the times."""
    if t.numel() and not any(t.stride()) and not torch._C._functorch.is_functorch_wrapped_tensor(t):
        return t.reshape(-1)[:1], torch.zeros((1,) * t.ndim, dtype=torch.long, device=t.device)
    times, row = unique_times(t.reshape(-1))
    return times, row.view(t.shape)
