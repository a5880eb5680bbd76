"""Obstacles: sets of states that combine, and what being inside them costs."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.control.bridges.costs.smooth_functions import softplus, weighted_square
from feller.control.bridges.costs.state_cost import InsideFn, PopulationDensity, StateCost
from feller.core.errors import UsageError

_TINY = 1e-24
"""Added under roots, so that they have a slope everywhere."""


class ObstacleShape(abc.ABC):
    """A set of states; `a | b`, `a & b` and `~a` are shapes. Implement one method to add one."""

    @abc.abstractmethod
    def level(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Return how far outside a state is: negative inside, 0 on the edge, a length unless a kind says otherwise."""

    def contains(self, x: Float[Tensor, "*b d"]) -> Bool[Tensor, "*b"]:
        """Tell which states are in the set."""
        return self.level(x) < 0

    def __or__(self, other: "ObstacleShape") -> "ObstacleShape":
        """Return the states that are in either."""
        return Union((self, other))

    def __and__(self, other: "ObstacleShape") -> "ObstacleShape":
        """Return the states that are in both."""
        return ~Union((~self, ~other))

    def __invert__(self) -> "ObstacleShape":
        """Return the states that are not in it."""
        return Complement(self)


@dataclass(frozen=True)
class Disc(ObstacleShape):
    """States nearer to a centre than a radius, in any number of dimensions."""

    centre: tuple[float, ...]
    radius: float

    def __post_init__(self) -> None:
        _check_positive("the radius of a disc", self.radius)

    def level(self, x: Tensor) -> Tensor:
        return _length(_centred(x, self.centre)) - self.radius


@dataclass(frozen=True)
class Ellipse(ObstacleShape):
    """An ellipse or ellipsoid along the axes. Its level is a distance on the axes and, elsewhere, near the edge."""

    centre: tuple[float, ...]
    half_axes: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_alike(self.centre, self.half_axes)
        _check_positive("half an axis of an ellipse", *self.half_axes)

    def level(self, x: Tensor) -> Tensor:
        """Return (k - 1) / |grad k| with k = |(x - centre) / half_axes|; in the centre minus the shortest half axis."""
        axes = x.new_tensor(self.half_axes)
        scaled = _centred(x, self.centre) / axes
        k = _length(scaled)
        steep = ((scaled / axes).square().sum(-1) + _TINY / axes.min().square()).sqrt()
        return k * (k - 1) / steep


@dataclass(frozen=True)
class Box(ObstacleShape):
    """A box along the axes."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_alike(self.low, self.high)
        _check_positive("the extent of a box", *(b - a for a, b in zip(self.low, self.high, strict=True)))

    def level(self, x: Tensor) -> Tensor:
        low, high = x.new_tensor(self.low), x.new_tensor(self.high)
        beyond = (_centred(x, tuple(((low + high) / 2).tolist()))).abs() - (high - low) / 2
        return _length(beyond.clamp(min=0)) + beyond.amax(-1).clamp(max=0)


@dataclass(frozen=True)
class Neck(ObstacleShape):
    """What is above and below a passage of the plane, |y| > sqrt(half_width^2 + (slope x)^2), narrowest at x = 0."""

    half_width: float
    slope: float
    centre: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_positive("half the width of a neck", self.half_width)

    def level(self, x: Tensor) -> Tensor:
        """Return the height that is left over the slope of the edge: a distance near the edge."""
        along, across = _centred(x, self.centre).unbind(-1)
        edge = (self.half_width**2 + (self.slope * along).square()).sqrt()
        steep = self.slope**2 * along / edge
        return (edge - across.abs()) / (1 + steep.square()).sqrt()


@dataclass(frozen=True)
class Quadric(ObstacleShape):
    """States with sum_i weight_i (x_i - centre_i)^2 < bound: ellipses, hyperbolas. Its level is the difference."""

    weights: tuple[float, ...]
    centre: tuple[float, ...]
    bound: float

    def __post_init__(self) -> None:
        _check_alike(self.weights, self.centre)

    def level(self, x: Tensor) -> Tensor:
        return weighted_square(_centred(x, self.centre), x.new_tensor(self.weights)) - self.bound


@dataclass(frozen=True)
class SignedDistance(ObstacleShape):
    """States where a function of your own, [*b, d] -> [*b], is negative; best a length near the edge."""

    function: Callable[[Tensor], Tensor]

    def level(self, x: Tensor) -> Tensor:
        return self.function(x)


@dataclass(frozen=True)
class Union(ObstacleShape):
    """States in any of some shapes."""

    parts: tuple[ObstacleShape, ...]

    def level(self, x: Tensor) -> Tensor:
        first, *others = (part.level(x) for part in self.parts)
        for other in others:
            first = torch.minimum(first, other)
        return first


@dataclass(frozen=True)
class Complement(ObstacleShape):
    """States that are not in a shape."""

    shape: ObstacleShape

    def level(self, x: Tensor) -> Tensor:
        return -self.shape.level(x)

    def __invert__(self) -> ObstacleShape:
        return self.shape


@dataclass(frozen=True)
class SoftObstacle(StateCost):
    """height * softplus(-level / width): grows by `height` with each width of depth, 0.69 of it on the edge.

    Outside it falls as exp(-distance / width).
    """

    shape: ObstacleShape
    height: float
    width: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("the width of an edge", self.width)

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        return (self.shape.contains,)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return self.height * softplus(self.shape.level(x) * (-1 / self.width))


@dataclass(frozen=True)
class Indicator(StateCost):
    """A height inside, 0 outside. Weighted trajectories and searched ways heed it, but it has no gradient."""

    differentiable = False

    shape: ObstacleShape
    height: float

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        return (self.shape.contains,)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return self.height * self.shape.contains(x.detach()).to(x.dtype)


def _centred(x: Float[Tensor, "*b d"], centre: tuple[float, ...]) -> Float[Tensor, "*b d"]:
    """Return states as seen from a centre; UsageError if they have another number of entries."""
    if x.shape[-1] != len(centre):
        raise UsageError(
            f"a shape in {len(centre)} dimensions cannot hold states of {x.shape[-1]}", remedy="Write all its numbers"
        )
    return x - x.new_tensor(centre)


def _length(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    return (weighted_square(x, x.new_ones(x.shape[-1])) + _TINY).sqrt()


def _check_positive(name: str, *values: float) -> None:
    for value in values:
        if not value > 0:
            raise UsageError("above 0", f"{value:g}", argument=name)


def _check_alike(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    if len(one) != len(other):
        raise UsageError(expected=f"as many numbers in {one} as in {other}")
