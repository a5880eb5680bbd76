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
"""Drop of the log density between two nodes above which the density is integrated as an exponential."""


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
    """Nodes of a table over angles: scale * sinh(stretch i / size) for i = 0, ..., size, for each row of the table."""

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
        along = torch.linspace(0, 1, self.size + 1, dtype=torch.float64, device=self.kappa.device)
        return self.angle(along).clamp(max=math.pi)

    def angle(self, along: Tensor) -> Tensor:
        """Return the angles at positions `along` in [0, 1], where node i has position i / size."""
        return self.scale * torch.sinh(self.stretch * along)

    def interpolate(self, values: Float64[Tensor, "n m"], row: Tensor, angle: Tensor) -> Tensor:
        """Interpolate the values of table row `row` linearly at `angle`; `row` and `angle` broadcast."""
        scale, stretch = (part[:, 0].to(angle.dtype)[row] for part in (self.scale, self.stretch))
        place = torch.asinh(angle / scale) / stretch * self.size
        cell = place.floor().clamp(0, self.size - 1)
        flat, first = values.to(angle.dtype).flatten(), (cell.long() + row * (self.size + 1))
        return torch.lerp(flat[first], flat[first + 1], (place - cell).clamp(0, 1))

    def invert(
        self, cdf: Float64[Tensor, "n m"], row: Tensor, target: Float64[Tensor, "..."]
    ) -> Float64[Tensor, "..."]:
        """Invert a CDF given at the nodes: return the angles at which the CDF of each `row` equals `target` < 1."""
        row = row.expand(target.shape)
        lines = torch.arange(len(cdf), dtype=torch.float64, device=cdf.device)[:, None]
        last = torch.searchsorted((cdf + 2 * lines).flatten(), (target + 2 * row).contiguous(), right=True)
        last = torch.minimum(torch.maximum(last, row * (self.size + 1) + 1), row * (self.size + 1) + self.size)
        before, after = cdf.flatten()[last - 1], cdf.flatten()[last]
        fraction = ((target - before) / (after - before).clamp(min=1e-300)).clamp(0, 1)
        along = (last - 1 - row * (self.size + 1) + fraction) / self.size
        scale, stretch = self.scale[:, 0][row], self.stretch[:, 0][row]
        return (scale * torch.sinh(stretch * along)).clamp(max=math.pi)


def cdf_at_nodes(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> Float64[Tensor, "n m"]:
    """Return the CDF of the angle at the nodes, by Simpson's rule."""
    along = torch.linspace(0, 1, 2 * at.size + 1, dtype=torch.float64, device=kappa.device)
    angle = at.angle(along).clamp(max=math.pi)
    density = (
        shape.log_unnormalized(angle, kappa[:, None]).exp_()
        * shape.uniform_density(angle)
        * torch.cosh(at.stretch * along)
    )
    total = (density[:, :-1:2] + 4 * density[:, 1::2] + density[:, 2::2]).cumsum(1)
    return torch.nn.functional.pad(total / total[:, -1:], (1, 0))


def cdf_kappa_derivative(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> Float64[Tensor, "n m"]:
    """Return d/dkappa of the CDF of the angle at the nodes."""
    log_mass, log_tilt, sign = _sums(shape, at, kappa)
    total = log_mass.exp().sum(1, keepdim=True)
    return torch.nn.functional.pad((sign * log_tilt.exp()).cumsum(1) / total, (1, 0))


def angle_velocity(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> Float64[Tensor, "n m"]:
    """Return the velocity of the angle per unit of kappa: -(d/dkappa CDF) / density.

    The integral of `kappa_score` starts at angle 0 below the sign change of `kappa_score`, and at pi above the sign
    change. The integral is computed in logarithms, so it is accurate even where the density underflows.
    """
    angle = at.angles
    _, log_tilt, sign = _sums(shape, at, kappa)
    tilt = shape.kappa_score(angle, kappa[:, None])
    below = log_tilt.masked_fill((sign < 0) | (tilt[:, 1:] < 0), -torch.inf).logcumsumexp(1)
    above = log_tilt.masked_fill((sign > 0) | (tilt[:, :-1] > 0), -torch.inf).flip(1).logcumsumexp(1).flip(1)
    below, above = (torch.nn.functional.pad(*each, value=-torch.inf) for each in ((below, (1, 0)), (above, (0, 1))))
    log_density = shape.log_unnormalized(angle, kappa[:, None]) + shape.uniform_density(angle).log()
    out = -torch.exp(torch.where(tilt >= 0, below, above) - log_density)
    out[:, 0] = 0.0
    return out


def _sums(shape: AngularDensity, at: AngleNodes, kappa: Float64[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate the density, and `kappa_score` times the density, over each interval between nodes, [n, m - 1].

    Returns the log of the first integral, and the log absolute value and the sign of the second.
    """
    angle = at.angles
    half = (angle[:, 1:] - angle[:, :-1])[..., None] / 2
    middle = (angle[:, 1:] + angle[:, :-1])[..., None] / 2
    points = middle + half * _POINTS.to(kappa.device)
    log_share = (2 * half * _WEIGHTS.to(kappa.device) * shape.uniform_density(points)).log()
    log_mass = log_share + shape.log_unnormalized(points, kappa[:, None, None])
    tilt = shape.kappa_score(points, kappa[:, None, None])
    largest = log_mass.amax(2, keepdim=True)
    integral = (tilt * (log_mass - largest).exp()).sum(2)
    log_tilt = integral.abs().log() + largest[..., 0]
    steep, fitted = _steep(shape, angle, kappa)
    return log_mass.logsumexp(2), torch.where(steep, fitted, log_tilt), integral.sign()


def _steep(shape: AngularDensity, angle: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask of intervals where the density falls too fast for quadrature, and log integrals for these.

    The integrals approximate the density by an exponential.
    """
    log_shape = shape.log_unnormalized(angle, kappa[:, None])
    log_height = log_shape + (shape.uniform_density(angle) * shape.kappa_score(angle, kappa[:, None]).abs()).log()
    fall = log_shape[:, :-1] - log_shape[:, 1:]
    return fall > _STEEP, log_height[:, :-1] + ((angle[:, 1:] - angle[:, :-1]) / fall).log()


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
        """Return the velocity of the state x if its angle grows at `rate` along `direction`."""

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
        at = AngleNodes(kappa[:, None], TRAINING_TABLE_NODES)
        goal = self.uniform_cdf(angle.double()).clamp(0, 1 - 2**-53)
        return self.at_angle(z, at.invert(cdf_at_nodes(self, at, kappa), row, goal).to(angle.dtype), direction)

    def _unique_kappas(self, t: Tensor) -> tuple[Float64[Tensor, " n"], Tensor]:
        """Return the distinct concentrations, and the index of each time's concentration, in the shape of the times."""
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
        now, later = self.concentration(t), self.concentration(s)
        shapes = self.log_unnormalized(angle, later.to(angle.dtype)) - self.log_unnormalized(angle, now.to(angle.dtype))
        return shapes - (self.log_normalizer(later) - self.log_normalizer(now)).to(angle.dtype)

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        angle, direction = self.angle_and_direction(x, z)
        kappa, row = self._unique_kappas(t)
        at = AngleNodes(kappa[:, None])
        per_rise = at.interpolate(angle_velocity(self, at, kappa), row, angle)
        return self.velocity_of_angle(x, direction, self.concentration.time_derivative(t).to(angle.dtype) * per_rise)

    def sample_increase(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        at, row, risen = self._cdf_increase(t, s)
        u_angle, direction = self.sample_direction(z, u)
        rising = risen.cummax(1).values
        angle = at.invert(rising / rising[:, -1:], row, u_angle)
        return self.at_angle(z.double(), angle, direction)

    def sample_decrease(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        at, row, risen = self._cdf_increase(t, s)
        u_angle, direction = self.sample_direction(z, u)
        running_max = risen.cummax(1).values
        angle = at.invert((running_max - risen) / running_max[:, -1:], row, u_angle)
        return self.at_angle(z.double(), angle, direction)

    def _cdf_increase(self, t: Tensor, s: Tensor) -> tuple[AngleNodes, Tensor, Float64[Tensor, "n m"]]:
        """Return nodes for distinct pairs of times, the pair index of each entry, and the CDF increase at the nodes."""
        later, row = self._unique_kappas(s)
        if same_times(t, s):
            at = AngleNodes(later[:, None])
            return at, row, cdf_kappa_derivative(self, at, later)
        now, other = self._unique_kappas(t)
        row = other * len(later) + row
        now, later = now.repeat_interleave(len(later)), later.repeat(len(now))
        at = AngleNodes(later[:, None])
        return at, row, cdf_at_nodes(self, at, later) - cdf_at_nodes(self, at, now)


def _unique_times(t: Tensor) -> tuple[Float[Tensor, " n"], Tensor]:
    """Return the distinct times, and the index of each time among them, in the shape of the times."""
    if t.numel() and not any(t.stride()) and not torch._C._functorch.is_functorch_wrapped_tensor(t):
        return t.reshape(-1)[:1], torch.zeros((1,) * t.ndim, dtype=torch.long, device=t.device)
    times, row = unique_times(t.reshape(-1))
    return times, row.view(t.shape)
