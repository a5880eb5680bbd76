"""The simulation loop."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths.processes import Characteristics, clamp
from feller.paths.schedules import VP
from feller.paths.time_distributions import edm_grid, linear_grid
from feller.sampling import RK4, Ancestral, DPMSolver, Euler, Heun, Midpoint, UniPC, simulate, trajectory
from tests.errors import refuses
from tests.oracle import F64, close, column, f64
from tests.sampling.solvers.test_runge_kutta import ramp


def exact(x: float, t: float, s: float) -> float:
    return (x - t + 1) * math.exp(-(s - t)) + s - 1


def test_yields_the_state_after_each_step() -> None:
    states = list(trajectory(ramp, column(1.0), linear_grid(4), Euler(), Rng(0)))
    assert len(states) == 4
    x = 1.0
    for i, state in enumerate(states):
        x += 0.25 * (-x + i / 4)
        assert state.item() == pytest.approx(x, abs=1e-15)


def test_the_caller_may_stop_early() -> None:
    calls = []

    def process(x: Tensor, t: Tensor) -> Characteristics:
        calls.append(t)
        return ramp(x, t)

    for _ in trajectory(process, column(1.0), linear_grid(100), Euler(), Rng(0)):
        if len(calls) == 3:
            break
    assert len(calls) == 3


@pytest.mark.parametrize(
    "times",
    [linear_grid(8), linear_grid(8, 1.0, 0.0), linear_grid(8, 0.3, 0.8), linear_grid(8, 0.9, 0.2), edm_grid(12)],
    ids=["forwards", "backwards", "part", "part back", "edm"],
)
@pytest.mark.parametrize("solver", [Euler(), Midpoint(), Heun(), RK4()], ids=lambda solver: type(solver).__name__)
def test_accuracy_on_any_monotone_grid(solver, times: list[float]) -> None:
    end = simulate(ramp, column(1.0), times, solver, Rng(0)).item()
    tolerance = {Euler: 0.2, Midpoint: 0.02, Heun: 0.02, RK4: 2e-4}[type(solver)]
    assert end == pytest.approx(exact(1.0, times[0], times[-1]), abs=tolerance)


@pytest.mark.parametrize(
    "times",
    [
        *([0.5], [], [0.0, 1.5], [-0.1, 1.0], [0.0, math.nan, 1.0]),
        *([0.0, math.inf], [0.0, 0.5, 0.5, 1.0], [0.0, 0.6, 0.4, 1.0]),
    ],
)
def test_grids_that_are_not_monotone_in_the_unit_interval_are_refused(times: list[float]) -> None:
    with refuses(ValueError, argument="times"):
        simulate(ramp, column(1.0), times, Euler(), Rng(0))


def noisy(theta: Tensor):
    """Return a process whose drift and noise depend on a parameter."""

    def process(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(-theta * x + torch.sin(theta * x), (0.3 * theta**2).expand(x.shape))

    return process


def test_recompute_saves_one_state_per_step() -> None:
    """What autograd saves no longer grows with the network: here by the 50 layers of each call."""
    theta = torch.ones((), dtype=F64, requires_grad=True)

    def deep(x: Tensor, t: Tensor) -> Characteristics:
        y = x
        for _ in range(50):
            y = torch.sin(y * theta)
        return Characteristics(velocity=y)

    def saved(recompute: bool) -> int:
        sizes = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            simulate(deep, torch.ones(64, 1, dtype=F64), linear_grid(10), Euler(), Rng(0), recompute=recompute)
        return sum(sizes)

    assert saved(False) > 10 * 50 * 64
    assert saved(True) < 10 * 64 * 8


def test_recompute_works_on_trees() -> None:
    theta = torch.ones((), dtype=F64, requires_grad=True)

    def process(x: dict[str, Tensor], t: Tensor) -> dict[str, Characteristics]:
        return {name: Characteristics(velocity=theta * leaf) for name, leaf in x.items()}

    x_0 = {"a": column(1.0), "b": column(2.0, 3.0)[:1]}
    gradients = [
        torch.autograd.grad(
            sum(
                leaf.sum()
                for leaf in simulate(process, x_0, linear_grid(4), RK4(), Rng(0), recompute=recompute).values()
            ),
            theta,
        )[0]
        for recompute in (False, True)
    ]
    close(gradients[0], gradients[1], 1e-13)


def test_other_seeds_draw_other_noise() -> None:
    x_0 = torch.zeros(4, 1, dtype=F64)
    a, b, again = (simulate(noisy(f64(1.0)[0]), x_0, linear_grid(3), Euler(), Rng(seed)) for seed in (0, 1, 0))
    assert torch.equal(a, again)
    assert not torch.equal(a, b)


def test_observed_entries_stay_with_solvers_that_add_noise() -> None:
    x, mask = torch.tensor([[0.3, -1.2]], dtype=F64), torch.tensor([[True, False]])
    process = clamp(lambda x, t: Characteristics(velocity=-x), mask)
    for solver in (Ancestral(VP()), DPMSolver(VP(), stochastic=True), UniPC(VP()), Midpoint()):
        end = simulate(process, x, [0.1, 0.5, 0.9], solver, Rng(0))
        assert end[0, 0] == 0.3
        assert end[0, 1] != -1.2
