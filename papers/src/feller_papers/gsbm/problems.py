"""The problems of the paper, with its constants: what is bridged, in which noise, at which cost.

The paper's code weighs 1/2 |u|^2 / noise^2 against V; here 1/2 |u|^2 is weighed against noise^2 V, which is the same.
Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233; the planar problems after Liu et
al. 2022, "Deep generalized Schrödinger bridge", arXiv 2209.09893.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from feller.control.bridges.costs import (
    Box,
    CongestionCost,
    Disc,
    EntropyCost,
    PointCloudSurface,
    PopulationDensity,
    Quadric,
    SoftObstacle,
    StateCost,
    SurfaceCost,
)
from feller.control.bridges.costs.state_cost import InsideFn
from feller.control.bridges.drift_matching import BaseDrift, Segment
from feller.control.bridges.problem import BridgeProblem
from feller.core.rng import Rng
from feller_papers.gsbm.polarise import Polarise

TUNNEL = SoftObstacle(Quadric((20.0, 1.0), (5.0, 6.0), 90.0), 1.0) + SoftObstacle(
    Quadric((20.0, 1.0), (-5.0, -6.0), 90.0), 1.0
)
"""Two upright ellipses, of which each leaves one way."""
NECK = SoftObstacle(Quadric((5.0, -1.0), (0.0, 0.0), -0.36), 1.0)
"""Above and below a hyperbola that is 1.2 wide where it is narrowest."""
DISCS = sum(
    (SoftObstacle(Disc(centre, 1.5), 1.0, 0.01) for centre in ((6.0, -6.0), (-6.0, -6.0))),
    SoftObstacle(Disc((6.0, 6.0), 1.5), 1.0, 0.01),
)
"""Three discs, with a free quadrant."""


@dataclass(frozen=True)
class Boundary(StateCost):
    """1 for each of the first entries that has left its range, with edges sigmoid(distance / width)."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    width: float

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return it."""
        some = x[..., : len(self.low)]
        over = torch.sigmoid((some - x.new_tensor(self.high)) / self.width)
        under = torch.sigmoid((x.new_tensor(self.low) - some) / self.width)
        return (over + under).sum(-1)


@dataclass(frozen=True)
class Gaussians:
    """A mixture of Gaussians that all have one deviation and one weight."""

    means: tuple[tuple[float, ...], ...]
    variance: float

    def __call__(self, number: int, draws: Rng) -> Float[Tensor, "number d"]:
        """Draw members."""
        means = torch.tensor(self.means)
        which = draws.stream("mode").randint(len(means), (number,))
        return means[which] + math.sqrt(self.variance) * draws.stream("member").normal((number, means.shape[1]))


@dataclass(frozen=True)
class Normal:
    """A normal population around 0, whose entries have deviations of their own."""

    deviations: tuple[float, ...]

    def __call__(self, number: int, draws: Rng) -> Float[Tensor, "number d"]:
        """Draw members."""
        return torch.tensor(self.deviations) * draws.stream("member").normal((number, len(self.deviations)))


@dataclass(frozen=True, eq=False)
class OnSurface:
    """Members that were moved onto a surface."""

    members: Gaussians
    surface: PointCloudSurface

    def __call__(self, number: int, draws: Rng) -> Float[Tensor, "number 3"]:
        """Draw members."""
        return self.surface.project(self.members(number, draws))


@dataclass(frozen=True)
class Spider(StateCost):
    """Two boxes with a corridor between: the product over both directions of softplus(-5 (x - low) (x - high))."""

    boxes: tuple[tuple[float, float, float, float], ...] = ((-7.0, 7.0, 0.5, 7.5), (-7.0, 7.0, -7.5, -0.5))
    """Left, right, lower and upper edge of each."""

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        """The boxes."""
        return tuple(Box((left, low), (right, high)).contains for left, right, low, high in self.boxes)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the sum over the boxes; softplus is that of torch, which is the identity where 20 z is above 1."""
        total = 0.0 * x[..., 0]
        for left, right, low, high in self.boxes:
            across = -5 * (x[..., 0] - left) * (x[..., 0] - right)
            up = -5 * (x[..., 1] - low) * (x[..., 1] - high)
            total = total + F.softplus(across, 20.0, 1.0) * F.softplus(up, 20.0, 1.0)
        return total


def stunnel(noise: float = 1.0) -> BridgeProblem:
    """Two crowds change sides, in a bend between two ellipses, and avoid congestion."""
    cost = noise**2 * (1500.0 * TUNNEL + 50.0 * CongestionCost())
    return _between(Gaussians(((-11.0, -1.0),), 0.5), Gaussians(((11.0, 1.0),), 0.5), noise, cost)


def vneck(noise: float = 1.0) -> BridgeProblem:
    """A crowd goes through a neck, and spreads."""
    cost = noise**2 * (3000.0 * NECK + 8.0 * EntropyCost())
    return _between(Gaussians(((-7.0, 0.0),), 0.2), Gaussians(((7.0, 0.0),), 0.2), noise, cost)


def gmm(noise: float = 1.0) -> BridgeProblem:
    """Four crowds go out to eight places, around three discs, and spread."""
    cost = noise**2 * (1500.0 * DISCS + 5.0 * EntropyCost())
    return _between(Gaussians(_ring(4.0, 4), 1.0), Gaussians(_ring(16.0, 8), 1.0), noise, cost)


def spider(noise: float = 1.0) -> BridgeProblem:
    """A crowd goes through a corridor between two boxes; where it begins and ends the paper does not say."""
    return _between(Gaussians(((-10.0, 0.0),), 0.1), Gaussians(((10.0, 0.0),), 0.1), noise, noise**2 * Spider())


def normalised(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Bring the points of a scan to x and y in [-5, 5] and z in [0, 2], by least and largest."""
    low, high = points.min(0), points.max(0)
    return (points - low) / (high - low) * np.array([10.0, 10.0, 2.0]) - np.array([5.0, 5.0, 0.0])


def over_surface(
    surface: PointCloudSurface,
    begin: Sequence[tuple[float, float]],
    end: Sequence[tuple[float, float]],
    noise: float = 1.0,
) -> BridgeProblem:
    """Crowds move over a surface, on low ground and inside its square; places of the crowds' modes are given."""
    cost = 5000.0 * noise**2 * (SurfaceCost(surface, 1.0) + Boundary((-5.0, -5.0), (5.0, 5.0), 0.1))
    a, b = (
        OnSurface(Gaussians(tuple((*place, 0.5) for place in places), variance), surface)
        for places, variance in ((begin, 0.02), (end, 0.03))
    )
    return _between(a, b, noise, cost)


def lidar(surface: PointCloudSurface) -> BridgeProblem:
    """Crowds cross the foot of Mt. Rainier."""
    begin = ((-4.0, -2.0), (-3.75, -1.125), (-3.5, -0.25), (-3.25, 0.675), (-3.0, 1.5))
    return over_surface(surface, begin, ((2.0, -2.0), (2.6, -1.25), (3.2, -0.5)))


def jacksboro(surface: PointCloudSurface) -> BridgeProblem:
    """Crowds cross a mountain range from the plain into a valley."""
    return over_surface(surface, ((2.6, -2.2), (3.2, -1.2), (3.8, -0.2)), ((-3.6, 0.4), (-3.4, 1.0)))


def opinions(d: int = 1000) -> BridgeProblem:
    """A crowd whose opinions drift apart by themselves is led to opinions that are spread out evenly."""
    if d == 2:
        strength, begin, end = 3.0, (math.sqrt(0.5), 0.5), math.sqrt(3.0)
    else:
        strength, begin, end = 6.0, (2.0, *(0.5 for _ in range(d - 1))), 2.0
    noise = 0.5
    drift = Polarise.of(d, strength)
    members = Normal(begin), Normal((end,) * d)
    return BridgeProblem(
        (members,), noise, noise**2 * (10.0 * CongestionCost()), base_drift=drift, update_base_drift=_refreshed
    )


def _refreshed(drift: BaseDrift, legs: Sequence[Segment]) -> BaseDrift:
    """Let the crowd that polarises be that of new paths."""
    if not isinstance(drift, Polarise):
        return drift
    paths = legs[0].paths

    def crowd(t: Float[Tensor, " s"]) -> Float[Tensor, "s n d"]:
        moments = paths.grid(t.to(paths.means))
        z = Rng(0).fold_in("crowd").stream(f"{float(t[0]):.6f}").normal((*moments.mean.shape,)).to(moments.mean)
        return (moments.mean + moments.std[..., None] * z).movedim(1, 0)

    return drift.refreshed(crowd)


def _between(
    begin: Callable[[int, Rng], Tensor], end: Callable[[int, Rng], Tensor], noise: float, cost: StateCost
) -> BridgeProblem:
    return BridgeProblem(((begin, end),), noise, cost)


def _ring(radius: float, number: int) -> tuple[tuple[float, float], ...]:
    """Return places on a circle, from (radius, 0) on."""
    turns = [2 * math.pi * k / number for k in range(number)]
    return tuple((radius * math.cos(turn), radius * math.sin(turn)) for turn in turns)
