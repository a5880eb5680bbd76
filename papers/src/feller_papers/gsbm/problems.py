"""Bridge problems of the paper, with its constants.

The paper's code minimises 1/2 |u|^2 / noise^2 + V; here 1/2 |u|^2 + noise^2 V, which is equivalent.
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
"""Two upright ellipses, each of which leaves one passage."""
NECK = SoftObstacle(Quadric((5.0, -1.0), (0.0, 0.0), -0.36), 1.0)
"""Obstacle outside a hyperbola whose narrowest gap is 1.2."""
DISCS = sum(
    (SoftObstacle(Disc(centre, 1.5), 1.0, 0.01) for centre in ((6.0, -6.0), (-6.0, -6.0))),
    SoftObstacle(Disc((6.0, 6.0), 1.5), 1.0, 0.01),
)
"""Three discs; the fourth quadrant is free."""


@dataclass(frozen=True)
class Boundary(StateCost):
    """Number of leading coordinates outside their range, with soft edges sigmoid(distance / width)."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    width: float

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the cost."""
        leading = x[..., : len(self.low)]
        over = torch.sigmoid((leading - x.new_tensor(self.high)) / self.width)
        under = torch.sigmoid((x.new_tensor(self.low) - leading) / self.width)
        return (over + under).sum(-1)


@dataclass(frozen=True)
class Gaussians:
    """Mixture of Gaussians with equal weights and one variance."""

    means: tuple[tuple[float, ...], ...]
    variance: float

    def __call__(self, num_samples: int, rng: Rng) -> Float[Tensor, "number d"]:
        """Return samples."""
        means = torch.tensor(self.means)
        index = rng.stream("mode").randint(len(means), (num_samples,))
        return means[index] + math.sqrt(self.variance) * rng.stream("member").normal((num_samples, means.shape[1]))


@dataclass(frozen=True)
class Normal:
    """Centred Gaussian with a diagonal covariance."""

    deviations: tuple[float, ...]

    def __call__(self, num_samples: int, rng: Rng) -> Float[Tensor, "number d"]:
        """Return samples."""
        return torch.tensor(self.deviations) * rng.stream("member").normal((num_samples, len(self.deviations)))


@dataclass(frozen=True, eq=False)
class OnSurface:
    """Samples projected onto a surface."""

    samples: Gaussians
    surface: PointCloudSurface

    def __call__(self, num_samples: int, rng: Rng) -> Float[Tensor, "number 3"]:
        """Return samples."""
        return self.surface.project(self.samples(num_samples, rng))


@dataclass(frozen=True)
class Spider(StateCost):
    """Two boxes with a corridor between: the product over both directions of softplus(-5 (x - low) (x - high))."""

    boxes: tuple[tuple[float, float, float, float], ...] = ((-7.0, 7.0, 0.5, 7.5), (-7.0, 7.0, -7.5, -0.5))
    """Left, right, lower and upper edge of each box."""

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        """Indicator functions of the boxes."""
        return tuple(Box((left, low), (right, high)).contains for left, right, low, high in self.boxes)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the sum over the boxes; torch's softplus with beta = 20 and threshold = 1."""
        total = 0.0 * x[..., 0]
        for left, right, low, high in self.boxes:
            across = -5 * (x[..., 0] - left) * (x[..., 0] - right)
            up = -5 * (x[..., 1] - low) * (x[..., 1] - high)
            total = total + F.softplus(across, 20.0, 1.0) * F.softplus(up, 20.0, 1.0)
        return total


def stunnel(noise: float = 1.0) -> BridgeProblem:
    """Return the problem of a crowd that crosses a bend between two ellipses and avoids congestion."""
    cost = noise**2 * (1500.0 * TUNNEL + 50.0 * CongestionCost())
    return _between(Gaussians(((-11.0, -1.0),), 0.5), Gaussians(((11.0, 1.0),), 0.5), noise, cost)


def vneck(noise: float = 1.0) -> BridgeProblem:
    """Return the problem of a crowd that passes a neck, with an entropy cost."""
    cost = noise**2 * (3000.0 * NECK + 8.0 * EntropyCost())
    return _between(Gaussians(((-7.0, 0.0),), 0.2), Gaussians(((7.0, 0.0),), 0.2), noise, cost)


def gmm(noise: float = 1.0) -> BridgeProblem:
    """Return the problem from four to eight modes around three discs, with an entropy cost."""
    cost = noise**2 * (1500.0 * DISCS + 5.0 * EntropyCost())
    return _between(Gaussians(_ring(4.0, 4), 1.0), Gaussians(_ring(16.0, 8), 1.0), noise, cost)


def spider(noise: float = 1.0) -> BridgeProblem:
    """Return the problem of a corridor between two boxes; the ends are ours, as the paper gives none."""
    return _between(Gaussians(((-10.0, 0.0),), 0.1), Gaussians(((10.0, 0.0),), 0.1), noise, noise**2 * Spider())


def normalize(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return the points of a scan, min-max scaled to x and y in [-5, 5] and z in [0, 2]."""
    low, high = points.min(0), points.max(0)
    return (points - low) / (high - low) * np.array([10.0, 10.0, 2.0]) - np.array([5.0, 5.0, 0.0])


def surface_problem(
    surface: PointCloudSurface,
    source: Sequence[tuple[float, float]],
    target: Sequence[tuple[float, float]],
    noise: float = 1.0,
) -> BridgeProblem:
    """Return the problem on a surface, with a height cost and a boundary, between modes at given positions."""
    cost = 5000.0 * noise**2 * (SurfaceCost(surface, 1.0) + Boundary((-5.0, -5.0), (5.0, 5.0), 0.1))
    source_population, target_population = (
        OnSurface(Gaussians(tuple((*place, 0.5) for place in places), variance), surface)
        for places, variance in ((source, 0.02), (target, 0.03))
    )
    return _between(source_population, target_population, noise, cost)


def lidar(surface: PointCloudSurface) -> BridgeProblem:
    """Return the problem at the foot of Mt. Rainier."""
    source = ((-4.0, -2.0), (-3.75, -1.125), (-3.5, -0.25), (-3.25, 0.675), (-3.0, 1.5))
    return surface_problem(surface, source, ((2.0, -2.0), (2.6, -1.25), (3.2, -0.5)))


def jacksboro(surface: PointCloudSurface) -> BridgeProblem:
    """Return the problem of a mountain range near Jacksboro."""
    return surface_problem(surface, ((2.6, -2.2), (3.2, -1.2), (3.8, -0.2)), ((-3.6, 0.4), (-3.4, 1.0)))


def opinions(d: int = 1000) -> BridgeProblem:
    """Return the problem from polarising opinions to an isotropic Gaussian."""
    if d == 2:
        strength, source, target = 3.0, (math.sqrt(0.5), 0.5), math.sqrt(3.0)
    else:
        strength, source, target = 6.0, (2.0, *(0.5 for _ in range(d - 1))), 2.0
    noise = 0.5
    drift = Polarise.for_dim(d, strength)
    samples = Normal(source), Normal((target,) * d)
    return BridgeProblem(
        (samples,), noise, noise**2 * (10.0 * CongestionCost()), base_drift=drift, update_base_drift=_update_drift
    )


def _update_drift(drift: BaseDrift, segments: Sequence[Segment]) -> BaseDrift:
    """Return the drift with the population of new paths."""
    if not isinstance(drift, Polarise):
        return drift
    paths = segments[0].paths

    def sample(t: Float[Tensor, " s"]) -> Float[Tensor, "s n d"]:
        moments = paths.grid(t.to(paths.means))
        z = Rng(0).fold_in("crowd").stream(f"{float(t[0]):.6f}").normal((*moments.mean.shape,)).to(moments.mean)
        return (moments.mean + moments.std[..., None] * z).movedim(1, 0)

    return drift.with_population(sample)


def _between(
    source: Callable[[int, Rng], Tensor], target: Callable[[int, Rng], Tensor], noise: float, cost: StateCost
) -> BridgeProblem:
    return BridgeProblem(((source, target),), noise, cost)


def _ring(radius: float, num_samples: int) -> tuple[tuple[float, float], ...]:
    """Return equally spaced points on a circle, from (radius, 0)."""
    angles = [2 * math.pi * k / num_samples for k in range(num_samples)]
    return tuple((radius * math.cos(angle), radius * math.sin(angle)) for angle in angles)
