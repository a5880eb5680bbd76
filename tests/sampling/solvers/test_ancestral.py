"""Ancestral steps: the flow matching reference, section 9, and adjoint matching, section 5.2."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Affine, Geodesic
from feller.paths.processes import Characteristics
from feller.paths.schedules import VE, VP, Cosine, CustomSchedule, Linear, LinearVP, Polynomial, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import Ancestral, Euler, MemorylessEuler, simulate
from feller.spaces import Sphere
from tests.errors import refuses
from tests.oracle import F64, Normal, chain, close, column, f64, number

SCHEDULES = [Linear(), Polynomial(2.0), Cosine(), LinearVP(), VP(), VE(0.1, 5.0)]


def toward(schedule: Schedule, x_1: float):
    """Return the flow to a fixed data prediction."""

    def process(x: Tensor, t: Tensor) -> Characteristics:
        scales = schedule(t)
        alpha, sigma, d_alpha, d_sigma = (torch.as_tensor(v, dtype=F64).expand(t.shape)[:, None] for v in scales)
        return Characteristics(velocity=d_alpha * x_1 + d_sigma * (x - alpha * x_1) / sigma)

    return process


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_any_step_is_exact_for_known_data(schedule: Schedule, eta: float) -> None:
    """X_t ~ N(alpha_t x_1, sigma_t^2) goes to N(alpha_s x_1, sigma_s^2), for noise from none to all anew."""
    t, s, x_1 = 0.3, 0.8, 1.7
    alpha, sigma = (number(v) for v in schedule(f64(t))[:2])
    mean, variance = chain(Ancestral(schedule, eta), toward(schedule, x_1), [t, s], alpha * x_1, sigma**2)
    later = schedule(f64(s))
    assert mean == pytest.approx(number(later.alpha) * x_1, abs=1e-11)
    assert variance == pytest.approx(number(later.sigma) ** 2, rel=1e-11)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_eta_one_is_the_posterior_of_the_noising_chain(schedule: Schedule) -> None:
    """Mean (sigma_s^2 / sigma_t^2) r x + (alpha_s vv / sigma_t^2) x_1, variance vv sigma_s^2 / sigma_t^2."""
    t, s, x_1 = 0.3, 0.8, 1.7
    (a_t, s_t), (a_s, s_s) = ([number(v) for v in schedule(f64(time))[:2]] for time in (t, s))
    r = a_t / a_s
    fresh = s_t**2 - r**2 * s_s**2
    mean, variance = Ancestral(schedule).moments(toward(schedule, x_1), column(0.4), t, s)
    close(mean, s_s**2 / s_t**2 * r * 0.4 + a_s * fresh / s_t**2 * x_1, 1e-12)
    close(variance, fresh * s_s**2 / s_t**2, 1e-12)


def test_eta_zero_is_euler_on_the_linear_schedule() -> None:
    x_0, data = column(-2.0, 0.0, 1.5), Normal()
    ends = [simulate(data.flow, x_0, linear_grid(7), solver, Rng(0)) for solver in (Ancestral(eta=0.0), Euler())]
    close(*ends, 1e-14)
    mean, variance = Ancestral(eta=0.0).moments(data.flow, x_0, 0.2, 0.4)
    assert variance is None
    close(mean, Euler().moments(data.flow, x_0, 0.2, 0.4)[0], 1e-14)


@pytest.mark.parametrize(
    ("steps", "ancestral", "euler"),
    [(10, 0.1494, 0.1856), (20, 0.1875, 0.2155), (40, 0.2140, 0.2321), (100, 0.2340, 0.2427)],
)
def test_moments_of_the_tilted_chain(steps: int, ancestral: float, euler: float) -> None:
    """N(1, 0.25) tilted by r = 2 x is N(1.5, 0.25); its exact velocity under both chains, as printed."""
    tilted = Normal(m=1.5)
    for solver, variance in ((Ancestral(), ancestral), (Euler(), euler)):
        moments = chain(solver, tilted.flow, linear_grid(steps), 0.0, 1.0)
        assert moments == pytest.approx((1.5, variance), abs=6e-5)


def test_the_first_step_does_not_depend_on_the_source() -> None:
    """At t = 0 of a schedule with alpha = 0: mean alpha_s x_1, variance sigma_s^2, whatever x is."""
    mean, variance = Ancestral().moments(Normal().flow, column(-3.0, 5.0), 0.0, 0.1)
    close(mean, (0.1, 0.1), 1e-14)
    close(variance.expand_as(mean), (0.81, 0.81), 1e-14)


def test_the_last_step_returns_the_data_prediction() -> None:
    data, x = Normal(), column(-1.0, 2.0)
    mean, variance = Ancestral().moments(data.flow, x, 0.9, 1.0)
    assert variance is None
    close(mean, 1 + 0.9 * 0.25 / data.moments(0.9)[1] * (x - 0.9), 1e-14)


def test_unsupported_processes_are_refused() -> None:
    noisy = Characteristics(torch.ones(2, 1), torch.ones(2, 1))
    with refuses(ValueError, argument="solver"):
        Ancestral().moments(lambda x, t: noisy, torch.ones(2, 1), 0.1, 0.2)
    with refuses(ValueError, argument="solver"):
        Ancestral().moments(lambda x, t: Characteristics(), torch.ones(2, 1), 0.1, 0.2)
    with refuses(ValueError, argument="times"):
        Ancestral().moments(Normal().flow, column(1.0), 0.2, 0.1)


@pytest.mark.parametrize("solver", [Ancestral, MemorylessEuler])
def test_another_schedule_than_that_of_the_path_is_refused(solver: type[Ancestral | MemorylessEuler]) -> None:
    def at_rest(x: Tensor, t: Tensor, cond: object) -> Tensor:
        return torch.zeros_like(x)

    same = CustomSchedule(lambda t: torch.sin(math.pi / 2 * t), lambda t: torch.cos(math.pi / 2 * t))
    for own, path_schedule in ((Linear(), VP()), (VP(), Linear()), (VP(0.1, 10.0), VP()), (Linear(), Cosine())):
        with refuses(UsageError, argument="solver", found=str(own)):
            simulate(Affine(path_schedule).process(at_rest, {}), column(1.0), [0.5, 0.6], solver(own), Rng(0))
    for own, path_schedule in ((Linear(), Polynomial(1.0)), (VP(), VP(0.1, 20.0)), (same, Cosine())):
        simulate(Affine(path_schedule).process(at_rest, {}), column(1.0), [0.5, 0.6], solver(own), Rng(0))


def test_a_path_that_is_not_affine_is_refused() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0]])
    with refuses(UsageError, argument="solver", found="Ancestral"):
        process = Geodesic(Sphere()).process(lambda x, t, cond: torch.zeros_like(x), {})
        simulate(process, x, [0.5, 0.6], Ancestral(), Rng(0))


@pytest.mark.parametrize("eta", [-1.0, math.nan, math.inf])
def test_eta_is_finite_and_at_least_0(eta: float) -> None:
    with refuses(UsageError, argument="eta"):
        Ancestral(eta=eta)
