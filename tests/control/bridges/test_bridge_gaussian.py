"""Gaussian paths between pairs: the Brownian bridge, derivatives, drifts, energies, against closed forms."""

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from feller.control.bridges.gaussian_paths import GaussianPaths, PathMoments, drift, kinetic
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.gsbm.exact import Quadratic
from tests.control.bridges.quadratic import ROWS
from tests.errors import refuses
from tests.oracle import close

F64 = torch.float64
T = torch.tensor([0.25, 0.5, 0.75], dtype=F64)
INSIDE = torch.linspace(0.03, 0.97, 12, dtype=F64)


def bent(noise: float = 0.7, n: int = 5, d: int = 3) -> GaussianPaths:
    draws = Rng(0)
    means = draws.stream("means").normal((n, 7, d), F64)
    scales = draws.stream("scales").normal((n, 9), F64)
    scales[:, [0, -1]] = 0
    return GaussianPaths(means, scales, noise)


def best(problem: Quadratic, knots: int = 401) -> GaussianPaths:
    t = torch.linspace(0, 1, knots, dtype=F64)
    inner = t[1:-1]
    h = torch.ones_like(t)
    h[1:-1] = problem.std(inner) / (problem.noise * (inner * (1 - inner)).sqrt())
    return GaussianPaths(
        problem.mean(t)[None, :, None], torch.log(torch.expm1(h))[None] - math.log(math.e - 1), problem.noise
    )


def energy(moments: PathMoments, t: Tensor, noise: float) -> Tensor:
    """Return 1/2 E|u_t|^2, in state squared per time squared; its integral grows without bounds near both ends."""
    own = moments.velocity.square().sum(-1) / 2
    if not noise:
        return own
    dimensions = moments.mean.shape[-1]
    return own + dimensions / 2 * (moments.std_rate - noise**2 / (2 * moments.std)).square()


def kinetic_rate(moments: PathMoments, t: Tensor, noise: float, x_1: Tensor) -> Tensor:
    """Return 1/2 E|u_t - (x_1 - X_t) / (1 - t)|^2 at times inside (0, 1): what leaving the Brownian bridge costs."""
    left = (1 - t)[:, None]
    own = (moments.velocity - (x_1[:, None] - moments.mean) / left).square().sum(-1) / 2
    if not noise:
        return own
    away = moments.std_rate - noise**2 / (2 * moments.std) + moments.std / (1 - t)
    return own + moments.mean.shape[-1] / 2 * away.square()


def test_brownian_bridges() -> None:
    draws = Rng(1)
    x_0, x_1 = draws.stream("a").normal((4, 3), F64), draws.stream("b").normal((4, 3), F64)
    paths = GaussianPaths.brownian_bridges(x_0, x_1, 0.6, 15, 30)
    now = paths.grid(INSIDE)
    t = INSIDE[:, None]
    close(now.mean, (1 - t) * x_0[:, None] + t * x_1[:, None], 1e-12)
    close(now.velocity, (x_1 - x_0)[:, None].expand(4, 12, 3), 1e-12)
    close(now.std, (0.6 * (INSIDE * (1 - INSIDE)).sqrt()).expand(4, 12), 1e-12)
    x = draws.stream("x").normal((4, 12, 3), F64)
    close(drift(now, x, INSIDE, 0.6), (x_1[:, None] - x) / (1 - t), 1e-10)
    close(drift(now, x, INSIDE, 0.6, backward=True), (x_0[:, None] - x) / t, 1e-10)
    close(kinetic(paths), torch.zeros(4, dtype=F64), 1e-12)
    close(kinetic_rate(now, INSIDE, 0.6, x_1), torch.zeros(4, 12, dtype=F64), 1e-12)


def test_velocity_and_rate_are_derivatives() -> None:
    paths, h = bent(), 1e-6
    t = INSIDE + 1e-3  # away from knots
    now, after, before = paths.grid(t), paths.grid(t + h), paths.grid(t - h)
    close(now.velocity, (after.mean - before.mean) / (2 * h), 1e-6)
    close(now.std_rate, (after.std - before.std) / (2 * h), 1e-6)


def test_endpoints() -> None:
    paths = bent()
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    now = paths.grid(ends)
    assert torch.equal(now.mean, paths.means[:, [0, -1]])
    assert torch.equal(now.std, torch.zeros_like(now.std))
    for backward, sign in ((False, 1), (True, -1)):
        close(drift(now, now.mean, ends, paths.noise, backward=backward), sign * now.velocity, 1e-12)


def test_moments_at() -> None:
    paths = bent()
    rows = torch.tensor([4, 0, 0, 2])
    t = torch.tensor([0.0, 0.31, 0.5, 1.0], dtype=F64)
    ours, whole = paths.moments_at(rows, t), paths.grid(t)
    some = torch.arange(4)
    for name in ("mean", "velocity", "std"):
        close(getattr(ours, name), getattr(whole, name)[rows, some], 1e-12)
    close(ours.std_rate[1:3], whole.std_rate[rows, some][1:3], 1e-12)
    close(paths.select(rows).grid(t).mean, whole.mean[rows], 0)


@pytest.mark.parametrize("backward", [False, True])
def test_drift_satisfies_the_moment_equations(backward: bool) -> None:
    """Forward equation of the moments: m' = E u, (gamma^2)' = 2 a gamma^2 + noise^2; backwards in reversed time."""
    paths = bent()
    t = INSIDE
    now = paths.grid(t)
    sign = -1 if backward else 1
    close(drift(now, now.mean, t, paths.noise, backward=backward), sign * now.velocity, 1e-12)
    step = torch.ones_like(now.mean)
    slope = drift(now, now.mean + step, t, paths.noise, backward=backward) - sign * now.velocity
    gain = sign * 2 * now.std * now.std_rate
    close(2 * slope * now.std.square()[..., None] + paths.noise**2, gain[..., None] * step, 1e-9)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("row", ROWS)
def test_drift_of_the_quadratic_cost(row, backward: bool) -> None:
    problem = row[0]
    paths = best(problem)
    t = T + 1 / 800  # between knots, where the slope of a line is that of the curve to second order
    x = torch.linspace(-1, 1, 5, dtype=F64)
    for s in t:
        now = paths.moments_at(torch.zeros(5, dtype=torch.long), s.expand(5))
        ours = drift(now, x[:, None], s.expand(5), problem.noise, backward=backward)[:, 0]
        close(ours, problem.drift(x, s, backward=backward), 1e-3)


@pytest.mark.parametrize("row", ROWS)
def test_objective_at_the_known_solution(row) -> None:
    """KL to the Brownian bridge + E int V / noise^2 = -log Z, here in the problem's own units."""
    problem = row[0]
    t = torch.linspace(0, 1, 4001, dtype=F64)
    v = problem.omega**2 / 2 * (problem.mean(t) ** 2 + problem.covariance(t, t))
    whole = kinetic(best(problem)) + torch.trapezoid(v, t)
    assert abs(whole.item() / (-problem.log_z * problem.noise**2) - 1) < 1e-4


@pytest.mark.parametrize("noise", [0.7, 0.0])
def test_kinetic_is_the_integral_of_its_rate(noise: float) -> None:
    paths = bent(noise)
    t = (torch.arange(400_000, dtype=F64) + 0.5) / 400_000
    total = torch.zeros(5, dtype=F64)
    back = torch.zeros(5, dtype=F64)
    x_0, x_1 = paths.means[:, 0], paths.means[:, -1]
    for part in t.chunk(10):
        now = paths.grid(part)
        total += kinetic_rate(now, part, noise, x_1).sum(1)
        turned = PathMoments(now.mean, -now.velocity, now.std, -now.std_rate)
        back += kinetic_rate(turned, 1 - part, noise, x_0).sum(1)
    close(kinetic(paths), total / 400_000, 1e-3)
    close(kinetic(paths), back / 400_000, 1e-3)


def test_energy_is_the_mean_squared_drift() -> None:
    """By quadrature of the normal law (Gauss and Hermite), in one dimension."""
    paths = bent(d=1)
    nodes, weights = (torch.from_numpy(part) for part in hermegauss(5))
    now = paths.grid(INSIDE)
    total, relative = torch.zeros_like(now.std), torch.zeros_like(now.std)
    for z, weight in zip(nodes, weights / weights.sum(), strict=True):
        x = now.mean + z * now.std[..., None]
        u = drift(now, x, INSIDE, paths.noise)
        total += weight * u.square().sum(-1) / 2
        bridge = (paths.means[:, -1:] - x) / (1 - INSIDE[:, None])
        relative += weight * (u - bridge).square().sum(-1) / 2
    close(energy(now, INSIDE, paths.noise), total, 1e-9)
    close(kinetic_rate(now, INSIDE, paths.noise, paths.means[:, -1]), relative, 1e-9)


def test_no_noise() -> None:
    paths = bent(0.0)
    now = paths.grid(INSIDE)
    assert not now.std.any()
    assert not now.std_rate.any()
    for backward, sign in ((False, 1), (True, -1)):
        assert torch.equal(drift(now, now.mean, INSIDE, 0.0, backward=backward), sign * now.velocity)
    close(energy(now, INSIDE, 0.0), now.velocity.square().sum(-1) / 2, 1e-12)


def test_from_knots() -> None:
    knots = Rng(3).stream("x").normal((2, 6, 4))
    paths = GaussianPaths.from_knots(knots, 0.3, 5)
    assert torch.equal(paths.means, knots)
    assert not paths.scales.any()
    assert paths.scales.shape == (2, 5)


@pytest.mark.parametrize(("noise", "knots"), [(-1.0, 5), (math.nan, 5), (math.inf, 5), (1.0, 1)])
def test_invalid_noise_and_knots(noise: float, knots: int) -> None:
    with refuses(UsageError):
        GaussianPaths.brownian_bridges(torch.zeros(2, 1), torch.zeros(2, 1), noise, knots, 5)
