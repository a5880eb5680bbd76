"""Multistep solvers: orders on a flow with a closed form, exactness, and their schedules' ends."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.diffusion_steps import DiffusionBetas, DiffusionSteps
from feller.paths.processes import Characteristics, Jumps
from feller.paths.schedules import VP, Cosine, Linear, LinearVP, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import DEIS, RK4, AdamsBashforth, Ancestral, DPMSolver, UniPC, simulate
from feller.spaces import Sphere
from tests.errors import refuses
from tests.oracle import F64, Normal, close, column, f64, orders

SCHEDULES = [Linear(), Cosine(), LinearVP(), VP()]
LAMBDA_SOLVERS = [DPMSolver, UniPC, lambda schedule: UniPC(schedule, order=3), DEIS]


def oscillation(x: Tensor, t: Tensor) -> Characteristics:
    """x' = -x + cos 3t, with the solution of `oscillated`."""
    return Characteristics(velocity=-x + torch.cos(3 * t)[:, None])


def oscillated(t: float, x_0: float) -> float:
    return (x_0 - 0.1) * math.exp(-t) + (math.cos(3 * t) + 3 * math.sin(3 * t)) / 10


@pytest.mark.parametrize("order", [2, 3, 4])
def test_adams_bashforth_reaches_its_order_with_equal_and_unequal_steps(order: int) -> None:
    truth = f64(oscillated(1.0, 2.0))
    for grid in (lambda n: linear_grid(n), lambda n: [(i / n) ** 1.5 for i in range(n + 1)]):
        observed = orders(AdamsBashforth(order), oscillation, column(2.0), truth, [grid(n) for n in (64, 128, 256)])
        assert observed[-1] == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(
    ("order", "nfe", "steps"), [(2, 8, 8), (3, 8, 6), (3, 3, 1), (4, 20, 11), (4, 12, 3), (4, 3, 0)]
)
def test_evaluations_of_adams_bashforth(order: int, nfe: int, steps: int) -> None:
    calls = 0

    def process(x: Tensor, t: Tensor) -> Characteristics:
        nonlocal calls
        calls += 1
        return oscillation(x, t)

    solver = AdamsBashforth(order)
    assert solver.num_steps(nfe) == steps
    if steps:
        simulate(process, column(1.0), linear_grid(steps), solver, Rng(0))
        assert calls == solver.num_evaluations(steps) <= nfe


def test_adams_bashforth_on_a_sphere() -> None:
    """A rotation about an axis that moves; the reference is RK4 with 200 steps."""
    space = Sphere(2)

    def process(x: Tensor, t: Tensor) -> Characteristics:
        axis = torch.stack([torch.cos(2 * t), torch.sin(2 * t), torch.ones_like(t)], 1)
        return Characteristics(velocity=torch.linalg.cross(axis, x), is_tangent=True)

    x = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64)
    truth = simulate(process, x, linear_grid(200), RK4(space), Rng(0))
    for order in (2, 3):
        observed = orders(AdamsBashforth(order, space), process, x, truth, [linear_grid(n) for n in (16, 32)])
        assert observed[0] == pytest.approx(order, abs=0.35)
        close(simulate(process, x, linear_grid(8), AdamsBashforth(order, space), Rng(0)).norm(dim=1), 1.0, 1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("make", LAMBDA_SOLVERS, ids=["dpm", "unipc2", "unipc3", "deis"])
def test_order_of_exponential_multistep(make, schedule: Schedule) -> None:
    """At least order 2 on a Gaussian, over all times; UniPC with three predictions has order 3."""
    data, solver = Normal(schedule), make(schedule)
    truth = data.carry(column(-1.0, 2.0), 0.05, 0.95)
    grids = [[0.05 + 0.9 * i / n for i in range(n + 1)] for n in (160, 320)]
    observed = orders(solver, data.flow, column(-1.0, 2.0), truth, grids)
    assert observed[-1] > getattr(solver, "order", 2) - 0.25


@pytest.mark.parametrize("make", LAMBDA_SOLVERS, ids=["dpm", "unipc2", "unipc3", "deis"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_known_endpoint_is_reached_exactly(schedule: Schedule, make) -> None:
    """If the data, or the noise, are a point, any step is exact, also to and from the ends of the schedule."""
    x_0 = column(-2.0, 0.3)
    data = Normal(schedule, m=1.7, s=0.0)
    for steps in (1, 2, 5):
        x = simulate(data.flow, x_0, linear_grid(steps), make(schedule), Rng(0))
        close(x, data.carry(x_0, 0.0, 1.0), 1e-9)


def test_stochastic_steps_keep_the_marginals() -> None:
    """Mean and variance of 40,000 samples, to five standard errors and the error of 64 steps."""
    data, x = Normal(VP()), torch.randn(40_000, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    end = simulate(data.flow, x, linear_grid(64), DPMSolver(VP(), stochastic=True), Rng(1))
    mean, variance = data.moments(1.0)
    assert end.mean().item() == pytest.approx(mean, abs=5 * 0.5 / 200 + 0.005)
    assert end.var().item() == pytest.approx(variance, rel=5 * (2 / 40_000) ** 0.5 + 0.02)
    assert torch.corrcoef(torch.cat([x, end], 1).T)[0, 1].abs() < 0.5


def test_the_first_step_is_ddim() -> None:
    data, x = Normal(VP()), column(0.4)
    for make in LAMBDA_SOLVERS:
        first = make(VP()).step(data.flow, x, 0.2, 0.6, Rng(0).stream("x"))
        close(first, Ancestral(VP(), 0.0).step(data.flow, x, 0.2, 0.6, Rng(0).stream("x")), 1e-12)


def test_what_multistep_solvers_refuse() -> None:
    x = column(0.0)
    jumps = Jumps(lambda s: torch.ones(1, 1), lambda s, which, draw: torch.zeros(1))
    for solver in (AdamsBashforth(), DPMSolver(), UniPC(), DEIS()):
        for now in (
            Characteristics(velocity=x, diffusion=torch.ones(1, 1)),
            Characteristics(velocity=x, jumps=jumps),
            Characteristics(),
        ):
            with refuses(UsageError, argument="solver"):
                simulate(lambda x, t, now=now: now, x, [0.0, 0.5, 1.0], solver, Rng(0))
    for make in (AdamsBashforth, lambda order: UniPC(order=order), lambda order: DEIS(order=order)):
        with refuses(UsageError, argument="order"):
            make(5)
    for solver in (DPMSolver(), UniPC(), DEIS()):
        with refuses(UsageError, argument="times"):
            simulate(oscillation, x, [0.9, 0.5, 0.1], solver, Rng(0))


@pytest.mark.parametrize("solver", [AdamsBashforth(3), UniPC(), DEIS()], ids=lambda solver: type(solver).__name__)
def test_recomputed_steps_have_the_same_gradient(solver) -> None:
    """Of a flow with a weight, which memories of previous steps depend on, too."""
    gradients = []
    for recompute in (False, True):
        weight, x = torch.tensor(1.3, dtype=F64, requires_grad=True), column(0.4, -1.0).requires_grad_()

        def process(x: Tensor, t: Tensor, weight: Tensor = weight) -> Characteristics:
            return Characteristics(velocity=-weight * x.sin() + t[:, None])

        end = simulate(process, x, linear_grid(6), solver, Rng(0), recompute=recompute)
        gradients.append(torch.autograd.grad(end.square().sum(), [weight, x]))
    for plain, recomputed in zip(*gradients, strict=True):
        close(recomputed, plain, 1e-12)


def test_deis_on_the_betas_of_a_diffusion_model() -> None:
    """The slope of sigma is infinite at the end."""
    schedule = DiffusionBetas()
    normal = Normal(schedule, 0.3, 0.6)
    x = column(*torch.linspace(-2, 2, 9, dtype=F64).tolist())
    grid = DiffusionSteps().grid(50)
    error = (simulate(normal.flow, x, grid, DEIS(schedule), Rng(0)) - normal.carry(x, grid[0], 1.0)).abs().max()
    assert error < 0.01
