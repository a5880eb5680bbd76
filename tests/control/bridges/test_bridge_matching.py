"""Drift matching, and path-integral corrections by weighted trajectories."""

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.costs import PopulationDensity, StateCost, Zero
from feller.control.bridges.drift_matching import ExplicitMatchingObjective, ImplicitMatchingObjective, Segment
from feller.control.bridges.gaussian_paths import GaussianPaths, drift
from feller.control.bridges.path_integral import PathIntegral, WeightedTrajectories
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.bridge_drift import Drift
from feller_papers.gsbm.exact import Barrier, QuadraticCost, barrier
from tests.control.bridges.quadratic import ROWS
from tests.errors import refuses
from tests.oracle import F64, close

SIGMA = 1.0


def mean(t: Tensor) -> Tensor:
    return -1 + 2 * t + 0.5 * (math.pi * t).sin()


def variance(t: Tensor) -> Tensor:
    return 0.3 + 0.4 * t + 0.2 * (math.pi * t).sin()


class Known(Drift):
    """The potential of a Gaussian process, and what is added to its drift: a constant and a slope."""

    def __init__(self, constant: float = 0.0, slope: float = 0.0, *, backward: bool = False) -> None:
        super().__init__(torch.nn.Identity(), (1,), 2)
        self.constant, self.slope, self.backward = constant, slope, backward

    def potential(self, x: Tensor, t: Tensor, cond: dict) -> Tensor:
        away = x[:, 0] - mean(t)
        speed = 2 + 0.5 * math.pi * (math.pi * t).cos()
        rate = 0.4 + 0.2 * math.pi * (math.pi * t).cos()
        way = -1 if self.backward else 1
        gain = (way * rate - SIGMA**2) / (2 * variance(t))
        return (way * speed + self.constant) * x[:, 0] + (gain + self.slope) * away.square() / 2


def expected(known: Known, *, backward: bool = False) -> float:
    """Return the exact mean of the loss, by quadrature."""
    (t, at), (z, of) = (tuple(torch.from_numpy(part).double() for part in rule(40)) for rule in (leggauss, hermegauss))
    t, at, of = (t + 1) / 2, at / 2, of / of.sum()
    times, nodes = (one.flatten() for one in torch.meshgrid(t, z, indexing="ij"))

    def place(time: Tensor) -> Tensor:
        return (mean(time) + variance(time).sqrt() * nodes)[:, None]

    one = torch.ones_like(times)
    example = {
        "x_t": place(times),
        "t": times,
        "x_0": place(0 * one),
        "x_1": place(one),
        "t_0": 0 * one,
        "t_1": one,
        "weight": one,
        "noise": SIGMA * one,
        "probe": one[:, None],
    }
    objective = ImplicitMatchingObjective(
        [Segment(0.0, 1.0, bridges(2, SIGMA))], (1,), backward=backward
    )  # only their number counts
    return float((torch.outer(at, of).flatten() * objective.loss(known, example).detach()).sum())


@pytest.mark.parametrize("backward", [False, True])
def test_implicit_loss(backward: bool) -> None:
    """Vector: minus half the energy at the true potential; constant .1 adds .005, slope .1 adds .0031366."""

    def of(**change: float) -> float:
        return expected(Known(**change, backward=backward), backward=backward)

    assert backward or of() == pytest.approx(-2.713496, abs=2e-6)
    assert of(constant=0.1) - of() == pytest.approx(0.005, abs=1e-9)
    assert of(slope=0.1) - of() == pytest.approx(0.0031366, abs=1e-7)


def bridges(n: int, noise: float) -> GaussianPaths:
    draws = Rng(0)
    x_0, x_1 = (draws.stream(name).normal((n, 1), torch.float64) for name in ("a", "b"))
    return GaussianPaths.brownian_bridges(-1 + 0.5 * x_0, 1 + 0.8 * x_1, noise, 5, 5)


@pytest.mark.parametrize("backward", [False, True])
def test_explicit_target_regresses_to_the_drift_of_the_mixture(backward: bool) -> None:
    """Independent ends m0, s0, m1, s1: X_t is normal, and so are both; slope and mean by 20,000 pairs, 5 deviations."""
    paths, t = bridges(20_000, 1.0), 0.3
    objective = ExplicitMatchingObjective([Segment(0.0, 1.0, paths)], (1,), backward=backward)
    x, target = objective.sample_at(t, torch.arange(20_000), Rng(1).stream("x"))
    var = (0.7**2) * 0.25 + 0.09 * 0.64 + t * (1 - t)
    middle = -0.7 + 0.3
    away = x - x.mean()
    slope = float((away * (target - target.mean())).mean() / away.square().mean())
    if backward:  # E (x_0 - x) / t
        wanted, at_mean = (0.7 * 0.25 / var - 1) / t, (-1 - middle) / t
    else:  # E (x_1 - x) / (1 - t)
        wanted, at_mean = (0.3 * 0.64 / var - 1) / (1 - t), (1 - middle) / (1 - t)
    assert slope == pytest.approx(wanted, abs=0.03)
    assert float(target.mean()) == pytest.approx(at_mean + wanted * (float(x.mean()) - middle), abs=0.05)


def test_segments() -> None:
    x_0, x_1 = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    middle = (x_0 + x_1) / 2
    noise = 0.5**0.5
    legs = [
        Segment(0.0, 0.5, GaussianPaths.brownian_bridges(x_0, middle, noise, 3, 3)),
        Segment(0.5, 0.5, GaussianPaths.brownian_bridges(middle, x_1, noise, 3, 3)),
    ]
    objective = ExplicitMatchingObjective(legs, (2,), backward=False)
    example = objective.draw({"x_1": torch.zeros(64, dtype=torch.long)}, Rng(0))
    t, x = example["t"], example["x_t"]
    end = torch.where(t < 0.5, 0.5, 1.0)
    goal = torch.where(t[:, None] < 0.5, middle, x_1)
    torch.testing.assert_close(example["target"], (goal - x) / (end - t)[:, None])
    assert (t[:32] == t[32:]).all()
    torch.testing.assert_close((x[:32] + x[32:]) / 2, x_1 * t[:32, None])  # opposite of their mean


def test_times_are_stratified() -> None:
    objective = ExplicitMatchingObjective([Segment(0.0, 1.0, bridges(8, 1.0))], (1,), backward=False)
    t = []
    for first, last in ((0, 32), (32, 63)):
        example = objective.draw({"x_1": torch.zeros(last - first, dtype=torch.long)}, Rng(0, first, 63))
        t.append(example["t"])
    assert [len(part) for part in t] == [32, 31]
    gaps = torch.cat([torch.zeros(1), torch.cat(t).double().unique(), torch.ones(1)]).diff()
    assert gaps.max() < 2.1 / 63


def test_path_integral_weights_of_a_barrier() -> None:
    """W1 at .5 falls at least fivefold and -log of the mean weight within .01; over the steps, nothing moves."""
    cost, marginals = barrier()
    paths, _ = ConditionalControl(num_samples=32).solve(
        GaussianPaths.brownian_bridges(*Barrier().pairs(), 1.0, 15, 30), Barrier(), Rng(0)
    )
    assert abs(Barrier().objective(paths).item() / 2.754 - 1) < 0.01
    found = PathIntegral(trajectories=20_000).sample_weighted(paths, Barrier(), Rng(1))
    assert abs(-found.log_z.item() - cost) < 0.01
    assert 0.43 < found.ess.item() / 20_000 < 0.6
    x, weights = found.states[0, :, 150, 0], found.log_weights[0].exp()
    equal = torch.full_like(weights, 1 / len(weights))
    before, after = marginals[0.5].w1(x, equal), marginals[0.5].w1(x, weights)
    assert 0.075 < before < 0.1
    assert after < before / 5
    assert abs(weights[x.abs() < 0.3].sum() - marginals[0.5].prob_within(0.3)) < 0.015
    wrong = (found.log_weights[0] / 300).softmax(0)
    assert marginals[0.5].w1(x, wrong) > 0.95 * before


@pytest.mark.parametrize(("row", "least"), [(0, 0.8), (1, 0.005), (2, 0.9)])
def test_mean_weight_is_z(row: int, least: float) -> None:
    """With V quadratic, from plain Brownian bridges; 4 standard errors of the mean weight, and .1 % for the steps."""
    problem, number = ROWS[row][0], 5000
    paths = GaussianPaths.brownian_bridges(*problem.pairs(4), problem.noise, 3, 3)
    found = PathIntegral(trajectories=number, steps=100).sample_weighted(paths, QuadraticCost(problem.omega), Rng(0))
    assert (found.ess / number > least).all()
    error = 4 * (1 / found.ess - 1 / number).sqrt() + 1e-3 * abs(problem.log_z)
    assert ((found.log_z - problem.log_z).abs() < error).all()


def brownian(cost: StateCost, n: int) -> WeightedTrajectories:
    problem = ROWS[0][0]
    paths = GaussianPaths.brownian_bridges(*problem.pairs(n, torch.float32), problem.noise, 3, 3)
    return PathIntegral(trajectories=200, steps=100).sample_weighted(paths, cost, Rng(0))


def test_path_integral_states() -> None:
    """Mean and deviation of drawn states, to 5 standard errors and the steps; with V = 0 those of the bridge."""
    rows = torch.arange(100).repeat(200)
    t = torch.full((len(rows),), 0.503)
    for cost, std, mean in ((QuadraticCost(2.0), 0.43634681, 0.16201357), (Zero(), 0.5, 0.25)):
        found = brownian(cost, 100)
        at, x, _ = found.sample(rows, t, Rng(1).stream("x"))
        close(at, torch.full_like(at, 0.5), 1e-6)
        assert abs(x.mean() - mean) < 0.02
        assert abs(x.std() / std - 1) < 0.03
        late, _, _ = found.sample(rows[:2], t[:2], Rng(1).stream("x"), backward=True)
        close(late, torch.full_like(late, 0.51), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True])
def test_path_integral_targets(backward: bool) -> None:
    """From Brownian bridges: slope and height of the least squares line of the target, V quadratic.

    Without weights in the target they would be those of the bridge, off by .6 in slope at .5: tested as well.
    """
    problem, number = ROWS[0][0], 100_000
    found = brownian(QuadraticCost(problem.omega), 500)
    rows = torch.arange(500).repeat(number // 500)

    def line(at: Tensor, x: Tensor, target: Tensor) -> tuple[float, float]:
        slope = ((x - x.mean()) * target).mean() / x.var()
        zero, one = (problem.drift(torch.tensor(v, dtype=F64), at, backward=backward) for v in (0.0, 1.0))
        return (slope - (one - zero)).item(), (target.mean() - slope * x.mean() - zero).item()

    for t in (0.3, 0.5, 0.97):
        local = torch.full((number,), (1 - t if backward else t) + 0.001 - backward * 0.01)
        at, x, target = found.sample(rows, local, Rng(1).stream("x"), backward=backward)
        error = 4 * (2 / (0.05 * number)) ** 0.5  # of a window's noise, in states that are drawn twice
        slope, height = line(at[0].double(), x[:, 0].double(), target[:, 0].double())
        assert abs(slope) < error / x.std() + 0.05
        assert abs(height) < error + 0.05
        if t == 0.5:
            plain = drift(found.paths.moments_at(rows, at), x, at, problem.noise, backward=backward)
            slope, height = line(at[0].double(), x[:, 0].double(), plain[:, 0].double())
            assert abs(slope) > 0.5


def test_low_ess_falls_back_to_the_gaussian_path() -> None:
    """A cost that kills all but one in a thousand: equal weights, and the path's own drift as target."""

    class Gate(StateCost):
        differentiable = False

        def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
            shut = torch.where((x[..., 0] > -1) & (t > 0.4) & (t < 0.6), math.inf, 0.0)
            return torch.where(x[..., 0] > 50, 0.0, shut)

    x = torch.tensor([[0.0, 0.0], [100.0, 0.0]], dtype=F64)
    paths = GaussianPaths.brownian_bridges(x, x, 0.5, 3, 3)
    found = PathIntegral(trajectories=50, steps=40).sample_weighted(paths, Gate(), Rng(0))
    assert found.is_trusted.tolist() == [False, True]
    assert found.ess[0] < 0.5
    close(found.log_weights.exp(), torch.full((2, 50), 0.02, dtype=F64), 1e-12)
    rows, t = torch.zeros(64, dtype=torch.long), torch.linspace(0, 1, 64, dtype=F64)
    for backward in (False, True):
        at, y, target = found.sample(rows, t, Rng(1).stream("x"), backward=backward)
        close(target, drift(paths.moments_at(rows, at), y, at, 0.5, backward=backward), 1e-9)


def test_population_is_other_pairs() -> None:
    seen = []

    class Look(StateCost):
        needs_population = True

        def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
            own = torch.arange(3).repeat_interleave(5)
            assert torch.equal(x[0, :, 0].round().long() // 100, own)  # pair after pair
            assert (population.samples[0, :, 0].round().long() // 100 != own).all()
            seen.append(population.log_density(x))
            return 0.0 * x.sum(-1)

    x = torch.tensor([[50.0], [150.0], [250.0]], dtype=F64)
    PathIntegral(trajectories=5, steps=10).sample_weighted(
        GaussianPaths.brownian_bridges(x, x, 1.0, 3, 3), Look(), Rng(0)
    )
    assert len(seen) == 11
    assert all(values.isfinite().all() for values in seen)


def test_endpoints_and_random_streams() -> None:
    draws = Rng(5)
    paths = GaussianPaths.brownian_bridges(
        draws.stream("a").normal((300, 2)), draws.stream("b").normal((300, 2)), 0.5, 4, 4
    )
    how = PathIntegral(trajectories=3, steps=20)
    whole = how.sample_weighted(paths, QuadraticCost(1.0), Rng(0))
    assert torch.equal(whole.states[:, :, [0, -1]], paths.means[:, None, [0, -1]].expand(300, 3, 2, 2))
    part = how.sample_weighted(paths.select(slice(200, 300)), QuadraticCost(1.0), Rng(0, 200))
    close(part.states, whole.states[200:], 1e-6)


def test_path_integral_needs_noise() -> None:
    x = torch.zeros(1, 1)
    with refuses(UsageError):
        PathIntegral().sample_weighted(GaussianPaths.brownian_bridges(x, x, 0.0, 3, 3), Zero(), Rng(0))
