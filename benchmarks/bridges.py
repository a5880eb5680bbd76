"""One step of pinned control, beside the bare matrix products that turn knots into moments and gradients back."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.timing import Case
from feller.control.bridges.conditional_control import ConditionalControl, KnotOptimizer
from feller.control.bridges.conditional_cost import ConditionalCost
from feller.control.bridges.costs.congestion import CongestionCost
from feller.control.bridges.costs.obstacles import Quadric, SoftObstacle
from feller.control.bridges.gaussian_paths import GaussianPaths, interpolation
from feller.core.rng import Rng

PAIRS, DRAWS, TIMES, KNOTS, MAX_MILLISECONDS = 512, 4, 100, (15, 30), 20.0
STUNNEL = (
    SoftObstacle(Quadric((20.0, 1.0), (5.0, 6.0), 90.0), 1500.0)
    + SoftObstacle(Quadric((20.0, 1.0), (-5.0, -6.0), 90.0), 1500.0)
    + 50.0 * CongestionCost()
)


def cases() -> Iterator[Case]:
    draws = Rng(0)
    spread = 0.5**0.5
    x_0 = torch.tensor([-11.0, -1.0]) + spread * draws.stream("x_0").normal((PAIRS, 2))
    x_1 = torch.tensor([11.0, 1.0]) + spread * draws.stream("x_1").normal((PAIRS, 2))
    paths = GaussianPaths.brownian_bridges(x_0, x_1, 1.0, *KNOTS)
    search = KnotOptimizer(
        ConditionalControl(times=TIMES, num_samples=DRAWS), paths, ConditionalCost(STUNNEL, 1.0), 0.3
    )

    def step() -> object:
        return search.step(0, draws)

    yield Case(
        f"a step of pinned control, {PAIRS} pairs, {DRAWS} x {TIMES} states of each, two obstacles and congestion",
        {"feller": step, "floor": products()},
        max_milliseconds=MAX_MILLISECONDS,
        inner=3,
    )


def products() -> Callable[[], object]:
    """Knots to means, deviations and their rates at some times, and the same back."""
    t = (torch.arange(TIMES) + 0.5) / TIMES
    (means, _), (scales, rates) = (interpolation(t, knots) for knots in KNOTS)
    knots, levels = torch.randn(2, KNOTS[0], PAIRS), torch.randn(KNOTS[1], PAIRS)
    slope, level = torch.randn(2, TIMES, PAIRS), torch.randn(TIMES, PAIRS)

    def run() -> object:
        ahead = means @ knots, scales @ levels, rates @ levels
        return ahead, means.T @ slope, scales.T @ level, rates.T @ level

    return run
