"""The controlled chain and its adjoint: adjoint matching reference, sections 4 to 6."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.memoryless_chain import MemorylessChain, adjoint_steps, roll_out
from feller.core.rng import Rng
from feller.paths.processes import Characteristics
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from tests.control.shifted import rate
from tests.oracle import F64, Normal, close, column


def tilt(data: Normal, steps: int, slope: float) -> tuple[list[float], list[float]]:
    """Return the times, and the change of velocity that each step asks for: all of the state, for a linear reward."""
    times, states = linear_grid(steps), [column(0.3, -1.0)] * steps
    chain = MemorylessChain(states, states, states[0], times, MemorylessEuler())
    gradient = torch.full((2, 1), slope, dtype=F64)
    found = {}
    for step in adjoint_steps(data.flow, chain, gradient):
        change = step.target() - step.base
        assert (change[0] - change[1]).abs() < 1e-12
        found[step.number] = change[0].item()
    return times, [found[k] for k in range(steps)]


def mean_after(data: Normal, times: list[float], change: list[float]) -> float:
    """Return where the flow leads the mean 0, with a change of velocity that is straight between its times."""
    fine = linear_grid(4000)
    added = np.interp([*fine, *(np.array(fine[:-1]) + fine[1] / 2)], times, [*change, 0.0])
    at, half = added[: len(fine)], added[len(fine) :]
    mean = 0.0
    for k, t in enumerate(fine[:-1]):
        h = fine[k + 1] - t
        middle = mean + h / 2 * (rate(data, t) * mean + at[k])
        mean += h * (rate(data, t + h / 2) * middle + half[k])
    return mean


@pytest.mark.parametrize(
    ("variance", "steps", "chain", "ode"),
    [
        (1.0, 20, 0.996, 1.020),
        (1.0, 40, 0.999, 1.019),
        (0.25, 10, 1.000, 0.974),
        (0.25, 20, 1.000, 0.996),
        (0.25, 40, 1.000, 1.003),
        (0.01, 10, 2.014, 0.715),
        (0.01, 20, 1.092, 0.860),
        (0.01, 40, 1.020, 0.930),
    ],
)
def test_fixed_point_of_the_discrete_loss(variance: float, steps: int, chain: float, ode: float) -> None:
    """How far the mean moves, by what it should: in the chain with a last step without noise, and along the flow."""
    data = Normal(s=math.sqrt(variance))
    times, change = tilt(data, steps, 2.0)
    solver, wanted = MemorylessEuler(), 2.0 * variance
    means = []
    for shift in ([0.0] * steps, change):
        mean = torch.zeros(1, 1, dtype=F64)
        for k in range(steps):
            t = torch.full((1,), times[k], dtype=F64)
            mean = solver.linear_step(times[k], times[k + 1]).mean(mean, data.flow(mean, t).velocity + shift[k])
        means.append(mean.item())
    assert (means[1] - means[0]) / wanted == pytest.approx(chain, abs=6e-4)
    assert mean_after(data, times, change) / wanted == pytest.approx(ode, abs=2e-3)  # how it is interpolated matters


def test_lean_adjoint_is_the_gradient_of_the_chain() -> None:
    def base(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(torch.sin(2 * x) * (1 + t[:, None]) - 0.3 * x.flip(1))

    times, solver = linear_grid(6), MemorylessEuler()
    x_0 = Rng(0).stream("source").normal((5, 3), F64)
    chain = roll_out(base, x_0, times, solver, Rng(1))
    gradient = torch.cos(chain.end)
    for step in adjoint_steps(base, chain, gradient):
        x = chain.states[step.number].clone().requires_grad_()
        y = x
        for k in range(step.number, 6):
            mean = solver.linear_step(times[k], times[k + 1]).mean(
                y, base(y, torch.full((5,), times[k], dtype=F64)).velocity
            )
            if k == step.number:
                start = mean
            noise = 0.0 if k == 5 else chain.states[k + 1] - mean.detach()
            y = mean + noise
        (found,) = torch.autograd.grad(-y.sin().sum(), start)
        torch.testing.assert_close(step.adjoint, found, rtol=0, atol=1e-10)


def test_full_adjoint_is_the_gradient_of_cost_and_reward() -> None:
    def base(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(torch.sin(2 * x) * (1 + t[:, None]))

    def tuned(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(base(x, t).velocity + 0.2 * torch.cos(x))

    times, solver = linear_grid(6), MemorylessEuler()
    x_0 = Rng(0).stream("source").normal((5, 3), F64)
    chain = roll_out(tuned, x_0, times, solver, Rng(1))
    for step in adjoint_steps(base, chain, torch.cos(chain.end), tuned):
        y = chain.states[step.number + 1] if step.number < 5 else chain.end
        y = y.clone().requires_grad_()
        start, cost = y, 0.0
        for k in range(step.number + 1, 6):
            t, linear = torch.full((5,), times[k], dtype=F64), solver.linear_step(times[k], times[k + 1])
            control = tuned(y, t).velocity - base(y, t).velocity
            cost = cost + linear.on_velocity**2 / linear.variance / 2 * control.square().sum()
            mean = linear.mean(y, tuned(y, t).velocity)
            y = mean + (0.0 if k == 5 else chain.states[k + 1] - mean.detach())
        (found,) = torch.autograd.grad(cost - y.sin().sum(), start)
        torch.testing.assert_close(step.adjoint, found, rtol=0, atol=1e-10)


def test_last_step_has_no_noise() -> None:
    data, times, solver = Normal(), linear_grid(5), MemorylessEuler()
    chain = roll_out(data.flow, column(0.1, 0.2), times, solver, Rng(3))
    assert len(chain.states) == len(chain.velocities) == 5
    mean, _ = solver.moments(data.flow, chain.states[-1], 0.8, 1.0)
    assert torch.equal(chain.end, mean)
    t = torch.full((2,), 0.4, dtype=F64)
    close(chain.velocities[2], data.flow(chain.states[2], t).velocity, 1e-12)
