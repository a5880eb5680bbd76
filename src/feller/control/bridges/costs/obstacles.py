"""Obstacles: composable sets of states, and state costs for states inside the sets."""

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
"""Constant added under square roots, so that the gradient at 0 is finite."""


class ObstacleShape(abc.ABC):
    """Base class of sets of states, which can be combined by `a | b`, `a & b` and `~a`.

    Subclasses implement `level`.
    """

    @abc.abstractmethod
    def level(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Return the signed distance to the edge: negative inside, 0 on the edge.

        Its absolute value is the distance to the edge, unless a subclass says otherwise.
        """

    def contains(self, x: Float[Tensor, "*b d"]) -> Bool[Tensor, "*b"]:
        """Return a mask that is True for states inside the set."""
        return self.level(x) < 0

    def __or__(self, other: "ObstacleShape") -> "ObstacleShape":
        """Return the union."""
        return Union((self, other))

    def __and__(self, other: "ObstacleShape") -> "ObstacleShape":
        """Return the intersection."""
        return ~Union((~self, ~other))

    def __invert__(self) -> "ObstacleShape":
        """Return the complement."""
        return Complement(self)


@dataclass(frozen=True)
class Disc(ObstacleShape):
    """Ball around a centre, in any dimension."""

    centre: tuple[float, ...]
    radius: float

    def __post_init__(self) -> None:
        _check_positive("the radius of a disc", self.radius)

    def level(self, x: Tensor) -> Tensor:
        return _length(_centred(x, self.centre)) - self.radius


@dataclass(frozen=True)
class Ellipse(ObstacleShape):
    """Axis-aligned ellipsoid.

    Its `level` equals the distance to the edge on the axes, and approximates it near the edge.
    """

    centre: tuple[float, ...]
    half_axes: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_alike(self.centre, self.half_axes)
        _check_positive("half an axis of an ellipse", *self.half_axes)

    def level(self, x: Tensor) -> Tensor:
        """Return (k - 1) / |grad k| with k = |(x - centre) / half_axes|; at the centre, -min(half_axes)."""
        axes = x.new_tensor(self.half_axes)
        scaled = _centred(x, self.centre) / axes
        k = _length(scaled)
        grad_norm = ((scaled / axes).square().sum(-1) + _TINY / axes.min().square()).sqrt()
        return k * (k - 1) / grad_norm


@dataclass(frozen=True)
class Box(ObstacleShape):
    """Axis-aligned box."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_alike(self.low, self.high)
        _check_positive("the extent of a box", *(b - a for a, b in zip(self.low, self.high, strict=True)))

    def level(self, x: Tensor) -> Tensor:
        low, high = x.new_tensor(self.low), x.new_tensor(self.high)
        excess = (_centred(x, tuple(((low + high) / 2).tolist()))).abs() - (high - low) / 2
        return _length(excess.clamp(min=0)) + excess.amax(-1).clamp(max=0)


@dataclass(frozen=True)
class Neck(ObstacleShape):
    """Obstacle around a passage in the plane: |y| > sqrt(half_width^2 + (slope x)^2).

    The coordinates x and y are relative to `centre`. The passage runs along x and is narrowest at x = 0.
    """

    half_width: float
    slope: float
    centre: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_positive("half the width of a neck", self.half_width)

    def level(self, x: Tensor) -> Tensor:
        """Return the signed distance to the edge along y, corrected for its slope: a true distance near the edge."""
        dx, dy = _centred(x, self.centre).unbind(-1)
        edge = (self.half_width**2 + (self.slope * dx).square()).sqrt()
        edge_slope = self.slope**2 * dx / edge
        return (edge - dy.abs()) / (1 + edge_slope.square()).sqrt()


@dataclass(frozen=True)
class Quadric(ObstacleShape):
    """Quadric: states with sum_i weight_i (x_i - centre_i)^2 < bound, such as ellipses and hyperbolas.

    Its `level` is sum_i weight_i (x_i - centre_i)^2 - bound, which is not a distance.
    """

    weights: tuple[float, ...]
    centre: tuple[float, ...]
    bound: float

    def __post_init__(self) -> None:
        _check_alike(self.weights, self.centre)

    def level(self, x: Tensor) -> Tensor:
        return weighted_square(_centred(x, self.centre), x.new_tensor(self.weights)) - self.bound


@dataclass(frozen=True)
class SignedDistance(ObstacleShape):
    """Set of states where a user's function [*b, d] -> [*b] is negative.

    Ideally, the function is a signed distance near the edge.
    """

    function: Callable[[Tensor], Tensor]

    def level(self, x: Tensor) -> Tensor:
        return self.function(x)


@dataclass(frozen=True)
class Union(ObstacleShape):
    """Union of shapes."""

    parts: tuple[ObstacleShape, ...]

    def level(self, x: Tensor) -> Tensor:
        minimum, *distances = (shape.level(x) for shape in self.parts)
        for distance in distances:
            minimum = torch.minimum(minimum, distance)
        return minimum


@dataclass(frozen=True)
class Complement(ObstacleShape):
    """Complement of a shape."""

    shape: ObstacleShape

    def level(self, x: Tensor) -> Tensor:
        return -self.shape.level(x)

    def __invert__(self) -> ObstacleShape:
        return self.shape


@dataclass(frozen=True)
class SoftObstacle(StateCost):
    """Obstacle cost height * softplus(-level / width), where `level` is the signed distance to the edge of `shape`.

    The cost is 0.69 * height on the edge. Inside, it increases by `height` per `width` of depth; outside, it decays as
    exp(-distance / width).
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
    """Obstacle cost with a constant height inside and 0 outside.

    This cost has no gradient. Path planning and path-integral weights need none; the optimisation of Gaussian paths
    estimates one from cost values, in up to 128 dimensions.
    """

    differentiable = False

    shape: ObstacleShape
    height: float

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        return (self.shape.contains,)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return self.height * self.shape.contains(x.detach()).to(x.dtype)


def _centred(x: Float[Tensor, "*b d"], centre: tuple[float, ...]) -> Float[Tensor, "*b d"]:
    """Return x - centre; UsageError if the dimensions differ."""
    if x.shape[-1] != len(centre):
        raise UsageError(
            f"an obstacle in {len(centre)} dimensions cannot be used with {x.shape[-1]}-dimensional states",
            remedy="Give one coordinate per dimension",
        )
    return x - x.new_tensor(centre)


def _length(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    return (weighted_square(x, x.new_ones(x.shape[-1])) + _TINY).sqrt()


def _check_positive(name: str, *values: float) -> None:
    for value in values:
        if not value > 0:
            raise UsageError("above 0", f"{value:g}", argument=name)


def _check_alike(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    if len(first) != len(second):
        raise UsageError(expected=f"{first} and {second} of equal length")
