"""Dormand-Prince: order, step size control, grid times."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.processes import Characteristics, Jumps
from feller.paths.time_distributions import linear_grid
from feller.sampling import DormandPrince, MaxStepsError, simulate, trajectory
from feller.sampling.solvers.dormand_prince import _ERROR, _STAGES, _TIMES
from tests.errors import refuses
from tests.oracle import F64, Normal, close, column, f64
from tests.sampling.solvers.test_runge_kutta import ramp


def fixed(n: int) -> float:
    """Return the state after n equal steps with the stages of the method, without error control."""
    running, x, t = DormandPrince().init_stepper(), column(1.0), f64(0.0)
    h = f64(1 / n)
    running.velocity = running._velocity(ramp, x, t)
    for _ in range(n):
        x, running.velocity, _ = running._attempt(ramp, x, t, h)
        t = t + h
    return x.item()


def test_order_is_five() -> None:
    errors = [abs(fixed(n) - 2 / math.e) for n in (8, 16, 32)]
    observed = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert observed == pytest.approx([5, 5], abs=0.15)
    assert errors[0] < 1e-8


def test_the_tableau_is_consistent() -> None:
    """Rows add up to their times; the weights of the error add up to zero; the last stage is the next first."""
    for time, row in zip(_TIMES[1:], _STAGES[1:], strict=True):
        assert sum(row) == pytest.approx(time, abs=1e-14)
    assert sum(_ERROR) == pytest.approx(0, abs=1e-15)
    for power in range(1, 5):  # quadrature conditions up to order 5
        weights = sum(w * t**power for w, t in zip(_STAGES[-1], _TIMES[:-1], strict=True))
        assert weights == pytest.approx(1 / (power + 1), abs=1e-14)
    for power in range(1, 4):  # the embedded rule has order 4: its difference vanishes below
        assert sum(w * t**power for w, t in zip(_ERROR, _TIMES, strict=True)) == pytest.approx(0, abs=1e-14)
    assert abs(sum(w * t**4 for w, t in zip(_ERROR, _TIMES, strict=True))) > 1e-4


def test_error_estimate_bounds_the_error() -> None:
    running, x, h = DormandPrince(rtol=0.0, atol=1.0).init_stepper(), column(1.0), f64(0.5)
    running.velocity = running._velocity(ramp, x, f64(0.0))
    y, _, error = running._attempt(ramp, x, f64(0.0), h)
    truth = abs(y.item() - (2 * math.exp(-0.5) - 0.5))
    assert truth < error.item() < 100 * truth


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8, 1e-10])
def test_tolerances_are_kept(tolerance: float, per_example: bool) -> None:
    data, x_0 = Normal(), column(-2.0, -0.7, 3.0)
    solver = DormandPrince(rtol=tolerance, atol=tolerance, per_example=per_example)
    close(simulate(data.flow, x_0, [0.0, 1.0], solver, Rng(0)), 1 + 0.5 * x_0, 10 * tolerance)
    close(simulate(data.flow, 1 + 0.5 * x_0, [1.0, 0.0], solver, Rng(0)), x_0, 30 * tolerance)


def test_grid_times_are_hit_exactly() -> None:
    seen = []

    def clock(x: Tensor, t: Tensor) -> Characteristics:
        seen.append((t.min().item(), t.max().item()))
        return Characteristics(velocity=torch.ones_like(x))

    times = [0.1, 0.35, 0.4, 1.0]
    for s, x in zip(times[1:], trajectory(clock, column(0.1, 0.1), times, DormandPrince(), Rng(0)), strict=True):
        close(x, (s, s), 1e-15 * 8)
    assert min(low for low, _ in seen) == 0.1
    assert max(high for _, high in seen) == 1.0


def test_a_discontinuity_costs_steps_not_accuracy() -> None:
    """A velocity that flips at t = 1 / 3: the integral is 1 / 3 - 2 / 3."""

    def flip(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=torch.where(t < 1 / 3, 1.0, -1.0)[:, None].to(x.dtype).expand(x.shape))

    close(simulate(flip, column(0.0), [0.0, 1.0], DormandPrince(rtol=1e-7, atol=1e-7), Rng(0)), -1 / 3, 1e-5)


def test_step_sizes_carry_over_along_the_grid() -> None:
    calls = []

    def counted(x: Tensor, t: Tensor) -> Characteristics:
        calls.append(1)
        return ramp(x, t)

    simulate(counted, column(1.0), linear_grid(20), DormandPrince(rtol=1e-3, atol=1e-3), Rng(0))
    assert len(calls) <= 2 + 6 * 23  # the first guess may be too careful for a few steps


def test_per_example_steps_do_not_depend_on_the_batch() -> None:
    def stiff(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=-x * x.abs() + t.reshape(-1, *(1,) * (x.ndim - 1)))

    for shape in ((-1, 1), (-1,)):
        both, alone = f64(1.0, 60.0).reshape(shape), f64(1.0).reshape(shape)
        solver = DormandPrince(rtol=1e-5, atol=1e-5, per_example=True)
        ends = [simulate(stiff, x, linear_grid(3), solver, Rng(0))[0] for x in (both, alone)]
        assert torch.equal(*ends)
        shared = [simulate(stiff, x, linear_grid(3), DormandPrince(), Rng(0))[0] for x in (both, alone)]
        assert not torch.equal(*shared)
        close(ends[0], shared[0].item(), 1e-4)


@pytest.mark.parametrize("per_example", [False, True])
def test_padding_does_not_change_the_steps(per_example: bool) -> None:
    def process(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=-x + t[:, None])

    valid = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    clean = torch.where(valid, torch.arange(9.0, dtype=F64).reshape(3, 3), 0.0)
    dirty = torch.where(valid, clean, torch.tensor([math.nan, math.inf, 1e30], dtype=F64))
    solver = DormandPrince(rtol=1e-6, atol=1e-6, per_example=per_example, valid=valid)
    ends = [simulate(process, x, [0.0, 1.0], solver, Rng(0))[valid] for x in (clean, dirty)]
    assert torch.equal(*ends)


def test_max_steps_error_holds_state_and_time() -> None:
    def wild(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=torch.sin(1e6 * t)[:, None] * 1e6 + 0 * x)

    with refuses(MaxStepsError) as caught:
        simulate(wild, column(0.0), [0.0, 1.0], DormandPrince(max_steps=50), Rng(0))
    assert caught.value.x.shape == (1, 1)
    assert 0 < caught.value.t.item() < 1


def test_nan_velocities_are_refused() -> None:
    with refuses(ValueError):
        simulate(
            lambda x, t: Characteristics(velocity=x * math.nan),
            column(1.0),
            [0.0, 1.0],
            DormandPrince(max_steps=20),
            Rng(0),
        )


def test_unsupported_processes_are_refused() -> None:
    x = torch.ones(2, 1)
    noisy = Characteristics(x, x)
    jumping = Characteristics(x, jumps=Jumps(lambda s: x, lambda s, which, draw: which))
    for now in (noisy, jumping, Characteristics()):
        with refuses(ValueError, argument="solver"):
            simulate(lambda x, t, now=now: now, x, [0.0, 1.0], DormandPrince(), Rng(0))


def test_gradients_flow_through_the_steps() -> None:
    theta = f64(1.3)[0].requires_grad_()

    def value(theta: Tensor) -> Tensor:
        def process(x: Tensor, t: Tensor) -> Characteristics:
            return Characteristics(velocity=-theta * x)

        return simulate(process, column(2.0), [0.0, 1.0], DormandPrince(rtol=1e-8, atol=1e-8), Rng(0)).sum()

    (gradient,) = torch.autograd.grad(value(theta), theta)
    close(gradient, -2 * math.exp(-1.3), 1e-7)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_tolerances_are_finite_and_not_negative(name: str, value: float) -> None:
    with refuses(UsageError, argument=name):
        DormandPrince(**{name: value})


def test_a_simulation_has_at_least_one_step() -> None:
    with refuses(UsageError, argument="max_steps"):
        DormandPrince(max_steps=0)
