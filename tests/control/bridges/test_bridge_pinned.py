"""Conditional stochastic control against closed forms; its gradient against finite differences."""

import pytest
import torch
from torch import Tensor

from feller.control.bridges.conditional_control import ConditionalControl, stiffness_of_means, stiffness_of_scales
from feller.control.bridges.conditional_cost import ConditionalCost, Knots, PathNoise, _SampledPaths
from feller.control.bridges.costs import PopulationDensity, StateCost, Zero
from feller.control.bridges.costs.congestion import CongestionCost
from feller.control.bridges.costs.obstacles import Disc, Indicator, Quadric, SoftObstacle
from feller.control.bridges.gaussian_paths import GaussianPaths, drift, kinetic
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.gsbm.exact import Quadratic, QuadraticCost
from tests.control.bridges.quadratic import ROWS
from tests.errors import refuses
from tests.oracle import close

F64 = torch.float64
INSIDE = torch.linspace(0.05, 0.95, 19, dtype=F64)


class Bump(StateCost):
    """A smooth nonconvex cost that depends on time."""

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return 3 * torch.exp(-(x - 0.3).square().sum(-1)) + t * x.square().sum(-1)


class Meeting(StateCost):
    """Costs between pairs."""

    needs_population = True

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return torch.exp(-(x - population.samples).square().sum(-1)) + population.log_density(x) / 10


class Blind(StateCost):
    """A cost without gradient."""

    differentiable = False

    def __init__(self, cost: StateCost) -> None:
        self.cost = cost

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return self.cost(x.detach(), t, population)


def bent(noise: float = 0.8, n: int = 6, d: int = 2) -> GaussianPaths:
    draws = Rng(3)
    scales = 0.5 * draws.stream("scales").normal((n, 6), F64)
    scales[:, [0, -1]] = 0
    return GaussianPaths(draws.stream("means").normal((n, 5, d), F64), scales, noise)


@pytest.mark.parametrize("row", ROWS)
def test_quadratic_cost(row) -> None:
    """Objective within 0.2 % of -log Z, mean within .0035 of the ends' distance, deviation within 1 %."""
    problem = row[0]
    how = ConditionalControl(mean_knots=30, scale_knots=30, num_samples=8)
    paths = GaussianPaths.brownian_bridges(*problem.pairs(8, torch.float32), problem.noise, 30, 30)
    found, trace = how.solve(paths, QuadraticCost(problem.omega), Rng(0))
    reached = problem.objective(found)
    assert (reached >= -problem.log_z - 1e-6).all()
    assert (reached.mean() / -problem.log_z - 1) < 0.002
    now = found.grid(INSIDE)
    assert (now.mean[..., 0] - problem.mean(INSIDE)).abs().max() < 0.01 * abs(problem.x_1 - problem.x_0) + 0.01
    assert (now.std / problem.std(INSIDE) - 1).abs().max() < 0.01
    told = (trace.kinetic + trace.state).mean() / problem.noise**2
    assert abs(told / reached.mean() - 1) < 0.06  # sampled: 4 standard errors


@pytest.mark.slow
def test_objective_with_few_knots() -> None:
    """(8, 8) knots: the reference's best objectives, to 0.3 %."""
    for (problem, *_), best in zip(ROWS, (0.74786, 15.33490, 0.11131), strict=True):
        paths = GaussianPaths.brownian_bridges(*problem.pairs(8, torch.float32), problem.noise, 8, 8)
        found, _ = ConditionalControl(steps=400).solve(paths, QuadraticCost(problem.omega), Rng(0))
        assert abs(problem.objective(found).mean() / best - 1) < 0.003


def test_gradient_of_the_estimate() -> None:
    for noise in (0.8, 0.0):
        knots = Knots.from_paths(bent(noise))
        sample = PathNoise.sample(knots, 40, 2, Rng(0), 0)
        objective = ConditionalCost(Bump(), noise)
        value = sum(part.sum() for part in objective.estimate(knots, sample))
        for knot, slope in zip(knots, torch.autograd.grad(value, knots, allow_unused=True), strict=True):
            if slope is None:
                assert not noise
                continue
            way = torch.randn(knot.shape, generator=Rng(1).stream("way").shared_generator(), dtype=F64)
            with torch.no_grad():
                values = []
                for h in (1e-5, -1e-5):
                    knot += h * way
                    values.append(sum(part.sum() for part in objective.estimate(knots, sample)))
                    knot -= h * way
            assert abs((values[0] - values[1]) / 2e-5 / (slope * way).sum() - 1) < 1e-6


def test_estimated_energy_is_kinetic() -> None:
    paths = bent()
    knots = Knots.from_paths(paths)
    energy, _ = ConditionalCost(Zero(), paths.noise).estimate(knots, PathNoise.sample(knots, 4000, 1, Rng(0), 0))
    close(energy, kinetic(paths), 1e-3 * kinetic(paths).max().item())


@pytest.mark.parametrize("backward", [False, True])
def test_control_is_the_drift(backward: bool) -> None:
    paths = bent()
    knots = Knots.from_paths(paths)
    sample = PathNoise.sample(knots, 9, 2, Rng(0), 0)
    met = []

    def base(x: Tensor, t: Tensor) -> Tensor:
        met.append(x)
        return torch.zeros_like(x)

    objective = ConditionalCost(Zero(), paths.noise, base, backward)
    objective.estimate(knots, sample)
    inner = _SampledPaths(knots, sample, paths.noise)
    x = inner.states.permute(3, 1, 2, 0)  # [n, draws, s, d]
    for k in range(x.shape[1]):
        u = drift(paths.grid(sample.t), x[:, k], sample.t, paths.noise, backward=backward)
        close(inner.control(backward)[:, k].permute(2, 1, 0), -u if backward else u, 1e-8)


def test_antithetic_samples_have_the_moments_of_the_path() -> None:
    paths = bent()
    knots = Knots.from_paths(paths)
    sample = PathNoise.sample(knots, 7, 4000, Rng(0), 0)
    states = _SampledPaths(knots, sample, paths.noise).states
    now = paths.grid(sample.t)
    close(states.mean(1).permute(2, 1, 0), now.mean, 1e-12)
    close(states.std(1).permute(2, 1, 0) / now.std[..., None], torch.ones_like(now.mean), 0.06)


def test_score_function_gradient_is_unbiased() -> None:
    """Of a cost that hides its gradient: 5 standard errors of 4,000 draws for each time."""
    paths = bent(n=3)
    knots = Knots.from_paths(paths)

    def gradient(cost: StateCost, step: int) -> Tensor:
        _, state = ConditionalCost(cost, paths.noise).estimate(knots, PathNoise.sample(knots, 20, 100, Rng(0), step))
        return torch.cat([one[..., 1:-1, :].flatten() for one in torch.autograd.grad(state.sum(), knots)])

    ours, theirs = (torch.stack([gradient(cost, step) for step in range(40)]) for cost in (Blind(Bump()), Bump()))
    apart = ours - theirs
    assert (apart.mean(0).abs() < 5 * apart.std(0) / 40**0.5).all()
    assert (ours.mean(0) - theirs.mean(0)).norm() < 0.1 * theirs.mean(0).norm()


def test_no_cost_gives_the_brownian_bridge() -> None:
    paths = bent(n=4)
    found, trace = ConditionalControl(steps=400).solve(paths, Zero(), Rng(0))
    assert (kinetic(found) < 1e-3 * kinetic(paths)).all()
    close(trace.kinetic, kinetic(found), 1e-3)
    assert not trace.state.any()
    assert trace.objective[0] > 100 * trace.objective[-1]


@pytest.mark.parametrize("differentiable", [True, False])
def test_obstacle(differentiable: bool) -> None:
    disc = Disc((0.0, 0.1), 0.7)
    cost = SoftObstacle(disc, 30.0, 0.05) if differentiable else Indicator(disc, 100.0)
    x = torch.tensor([[2.0, 0.0]]).expand(16, 2)
    how = ConditionalControl(num_samples=4 if differentiable else 16)
    found, trace = how.solve(GaussianPaths.brownian_bridges(-x, x, 0.3, 15, 30), cost, Rng(0))
    t = torch.linspace(0, 1, 101)
    assert not disc.contains(found.grid(t).mean).any()
    assert trace.objective[-1] < 0.1 * trace.objective[0]
    assert (trace.kinetic + trace.state).mean() < 2


def test_least_action_without_noise() -> None:
    """V quadratic: the curve of hyperbolic sines, within its knots."""
    problem = Quadratic(1.0, 2.0, 1.0, -0.5)
    paths = GaussianPaths.brownian_bridges(*problem.pairs(3), 0.0, 30, 4)
    found, trace = ConditionalControl().solve(paths, QuadraticCost(2.0), Rng(0))
    close(found.grid(INSIDE).mean[..., 0], problem.mean(INSIDE).expand(3, -1), 2e-3)
    assert torch.equal(found.scales, paths.scales)
    t = (torch.arange(10_000, dtype=F64) + 0.5) / 10_000
    close(trace.state, 2 * problem.mean(t).square().mean().expand(3), 5e-3)


@pytest.mark.parametrize("backward", [False, True])
def test_linear_base_drift(backward: bool) -> None:
    """The bridge of dX = -omega X dt + noise dW is that of V = 1/2 omega^2 x^2; ahead and back differ by a constant."""
    problem = Quadratic(0.8, 2.0, 1.0, -0.5)
    paths = GaussianPaths.brownian_bridges(*problem.pairs(32, torch.float32), problem.noise, 15, 15)
    how = ConditionalControl(num_samples=8)
    found, _ = how.solve(paths, Zero(), Rng(0), base_drift=lambda x, t: -2 * x, backward=backward)
    now = found.grid(INSIDE)
    assert (now.mean[..., 0].mean(0) - problem.mean(INSIDE)).abs().max() < 0.02
    assert (now.std.mean(0) / problem.std(INSIDE) - 1).abs().max() < 0.02


def test_discontinuous_base_drift() -> None:
    """f = 2 sign(x) from -1 to 1: the least energy is 2.79, by smoothed versions of f; gradients of f give 3.69."""
    x = torch.full((16, 1), 1.0)
    paths = GaussianPaths.brownian_bridges(-x, x, 1.0, 15, 30)
    found, _ = ConditionalControl(num_samples=16).solve(paths, Zero(), Rng(0), base_drift=lambda x, t: 2 * x.sign())
    knots = Knots.from_paths(found)
    energy, _ = ConditionalCost(Zero(), 1.0, lambda x, t: 2 * x.sign()).estimate(
        knots, PathNoise.sample(knots, 200, 200, Rng(1), 0)
    )
    assert abs(energy.mean() - 2.80) < 0.05


def test_discontinuous_base_drift_in_200_dimensions() -> None:
    """200 entries, one of which says which way f pushes all: from 2 on, the noise of its values would lead upwards."""
    draws = Rng(0)
    x_0, x_1 = draws.stream("a").normal((8, 200)), 2 * draws.stream("b").normal((8, 200))

    def base(x: Tensor, t: Tensor) -> Tensor:
        return 0.2 * x[..., :1].sign().expand(x.shape)

    paths = GaussianPaths.brownian_bridges(x_0, x_1, 0.5, 15, 30)
    _, trace = ConditionalControl(steps=100, times=20).solve(paths, Zero(), draws, base_drift=base)
    assert max(trace.objective) < trace.objective[0] + 1
    assert trace.kinetic.mean() < trace.objective[0] - 0.5


def test_pairs_do_not_depend_on_the_chunk() -> None:
    draws = Rng(7)
    x_0, x_1 = draws.stream("a").normal((300, 2)), draws.stream("b").normal((300, 2))
    paths = GaussianPaths.brownian_bridges(x_0, x_1, 0.5, 5, 6)
    whole, trace = ConditionalControl(steps=20, times=10).solve(paths, Bump(), Rng(0))
    parts, again = ConditionalControl(steps=20, times=10, chunk_size=70).solve(paths, Bump(), Rng(0))
    close(parts.means, whole.means, 1e-4)
    close(again.state, trace.state, 1e-4)
    close(torch.tensor(again.objective), torch.tensor(trace.objective), 1e-4)
    assert again.steps == trace.steps == tuple(range(20))
    repeated, _ = ConditionalControl(steps=20, times=10).solve(paths, Bump(), Rng(0))
    assert torch.equal(repeated.means, whole.means)


def test_population_is_other_pairs_at_the_same_time() -> None:
    """The gradient of what pairs cost each other flows through both; density and members are those of the time."""
    paths = bent(n=6, d=1)
    met = []

    class Look(StateCost):
        needs_population = True

        def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
            assert x.shape == population.samples.shape
            assert t.shape == (len(x), 1)
            own = x.argsort(1).argsort(1)
            met.append((x - population.samples).abs().amin().item())
            assert torch.equal(x.sort(1).values, population.samples.sort(1).values)  # the same members, turned
            assert population.centres.shape == x.shape
            assert own.shape == x.shape
            return (x - population.samples).square().sum(-1)

    knots = Knots.from_paths(paths)
    _, state = ConditionalCost(Look(), paths.noise).estimate(knots, PathNoise.sample(knots, 5, 2, Rng(0), 0))
    (slope,) = torch.autograd.grad(state.sum(), knots.means)
    assert slope.sum().abs() < 1e-12  # what one is drawn, another is drawn back
    assert min(met) > 0


def test_population_density_without_noise() -> None:
    found, trace = ConditionalControl(steps=50).solve(bent(0.0, 20), Meeting(), Rng(0))
    assert found.means.isfinite().all()
    assert trace.objective[-1] < trace.objective[0]


@pytest.mark.parametrize(
    "wrong", [{"num_samples": 3}, {"num_samples": 0}, {"mean_knots": 1}, {"steps": 0}, {"chunk_size": 0}]
)
def test_invalid_settings(wrong: dict[str, int]) -> None:
    with refuses(UsageError):
        ConditionalControl(**wrong)


def test_cost_without_gradient_needs_noise() -> None:
    with refuses(UsageError):
        ConditionalControl().solve(bent(0.0), Blind(Bump()), Rng(0))


def test_stiffness_is_the_hessian_of_the_energy() -> None:
    noise, d = 0.7, 2
    x = torch.randn(2, 1, d, generator=Rng(0).stream("x").shared_generator(), dtype=F64)
    straight = GaussianPaths.brownian_bridges(x[0], x[1], noise, 6, 7)

    def energy(means: Tensor, scales: Tensor) -> Tensor:
        knots = straight.means.index_put((torch.tensor(0), torch.arange(1, 5), torch.tensor(0)), means, accumulate=True)
        return kinetic(GaussianPaths(knots, torch.nn.functional.pad(scales[None], (1, 1)), noise)).sum()

    zeros = torch.zeros(4, dtype=F64), torch.zeros(5, dtype=F64)
    (of_means, mixed), (_, of_scales) = torch.autograd.functional.hessian(energy, zeros)
    close(of_means, stiffness_of_means(6), 1e-9)
    close(of_scales, stiffness_of_scales(7, d * noise**2), 1e-9)
    close(mixed, torch.zeros_like(mixed), 1e-12)


def test_two_knots() -> None:
    problem = Quadratic(0.5, 3.0, -1.0, 2.0)
    paths = GaussianPaths.brownian_bridges(*problem.pairs(2), problem.noise, 2, 2)
    found, trace = ConditionalControl(steps=3).solve(paths, QuadraticCost(3.0), Rng(0))
    assert torch.equal(found.means, paths.means)
    assert trace.state.min() > 0


def test_congestion_in_tunnels() -> None:
    """The reference's Stunnel with pairs by chance: 300 steps of Adam, knot by knot, come to 258."""
    draws, spread = Rng(0), 0.5**0.5
    x_0 = torch.tensor([-11.0, -1.0]) + spread * draws.stream("a").normal((128, 2))
    x_1 = torch.tensor([11.0, 1.0]) + spread * draws.stream("b").normal((128, 2))
    sides = [SoftObstacle(Quadric((20.0, 1.0), (s * 5.0, s * 6.0), 90.0), 1500.0) for s in (1, -1)]
    _, trace = ConditionalControl(steps=100).solve(
        GaussianPaths.brownian_bridges(x_0, x_1, 1.0, 15, 30), sides[0] + sides[1] + 50.0 * CongestionCost(), draws
    )
    assert trace.objective[0] > 15_000
    assert (trace.kinetic + trace.state).mean() < 235
