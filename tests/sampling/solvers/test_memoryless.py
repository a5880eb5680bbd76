"""Memoryless steps: adjoint matching reference, section 5.2, whose tables are in float64."""

import itertools
import math

import pytest
import torch

from feller.paths.schedules import VP, Cosine, Linear
from feller.paths.time_distributions import linear_grid
from feller.sampling.solvers.linear_step import LinearStep, MemorylessEuler
from tests.oracle import F64, Normal, chain, close, column


def exact_chain(steps: int, wanted: Normal) -> tuple[float, float]:
    """Return mean and variance of the chain, including the noise of the last step."""
    return chain(MemorylessEuler(wanted.schedule), wanted.flow, linear_grid(steps), 0.0, 1.0)


@pytest.mark.parametrize(("steps", "variance"), [(10, 0.2501), (20, 0.2499), (40, 0.2500), (100, 0.2500)])
def test_moments_of_the_tilted_gaussian_on_the_linear_schedule(steps: int, variance: float) -> None:
    """N(1, 0.25) tilted by r = 2 x is N(1.5, 0.25): scheme C as printed."""
    mean, found = exact_chain(steps, Normal(m=1.5))
    assert mean == pytest.approx(1.5, abs=1e-12)
    assert found == pytest.approx(variance, abs=6e-5)


@pytest.mark.parametrize(
    ("schedule", "steps", "mean", "variance"),
    [
        (Cosine(), 20, 1.5306, 0.2603),
        (Cosine(), 40, 1.5154, 0.2551),
        (VP(), 20, 1.5441, 0.2744),
        (VP(), 40, 1.5222, 0.2602),
    ],
    ids=repr,
)
def test_moments_on_other_schedules_are_of_order_one(schedule, steps: int, mean: float, variance: float) -> None:
    assert exact_chain(steps, Normal(m=1.5, schedule=schedule)) == pytest.approx((mean, variance), abs=6e-5)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
def test_the_first_step_does_not_depend_on_the_source(schedule) -> None:
    mean, variance = MemorylessEuler(schedule).moments(Normal(schedule=schedule).flow, column(-3.0, 5.0), 0.0, 0.1)
    scales = schedule(torch.tensor(0.1, dtype=F64))
    close(mean, (float(scales.alpha),) * 2, 1e-12)
    close(variance.flatten(), (float(scales.sigma) ** 2,), 1e-12)


def test_linear_step_coefficients() -> None:
    """CondOT: A = 1 - h / (t + h), B = h (1 + t / (t + h)), q = 2 h (1 - t) / (t + h); the last has 2 h^2."""
    step = MemorylessEuler().linear_step(0.3, 0.35)
    assert step == pytest.approx(LinearStep(1 - 0.05 / 0.35, 0.05 * (1 + 0.3 / 0.35), 0.1 * 0.7 / 0.35), abs=1e-15)
    assert MemorylessEuler().linear_step(0.975, 1.0).variance == pytest.approx(2 * 0.025**2, abs=1e-15)


@pytest.mark.parametrize(
    ("steps", "known"),
    [(20, (-0.04403, -0.68171, -2.06984)), (40, (-0.05260, -0.74030, -2.09350)), (100, (-0.05792, -0.77596, -2.10792))],
)
def test_lean_adjoint_of_the_chain(steps: int, known: tuple[float, ...]) -> None:
    """Lean adjoint of N(1, 0.25), r = 2 x: one transposed mean a step."""
    data, solver, times = Normal(), MemorylessEuler(), linear_grid(steps)
    adjoint, found = -2.0, {}
    for k in reversed(range(steps)):
        mean, _ = solver.moments(data.flow, column(0.0, 1.0), times[k], times[k + 1])
        adjoint *= (mean[1] - mean[0]).item()
        found[round(times[k], 6)] = adjoint
    assert [found[t] for t in (0.1, 0.5, 0.9)] == pytest.approx(known, abs=6e-6)


def test_largest_variance_overshoot() -> None:
    """Marginals of the steps: 1.30 times too wide at worst with 40 steps, where without the ancestral step it is 2."""
    data, times = Normal(), linear_grid(40)
    mean, variance, worst = 0.0, 1.0, 0.0
    for t, s in itertools.pairwise(times):
        mean, variance = chain(MemorylessEuler(), data.flow, [t, s], mean, variance)
        worst = max(worst, variance / (s**2 * 0.25 + (1 - s) ** 2) if s < 1 else 0.0)
    assert worst == pytest.approx(1.30, abs=0.005)
    assert math.isfinite(variance)
