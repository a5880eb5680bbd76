"""Laws on curved spaces whose density depends on the angle from the end alone."""

import abc
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.paths.discrete.rows import distinct
from feller.paths.jumps.angles import SOME, Nodes, Shape, distribution, drift, nodes, speed
from feller.paths.jumps.conditional_path import Law, alike
from feller.paths.jumps.jump_step_rules import Overlap, Survival

if TYPE_CHECKING:
    from feller.paths.jumps.concentration import Growth


class RadialLaw(Law, Shape):
    """Implement what an angle and a direction from the end are, and the density at an angle, to add a law.

    Flow and jumps are those of the angle, in one dimension, along the direction from the end; jumps land in a
    direction drawn afresh. Rates are closed forms, flow and landings come from tables over (time, angle).
    """

    if TYPE_CHECKING:

        @property
        def concentration(self) -> "Growth":
            """Its kappa, at each time."""
            ...

    @property
    def usual(self) -> Survival:
        """Return the overlap."""
        return Overlap()

    @abc.abstractmethod
    def offset(self, x: Tensor, z: Tensor) -> tuple[Float[Tensor, "..."], Tensor]:
        """Return the angle from z to x, in [0, pi], and its direction."""

    @abc.abstractmethod
    def put(self, z: Tensor, angle: Tensor, direction: Tensor) -> Tensor:
        """Return the state at an angle from z in a direction."""

    @abc.abstractmethod
    def moving(self, x: Tensor, direction: Tensor, rate: Tensor) -> Tensor:
        """Return the velocity of a state whose angle grows at a rate."""

    @abc.abstractmethod
    def any_direction(self, z: Tensor, u: Float64[Tensor, "... n"]) -> tuple[Float64[Tensor, "..."], Tensor]:
        """Return a uniform number for the angle, and a direction drawn uniformly."""

    @abc.abstractmethod
    def uniform_share(self, angle: Tensor) -> Tensor:
        """Return the mass of the uniform law at smaller angles."""

    @abc.abstractmethod
    def log_size(self, kappa: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Return log of the integral of exp(log_shape) over the space."""

    def sample(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the state in the direction of x_0 whose angle has the same share of the mass below it."""
        angle, direction = self.offset(x_0, z)
        kappa, row = self._kappa(t)
        at = nodes(kappa, SOME)
        goal = self.uniform_share(angle.double()).clamp(0, 1 - 2**-53)
        return self.put(z, at.find(distribution(self, at, kappa), row, goal).to(angle.dtype), direction)

    def _kappa(self, t: Tensor) -> tuple[Float64[Tensor, " n"], Tensor]:
        """Return the different concentrations, and which of them each time has, in the shape of the times."""
        times, row = _rows(t)
        return self.concentration(times), row

    def log_density(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        """Return the log shape less the log of its total."""
        angle, _ = self.offset(x, z)
        kappa = self.concentration(t)
        return self.log_shape(angle, kappa.to(angle.dtype)) - self.log_size(kappa).to(angle.dtype)

    def slope(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        """Return kappa' times the tilt."""
        angle, _ = self.offset(x, z)
        return self.concentration.rate(t).to(angle.dtype) * self.tilt(angle, self.concentration(t))

    def change(self, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return the change of the log density, from one look at the angle."""
        angle, _ = self.offset(x, z)
        now, later = self.concentration(t), self.concentration(s)
        shapes = self.log_shape(angle, later.to(angle.dtype)) - self.log_shape(angle, now.to(angle.dtype))
        return shapes - (self.log_size(later) - self.log_size(now)).to(angle.dtype)

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the velocity of the angle along the direction."""
        angle, direction = self.offset(x, z)
        kappa, row = self._kappa(t)
        at = nodes(kappa)
        per_rise = at.read(speed(self, at, kappa), row, angle)
        return self.moving(x, direction, self.concentration.rate(t).to(angle.dtype) * per_rise)

    def gather(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        """Draw the angle below that at which p_t and p_s cross."""
        at, row, risen = self._risen(t, s)
        share, direction = self.any_direction(z, u)
        rising = risen.cummax(1).values
        angle = at.find(rising / rising[:, -1:], row, share)
        return self.put(z.double(), angle, direction)

    def scatter(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        """Draw the angle beyond that at which p_t and p_s cross."""
        at, row, risen = self._risen(t, s)
        share, direction = self.any_direction(z, u)
        most = risen.cummax(1).values
        angle = at.find((most - risen) / most[:, -1:], row, share)
        return self.put(z.double(), angle, direction)

    def _risen(self, t: Tensor, s: Tensor) -> tuple[Nodes, Tensor, Float64[Tensor, "n m"]]:
        """Return how much the distribution function rises at nodes of pairs of times, and which pair each entry has."""
        later, row = self._kappa(s)
        if alike(t, s):
            at = nodes(later)
            return at, row, drift(self, at, later)
        now, other = self._kappa(t)
        row = other * len(later) + row
        now, later = now.repeat_interleave(len(later)), later.repeat(len(now))
        at = nodes(later)
        return at, row, distribution(self, at, later) - distribution(self, at, now)


def _rows(t: Tensor) -> tuple[Float[Tensor, " n"], Tensor]:
    """Return the different times, and which of them each has, in their shape."""
    if t.numel() and not any(t.stride()) and not torch._C._functorch.is_functorch_wrapped_tensor(t):
        return t.reshape(-1)[:1], torch.zeros((1,) * t.ndim, dtype=torch.long, device=t.device)
    times, row = distinct(t.reshape(-1))
    return times, row.view(t.shape)
