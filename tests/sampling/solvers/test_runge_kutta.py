"""Runge-Kutta solvers: the table of the flow matching reference, section 19 item 7."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths.processes import Characteristics, Jumps
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, Euler, Heun, Midpoint, Solver, simulate
from tests.oracle import F64, close, column, f64, orders

RULES = [(Euler(), 0.6328125, 1.02), (Midpoint(), 0.7450580597, 2.03), (Heun(), 0.7450580597, 2.03)]
RULES += [(RK4(), 0.7357883988, 4.03)]


def ramp(x: Tensor, t: Tensor) -> Characteristics:
    """x' = -x + t; from 1 to 2 / e."""
    return Characteristics(velocity=-x + t[:, None])


@pytest.mark.parametrize(("solver", "value", "order"), RULES, ids=lambda value: type(value).__name__)
def test_values_and_orders(solver: Solver, value: float, order: float) -> None:
    end = simulate(ramp, column(1.0), linear_grid(4), solver, Rng(0))
    assert end.item() == pytest.approx(value, abs=6e-11)
    (observed,) = orders(solver, ramp, column(1.0), f64(2 / math.e), [linear_grid(16), linear_grid(32)])
    assert observed == pytest.approx(order, abs=0.02)


@pytest.mark.parametrize("solver", [Midpoint(), Heun(), RK4()], ids=lambda solver: type(solver).__name__)
def test_jumps_follow_the_flow_once_with_the_last_prediction(solver: Solver) -> None:
    seen = []

    def process(x: Tensor, t: Tensor) -> Characteristics:
        seen.append(x.clone())
        call = len(seen)

        def hazard(s: float) -> Tensor:
            assert call == 1
            return f64(math.inf, 0.0)[:, None]

        def land(s: float, which: Tensor, draw) -> Tensor:
            return f64(100.0 * call)

        return Characteristics(torch.ones_like(x), jumps=Jumps(hazard, land))

    x = solver.step(process, torch.zeros(2, 1, dtype=F64), 0.0, 0.5, Rng(0).stream("simulate"))
    assert len(seen) == type(solver).nfe_per_step
    assert max(state.max() for state in seen) <= 0.5
    close(x[:, 0], (100.0 * len(seen), 0.5), 1e-15)


def test_superposed_jumps_choose_by_the_first_hazard() -> None:
    """Two kinds of equal hazard beside a flow; half of the 20,000 that jump go each way, to five standard errors."""

    def process(x: Tensor, t: Tensor) -> Characteristics:
        def kind(place: float) -> Jumps:
            now = t.clone()
            return Jumps(lambda s: (s - now)[:, None], lambda s, which, draw: torch.full((int(which.sum()),), place))

        return Characteristics(velocity=torch.zeros_like(x), jumps=kind(1.0) + kind(2.0))

    for solver in (Midpoint(), Heun(), RK4()):
        x = solver.step(process, torch.zeros(20_000, 1), 0.0, 1.0, Rng(0).stream("x"))
        jumped = x[x > 0]
        assert len(jumped) > 16_000
        assert abs((jumped == 1).double().mean().item() - 0.5) < 5 * 0.5 / len(jumped) ** 0.5
