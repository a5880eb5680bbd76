"""Log densities of flows."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import RandomStream, Rng
from feller.paths import Affine, ProductPath, schedules
from feller.paths.processes import Characteristics, Jumps, Process
from feller.paths.schedules import Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import (
    RK4,
    Ancestral,
    Divergence,
    DormandPrince,
    Euler,
    ExactDivergence,
    Heun,
    Hutchinson,
    Midpoint,
    Solver,
    bits_per_dimension,
    initial_log_prob,
    log_prob,
    sample_with_log_prob,
    simulate,
)
from feller.spaces import Euclidean, Space, Sphere, Tokens
from feller.spaces import Product as ProductSpace
from tests.errors import refuses
from tests.oracle import F64, Normal, close, column, f64

BACK = linear_grid(20)[::-1]
FINE = DormandPrince(rtol=1e-9, atol=1e-9)
A = f64(0.3, 1.2, -0.7, 0.1, 0.4, 0.9, -0.2, -0.5, -0.6).view(3, 3)
RULES = [Euler(), Midpoint(), Heun(), RK4(), DormandPrince(rtol=1e-6, atol=1e-6)]


def arc(t: Tensor) -> Tensor:
    return torch.sin(math.pi / 2 * t)


def fall(t: Tensor) -> Tensor:
    return 1 - t**2


def log_normal(x: Tensor, m: float | Tensor, s: float | Tensor) -> Tensor:
    z = (x - m) / s
    return -(z**2 + math.log(2 * math.pi)) / 2 - torch.as_tensor(s, dtype=F64).log()


def linear(x: Tensor, t: Tensor) -> Characteristics:
    """x' = A x, over the first axis of states of 3 numbers or more."""
    return Characteristics(torch.einsum("ij,bj...->bi...", A.to(x), x))


def bend(x: Tensor, t: Tensor) -> Tensor:
    """Return a nonlinear, time-dependent vector field on three numbers."""
    return torch.sin(x @ A.T * 2 + t[:, None]) + x.roll(1, 1) * x


@dataclass(frozen=True)
class Unknown(Solver):
    """A solver that declares no stage weights."""

    rule: Solver
    space: Space
    stage_weights = ()

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        return replace(self.rule, space=self.space).step(process, x, t, s, rng)


class Counting(Divergence):
    """An exact network that counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def directions(self, x: list[Tensor], probes: list[Tensor]):
        self.count += 1
        return ExactDivergence().directions(x, probes)


EXACT_ENDS = [schedules.Linear(), schedules.Polynomial(2.0), schedules.Cosine(), schedules.CustomSchedule(arc, fall)]


@pytest.mark.parametrize("schedule", [*EXACT_ENDS, schedules.LinearVP()], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("divergence", [ExactDivergence(), Hutchinson()], ids=repr)
def test_log_prob_of_gaussian_data(schedule: Schedule, divergence: Divergence) -> None:
    """Log p_1(0.3) = -1.2057913526447 for data N(1, 0.5^2), whatever the schedule: reference, section 19 item 3.

    Rademacher probes are exact in one dimension. The slope of LinearVP is infinite at t = 1.
    """
    start = 1 - 1e-11 if isinstance(schedule, schedules.LinearVP) else 1.0
    x = column(0.3, -0.2, 1.7)

    def flow(x: Tensor, t: Tensor) -> Characteristics:
        return Normal(schedule).flow(x, t.clone())  # a formula's derivative wants memory of its own

    found = log_prob(flow, x, [start, 0.0], FINE, Rng(0), divergence=divergence)
    assert found[0].item() == pytest.approx(-1.2057913526447, abs=1e-8)
    close(found, log_normal(x, 1.0, 0.5)[:, 0], 1e-8)


@pytest.mark.parametrize(("rule", "order"), [(Euler(), 1), (Midpoint(), 2), (Heun(), 2), (RK4(), 4)], ids=repr)
def test_log_prob_has_the_order_of_the_solver(rule: Solver, order: int) -> None:
    error = [
        abs(log_prob(Normal().flow, column(0.3), linear_grid(n)[::-1], rule, Rng(0)).item() + 1.2057913526447)
        for n in (32, 64)
    ]
    assert math.log2(error[0] / error[1]) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize(("rule", "each"), [(Euler(), 1), (Midpoint(), 1), (Heun(), 2), (RK4(), 4)], ids=repr)
def test_divergence_is_evaluated_for_weighted_stages_only(rule: Solver, each: int) -> None:
    counting, x = Counting(), column(0.3, -0.2)
    found = log_prob(Normal().flow, x, BACK, rule, Rng(0), divergence=counting)
    assert counting.count == 20 * each
    counting, unknown = Counting(), Unknown(rule, Euclidean())
    close(log_prob(Normal().flow, x, BACK, unknown, Rng(0), divergence=counting), found, 1e-14)
    assert counting.count == 20 * rule.nfe_per_step


@pytest.mark.parametrize("times", [[0.2, 0.7], [0.7, 0.2], [0.0, 0.5], [0.5, 0.0]], ids=str)
def test_log_prob_over_any_interval(times: list[float]) -> None:
    x, normal = column(0.3, -1.0), Normal()

    def at(time: float):
        mean, variance = normal.moments(time)
        return lambda x: log_normal(x, mean, variance**0.5).sum(1)

    found = log_prob(normal.flow, x, times, FINE, Rng(0), source_log_prob=at(times[1]))
    close(found, at(times[0])(x), 1e-8)
    end, there = sample_with_log_prob(normal.flow, x, times, FINE, Rng(0), source_log_prob=at(times[0]))
    close(end, normal.carry(x, *times), 1e-8)
    close(there, at(times[1])(end), 1e-8)


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-7), (torch.float32, 1e-4)])
def test_linear_flows_of_any_shape(shape, dtype, tolerance) -> None:
    """x_1 = e^A x_0, so log p_1(x) = log p_0(e^-A x) - tr A for each column."""
    x = Rng(0).stream("x").normal((4, *shape), F64).to(dtype)
    x_0 = torch.einsum("ij,bj...->bi...", torch.linalg.matrix_exp(-A), x.double())
    expected = log_normal(x_0, 0.0, 1.0).flatten(1).sum(1) - A.trace() * math.prod(shape[1:])
    found = log_prob(linear, x, linear_grid(40)[::-1], RK4(), Rng(0), divergence=ExactDivergence())
    assert found.dtype == dtype
    close(found.double(), expected, tolerance)


def test_probes_are_unbiased_and_fixed_along_a_solve() -> None:
    """The error of 20,000 solves, five standard errors; one solve errs by one quadratic form, times the time."""
    n, x = 20_000, f64(0.5, -0.3, 0.8)[None]
    exact = log_prob(linear, x, BACK, Midpoint(), Rng(0), divergence=ExactDivergence())
    found = log_prob(linear, x.expand(n, 3), BACK, Midpoint(), Rng(1))
    away = found - exact
    assert abs(away.mean().item()) < 5 * away.std().item() / math.sqrt(n)
    skew = (A + A.T) / 2 - torch.diag(A.diagonal())
    assert away.var().item() == pytest.approx(2 * skew.square().sum().item(), rel=0.05)


def test_rows_are_independent() -> None:
    x = Rng(0).stream("x").normal((600, 3), F64)
    whole = log_prob(linear, x, BACK, Midpoint(), Rng(7))
    some = log_prob(linear, x[250:300], BACK, Midpoint(), replace(Rng(7), first_example=250))
    close(some, whole[250:300], 1e-13)
    assert not torch.equal(some, log_prob(linear, x[250:300], BACK, Midpoint(), Rng(7)))


@pytest.mark.parametrize("rule", RULES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("space", [Euclidean((3,)), Sphere()], ids=lambda value: type(value).__name__)
def test_log_prob_of_samples_equals_log_prob_while_sampling(rule: Solver, space: Space) -> None:
    def process(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(space.to_tangent(x, bend(x, t) / 2))

    adapts = isinstance(rule, DormandPrince)
    rule, grid = replace(rule, space=space), linear_grid(2 if adapts else 40)
    x_0 = space.sample_base(6, Rng(0).stream("source")).double()
    x_0 = space.project(x_0)
    x_1, forth = sample_with_log_prob(process, x_0, grid, rule, Rng(0), divergence=ExactDivergence())
    close(x_1, simulate(process, x_0, grid, rule, Rng(0)), 1e-6)
    back = log_prob(process, x_1, grid[::-1], rule, Rng(0), divergence=ExactDivergence())
    close(back, forth, {Euler: 0.1, Midpoint: 5e-3, Heun: 5e-3}.get(type(rule), 1e-4))
    assert (forth - space.base_log_prob(x_0)).abs().max() > 0.1


def legendre(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights on [-1, 1], from the eigenvalues of the Jacobi matrix."""
    k = torch.arange(1, n, dtype=F64)
    beside = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, 2 * vectors[0] ** 2


def test_density_on_the_sphere_integrates_to_one() -> None:
    """Quadrature over heights and longitudes; a Riemannian divergence that was wrong by its curvature would not."""
    z, weights = legendre(40)
    angle = 2 * math.pi * torch.arange(80, dtype=F64) / 80
    height, turn = torch.meshgrid(z, angle, indexing="ij")
    ring = (1 - height**2).sqrt()
    x = torch.stack([ring * turn.cos(), ring * turn.sin(), height], -1).reshape(-1, 3)

    def process(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(Sphere().to_tangent(x, bend(x, t)))

    found = log_prob(process, x, BACK, RK4(Sphere()), Rng(0), divergence=ExactDivergence())
    assert found.max() - found.min() > 1.5
    total = (found.exp().view(40, 80).sum(1) * weights).sum().item() * 2 * math.pi / 80
    assert total == pytest.approx(1, abs=1e-4)


def test_log_prob_of_a_product_is_the_sum() -> None:
    space = ProductSpace({"way": Sphere(), "place": Euclidean((3,))})
    draw = Rng(0).stream("x")
    x = {"way": Sphere().project(draw.normal((5, 3), F64)), "place": draw.normal((5, 3), F64)}

    def way(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(Sphere().to_tangent(x, bend(x, t)))

    def process(x, t: Tensor):
        return {"way": way(x["way"], t), "place": linear(x["place"], t)}

    both = log_prob(process, x, BACK, RK4(space), Rng(0), divergence=ExactDivergence())
    one = log_prob(way, x["way"], BACK, RK4(Sphere()), Rng(0), divergence=ExactDivergence())
    other = log_prob(linear, x["place"], BACK, RK4(), Rng(0), divergence=ExactDivergence())
    close(both, one + other, 1e-12)


@pytest.mark.parametrize(
    "rule", [Midpoint(), RK4(), DormandPrince(rtol=1e-9, atol=1e-9)], ids=lambda r: type(r).__name__
)
def test_gradients_of_log_prob(rule: Solver) -> None:
    m, s, x = f64(1.0).requires_grad_(), f64(0.5).requires_grad_(), column(0.3, -0.2, 1.7).requires_grad_()

    def process(x: Tensor, t: Tensor) -> Characteristics:
        t = t[:, None]
        return Characteristics(m + (t * s**2 - (1 - t)) / ((t * s) ** 2 + (1 - t) ** 2) * (x - t * m))

    grid = linear_grid(1 if isinstance(rule, DormandPrince) else 40)
    found = log_prob(process, x, grid[::-1], rule, Rng(0))
    gradients = torch.autograd.grad(found.sum(), (x, m, s))
    expected = torch.autograd.grad(log_normal(x, m, s).sum(), (x, m, s))
    for actual, truth in zip(gradients, expected, strict=True):
        close(actual, truth, 5e-2 if isinstance(rule, Midpoint) else 1e-5)


def test_no_graph_without_gradients() -> None:
    x_1, found = sample_with_log_prob(linear, column(0.1, 0.2, 0.3).T, linear_grid(3), Midpoint(), Rng(0))
    assert not x_1.requires_grad
    assert not found.requires_grad


@pytest.mark.parametrize("space", [Euclidean((3, 3)), Sphere(2, (3,))], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("divergence", [ExactDivergence(), Hutchinson()], ids=repr)
def test_padding_is_ignored(space: Space, divergence: Divergence) -> None:
    x = space.project(Rng(0).stream("x").normal((2, 3, 3), F64))
    valid = torch.tensor([[True, True, False], [True, True, True]])

    def over(space: Space, mask: Tensor):
        def process(x: Tensor, t: Tensor) -> Characteristics:
            shared = torch.where(mask[..., None], x, 0).sum(1, keepdim=True)
            moved = bend(shared.expand_as(x).flatten(0, 1), t.repeat_interleave(x.shape[1])).view_as(x)
            free = torch.where(mask[..., None], torch.tanh(moved) * x.roll(1, -1) / 2, 1e3)
            return Characteristics(space.to_tangent(x, free))

        return process

    both = log_prob(over(space, valid), x, BACK, Midpoint(space), Rng(0), divergence=divergence, valid=valid)
    short = replace(space, shape=(2, *space.shape[1:]))
    alone = log_prob(over(short, valid[:1, :2]), x[:1, :2], BACK, Midpoint(short), Rng(0), divergence=divergence)
    close(both[:1], alone, 1e-12)
    x_1, there = sample_with_log_prob(
        over(space, valid), x, BACK[::-1], Midpoint(space), Rng(0), divergence=divergence, valid=valid
    )
    assert torch.equal(x_1[0, 2], x[0, 2])
    back = log_prob(over(space, valid), x_1, BACK, Midpoint(space), Rng(0), divergence=divergence, valid=valid)
    close(back, there, 0.05)


def test_noise_and_jumps_are_refused() -> None:
    x = column(0.3)
    jumps = Jumps(lambda s: torch.zeros(1, 1), lambda s, which, draw: torch.zeros(0))
    for now in (Characteristics(x, x), Characteristics(x, jumps=jumps), Characteristics()):
        for rule in RULES:
            with refuses(ValueError):
                log_prob(lambda x, t, now=now: now, x, BACK, rule, Rng(0))


def test_missing_base_densities_are_refused() -> None:
    with refuses(ValueError):
        log_prob(linear, torch.zeros(1, 3), [1.0, 0.5], Midpoint(), Rng(0))
    with refuses(ValueError):
        sample_with_log_prob(linear, torch.zeros(1, 3), [0.5, 1.0], Midpoint(), Rng(0))
    with refuses(ValueError, found="Ancestral"):
        log_prob(linear, torch.zeros(1, 3), BACK, Ancestral(), Rng(0))
    with refuses(ValueError, found="Tokens"):
        initial_log_prob(Affine(), Tokens(3, (2,)), torch.zeros(1, 2))


def test_log_prob_with_a_scaled_source() -> None:
    """Variance exploding: the flow of the data N(1, 0.25), from N(0, 25), which it takes for N(1, 25.25)."""
    schedule = schedules.VE(0.1, 5.0)
    normal, path = Normal(schedule), Affine(schedule)
    (mean, variance), (then, later) = normal.moments(0.0), normal.moments(1.0)
    ratio = math.sqrt(later / variance)
    x = column(0.3, 4.0)
    expected = log_normal(x, then - ratio * mean, 5 * ratio)[:, 0]
    found = log_prob(
        normal.flow, x, [1.0, 0.0], FINE, Rng(0), source_log_prob=lambda x: initial_log_prob(path, Euclidean(), x)
    )
    close(found, expected, 1e-8)
    both = {"a": x, "b": x}
    twice = initial_log_prob(ProductPath({"a": path, "b": Affine()}), Euclidean(), both)
    close(twice, (log_normal(x, 0.0, 5.0) + log_normal(x, 0.0, 1.0))[:, 0], 1e-13)
    valid = torch.tensor([[True, False], [True, True]])
    padded = initial_log_prob(path, Euclidean(), torch.cat([x, x], 1), valid)
    close(padded, (log_normal(x, 0.0, 5.0) * column(1, 2))[:, 0], 1e-13)


def test_bits_per_dimension() -> None:
    """Uniform data cost their 8 bits on either scale; section 2: -log2 p / D + 7."""
    flat = f64(-math.log(2) * 12)
    close(bits_per_dimension(flat, 12), 8.0, 1e-13)
    close(bits_per_dimension(f64(0.0), 12, span=1.0), 8.0, 1e-13)
    close(bits_per_dimension(f64(-5.0), 3), 5 / (3 * math.log(2)) + 7, 1e-13)
    close(bits_per_dimension(f64(-2.0, -4.0), torch.tensor([1, 2]), levels=2), 2 / math.log(2) * f64(1, 1), 1e-13)
