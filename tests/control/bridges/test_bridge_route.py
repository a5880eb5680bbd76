"""Initial paths around obstacles: doors, endpoints, lengths."""

import math
import time
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.costs import CustomCost, PopulationDensity, StateCost, Zero
from feller.control.bridges.costs.obstacles import Box, Disc, Indicator, ObstacleShape, SoftObstacle
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.initial_paths import plan_path
from feller.core.rng import Rng
from tests.oracle import close

WALL: ObstacleShape = Box((-0.1, -9.0), (0.1, -2.0)) | Box((-0.1, -1.0), (0.1, 3.0)) | Box((-0.1, 4.0), (0.1, 9.0))
"""At x = 0, with doors at -2 < y < -1 and 3 < y < 4."""


@dataclass(frozen=True)
class Solid(StateCost):
    """Infinite inside a shape."""

    shape: ObstacleShape

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return torch.where(self.shape.contains(x), math.inf, 0.0)


def rooms(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draws = Rng(0)
    x_0 = torch.tensor([-4.0, 0.5], dtype=dtype) + 0.3 * draws.stream("a").normal((n, 2), dtype)
    x_1 = torch.tensor([4.0, 0.5], dtype=dtype) + 0.3 * draws.stream("b").normal((n, 2), dtype)
    return x_0, x_1


def fine(ways: Tensor, points: int = 40) -> Tensor:
    part = torch.linspace(0, 1, points, dtype=ways.dtype)[:, None]
    return (ways[:, :-1, None] + part * ways.diff(dim=1)[:, :, None]).flatten(1, 2)


@pytest.mark.parametrize("cost", [SoftObstacle(WALL, 300.0, 0.02), Indicator(WALL, 1000.0), Solid(WALL)])
def test_shortest_path_through_two_doors(cost: StateCost) -> None:
    x_0, x_1 = rooms(64)
    ways = plan_path(x_0, x_1, cost, 30)
    assert torch.equal(ways[:, 0], x_0)
    assert torch.equal(ways[:, -1], x_1)
    assert WALL.level(fine(ways)).min() > -0.05  # of a wall .2 thick: what a line between knots cuts off a corner
    length = ways.diff(dim=1).norm(dim=-1).sum(1)
    door = torch.tensor([0.0, -1.0])
    least = (x_0 - door).norm(dim=1) + (x_1 - door).norm(dim=1)
    other = (x_0 - torch.tensor([0.0, 3.0])).norm(dim=1) + (x_1 - torch.tensor([0.0, 3.0])).norm(dim=1)
    assert (length < 1.05 * torch.minimum(least, other)).all()


def test_door_depends_on_the_pair() -> None:
    x_0 = torch.tensor([[-4.0, -1.0], [-4.0, 3.0]])
    ways = plan_path(x_0, -x_0 * torch.tensor([1.0, -1.0]), Solid(WALL), 41)
    middle = ways[:, 20, 1]
    assert -2 < middle[0] < -0.98
    assert 2.98 < middle[1] < 4


def test_constant_speed_around_a_disc() -> None:
    x = torch.tensor([[3.0, 0.2]])
    ways = plan_path(-x, x, Solid(Disc((0.0, 0.0), 1.0)), 31)
    steps = ways.diff(dim=1).norm(dim=-1)
    assert steps.std() < 0.02 * steps.mean()
    tangent = (x.square().sum() - 1).sqrt()
    least = 2 * (tangent + (math.pi / 2 - torch.atan(tangent)) * 1.0) - 2 * torch.atan(torch.tensor(0.2 / 3.0)) * 0
    assert steps.sum() < 1.04 * least


def test_speed_follows_the_energy() -> None:
    """V = 8 for x > 0: the way is straight and the speed sqrt(2 (E + V)) there, E = 1/2 |x_1 - x_0|^2 = 8."""
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    cost = CustomCost(lambda y, t: 8.0 * (y[:, 0] > 0) + 1e-9 * y[:, 1].square())
    ways = plan_path(-x, x, cost, 1001)
    close(ways[..., 1], torch.zeros_like(ways[..., 1]), 1e-6)
    speed = ways[0, :, 0].diff()
    close(speed[-10] / speed[10], torch.tensor(2.0, dtype=torch.float64).sqrt(), 1e-3)


def test_thin_wall() -> None:
    thin = Box((0.02, -9.0), (0.045, 0.0)) | Box((0.02, 0.7), (0.045, 9.0))
    x_0, x_1 = rooms(16)
    ways = plan_path(x_0 - torch.tensor([0.0, 2.0]), x_1, Solid(thin), 200)
    cross = ways[(ways[..., 0] > -0.1) & (ways[..., 0] < 0.1)]
    assert ((cross[:, 1] > -0.05) & (cross[:, 1] < 0.75)).all()


def test_straight_lines() -> None:
    x_0, x_1 = rooms(8)
    for cost in (Solid(Disc((0.0, 3.0), 1.0)), CustomCost(lambda x, t: x.square().sum(-1) * 1e-6)):
        ways = plan_path(x_0, x_1, cost, 7)
        assert ways is not None
        way = torch.linspace(0, 1, 7)[:, None]
        close(ways, x_0[:, None] + way * (x_1 - x_0)[:, None], 1e-2)
    assert plan_path(x_0, x_1, Zero(), 7) is None


def test_population_costs_have_no_plan() -> None:
    class Meeting(StateCost):
        needs_population = True

        def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
            raise AssertionError

    assert plan_path(*rooms(4), Meeting(), 5) is None


def test_no_way_out() -> None:
    ring = Disc((-4.0, 0.5), 2.5) & ~Disc((-4.0, 0.5), 2.0)
    x_0, x_1 = rooms(4)
    ways = plan_path(x_0, x_1, Solid(ring), 5)
    assert ways.isfinite().all()
    way = torch.linspace(0, 1, 5)[:, None]
    close(ways, x_0[:, None] + way * (x_1 - x_0)[:, None], 1)


def test_equal_endpoints() -> None:
    x = torch.zeros(3, 2)
    ways = plan_path(x, x, Indicator(Disc((1e-9, 0.0), 1e-9), 1.0), 5)
    assert ways is None or ways.isfinite().all()


@pytest.mark.slow
def test_speed() -> None:
    begin = time.process_time()
    x_0, x_1 = rooms(1024)
    assert plan_path(2 * x_0, 2 * x_1, Indicator(WALL, 1000.0), 15) is not None
    assert time.process_time() - begin < 5


@pytest.mark.slow
def test_conditional_control_from_the_planned_path() -> None:
    """From straight lines the search for knots stays in a wall without slopes; from here it does not."""
    x_0, x_1 = rooms(32)
    cost = Indicator(WALL, 1000.0)
    start = plan_path(x_0, x_1, cost, 15)
    assert start is not None
    how = ConditionalControl(steps=150, num_samples=8)
    _, trace = how.solve(GaussianPaths.from_knots(start, 0.3, 30), cost, Rng(0))
    _, straight = how.solve(GaussianPaths.brownian_bridges(x_0, x_1, 0.3, 15, 30), cost, Rng(0))
    ours, theirs = ((one.kinetic + one.state).mean() for one in (trace, straight))
    assert ours < 12
    assert ours < 0.5 * theirs
