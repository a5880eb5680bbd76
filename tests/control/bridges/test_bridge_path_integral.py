"""Weighted trajectories against problems that are solved exactly."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.bridges.costs import Cost, Population, Zero
from feller.control.bridges.gaussian_paths import GaussianPaths, drift
from feller.control.bridges.path_integral import PathIntegral, Weighted
from feller.control.bridges.pinned_control import PinnedControl
from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller_papers.gsbm.exact import Barrier, QuadraticCost, barrier
from tests.control.bridges.quadratic import ROWS
from tests.oracle import F64, close


def test_weights_remove_the_gaussian_bias() -> None:
    """W1 at .5 falls at least fivefold and -log of the mean weight within .01; over the steps, nothing moves."""
    cost, laws = barrier()
    paths, _ = PinnedControl(draws=32).solve(
        GaussianPaths.straight(*Barrier().pairs(), 1.0, 15, 30), Barrier(), Draws(0)
    )
    assert abs(Barrier().objective(paths).item() / 2.754 - 1) < 0.01
    found = PathIntegral(trajectories=20_000).weigh(paths, Barrier(), Draws(1))
    assert abs(-found.log_z.item() - cost) < 0.01
    assert 0.43 < found.ess.item() / 20_000 < 0.6
    x, weights = found.states[0, :, 150, 0], found.log_weights[0].exp()
    equal = torch.full_like(weights, 1 / len(weights))
    before, after = laws[0.5].w1(x, equal), laws[0.5].w1(x, weights)
    assert 0.075 < before < 0.1
    assert after < before / 5
    assert abs(weights[x.abs() < 0.3].sum() - laws[0.5].near(0.3)) < 0.015
    wrong = (found.log_weights[0] / 300).softmax(0)
    assert laws[0.5].w1(x, wrong) > 0.95 * before


@pytest.mark.parametrize(("row", "least"), [(0, 0.8), (1, 0.005), (2, 0.9)])
def test_mean_weight_is_z(row: int, least: float) -> None:
    """With V quadratic, from plain Brownian bridges; 4 standard errors of the mean weight, and .1 % for the steps."""
    problem, number = ROWS[row][0], 5000
    paths = GaussianPaths.straight(*problem.pairs(4), problem.noise, 3, 3)
    found = PathIntegral(trajectories=number, steps=100).weigh(paths, QuadraticCost(problem.omega), Draws(0))
    assert (found.ess / number > least).all()
    error = 4 * (1 / found.ess - 1 / number).sqrt() + 1e-3 * abs(problem.log_z)
    assert ((found.log_z - problem.log_z).abs() < error).all()


def brownian(cost: Cost, n: int) -> Weighted:
    """Weigh Brownian bridges of equal pairs, of the first row of the table, with 200 trajectories each."""
    problem = ROWS[0][0]
    paths = GaussianPaths.straight(*problem.pairs(n, torch.float32), problem.noise, 3, 3)
    return PathIntegral(trajectories=200, steps=100).weigh(paths, cost, Draws(0))


def test_states_have_the_law_of_the_best_process() -> None:
    """Mean and deviation of drawn states, to 5 standard errors and the steps; with V = 0 those of the bridge."""
    rows = torch.arange(100).repeat(200)
    t = torch.full((len(rows),), 0.503)
    for cost, std, mean in ((QuadraticCost(2.0), 0.43634681, 0.16201357), (Zero(), 0.5, 0.25)):
        found = brownian(cost, 100)
        at, x, _ = found.draw(rows, t, Draws(1).at("x"))
        close(at, torch.full_like(at, 0.5), 1e-6)
        assert abs(x.mean() - mean) < 0.02
        assert abs(x.std() / std - 1) < 0.03
        late, _, _ = found.draw(rows[:2], t[:2], Draws(1).at("x"), backward=True)
        close(late, torch.full_like(late, 0.51), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True])
def test_regression_of_the_target_is_the_best_drift(backward: bool) -> None:
    """From Brownian bridges: slope and height of the least squares line of the target, V quadratic.

    Without weights in the target they would be those of the bridge, off by .6 in slope at .5: tested as well.
    """
    problem, number = ROWS[0][0], 100_000
    found = brownian(QuadraticCost(problem.omega), 500)
    rows = torch.arange(500).repeat(number // 500)

    def line(at: Tensor, x: Tensor, target: Tensor) -> tuple[float, float]:
        """Return what the line is off."""
        slope = ((x - x.mean()) * target).mean() / x.var()
        zero, one = (problem.drift(torch.tensor(v, dtype=F64), at, backward=backward) for v in (0.0, 1.0))
        return (slope - (one - zero)).item(), (target.mean() - slope * x.mean() - zero).item()

    for t in (0.3, 0.5, 0.97):
        local = torch.full((number,), (1 - t if backward else t) + 0.001 - backward * 0.01)
        at, x, target = found.draw(rows, local, Draws(1).at("x"), backward=backward)
        error = 4 * (2 / (0.05 * number)) ** 0.5  # of a window's noise, in states that are drawn twice
        slope, height = line(at[0].double(), x[:, 0].double(), target[:, 0].double())
        assert abs(slope) < error / x.std() + 0.05
        assert abs(height) < error + 0.05
        if t == 0.5:
            plain = drift(found.paths.at(rows, at), x, at, problem.noise, backward=backward)
            slope, height = line(at[0].double(), x[:, 0].double(), plain[:, 0].double())
            assert abs(slope) > 0.5


def test_pairs_without_enough_weights_keep_their_gaussian_path() -> None:
    """A cost that kills all but one in a thousand: equal weights, and the path's own drift as target."""

    class Gate(Cost):
        differentiable = False

        def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
            shut = torch.where((x[..., 0] > -1) & (t > 0.4) & (t < 0.6), math.inf, 0.0)
            return torch.where(x[..., 0] > 50, 0.0, shut)

    x = torch.tensor([[0.0, 0.0], [100.0, 0.0]], dtype=F64)
    paths = GaussianPaths.straight(x, x, 0.5, 3, 3)
    found = PathIntegral(trajectories=50, steps=40).weigh(paths, Gate(), Draws(0))
    assert found.trusted.tolist() == [False, True]
    assert found.ess[0] < 0.5
    close(found.log_weights.exp(), torch.full((2, 50), 0.02, dtype=F64), 1e-12)
    rows, t = torch.zeros(64, dtype=torch.long), torch.linspace(0, 1, 64, dtype=F64)
    for backward in (False, True):
        at, y, target = found.draw(rows, t, Draws(1).at("x"), backward=backward)
        close(target, drift(paths.at(rows, at), y, at, 0.5, backward=backward), 1e-9)


def test_a_crowd_is_that_of_other_pairs() -> None:
    seen = []

    class Look(Cost):
        crowd = True

        def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
            assert population is not None
            own = torch.arange(3).repeat_interleave(5)
            assert torch.equal(x[0, :, 0].round().long() // 100, own)  # pair after pair
            assert (population.samples[0, :, 0].round().long() // 100 != own).all()
            seen.append(population.log_density(x))
            return 0.0 * x.sum(-1)

    x = torch.tensor([[50.0], [150.0], [250.0]], dtype=F64)
    PathIntegral(trajectories=5, steps=10).weigh(GaussianPaths.straight(x, x, 1.0, 3, 3), Look(), Draws(0))
    assert len(seen) == 11
    assert all(values.isfinite().all() for values in seen)


def test_ends_are_exact_and_draws_are_addressed() -> None:
    draws = Draws(5)
    paths = GaussianPaths.straight(draws.at("a").normal((300, 2)), draws.at("b").normal((300, 2)), 0.5, 4, 4)
    how = PathIntegral(trajectories=3, steps=20)
    whole = how.weigh(paths, QuadraticCost(1.0), Draws(0))
    assert torch.equal(whole.states[:, :, [0, -1]], paths.means[:, None, [0, -1]].expand(300, 3, 2, 2))
    part = how.weigh(paths.rows(slice(200, 300)), QuadraticCost(1.0), Draws(0, 200))
    close(part.states, whole.states[200:], 1e-6)


def test_without_noise_there_is_nothing_to_weigh() -> None:
    x = torch.zeros(1, 1)
    with pytest.raises(UsageError, match="noise above 0"):
        PathIntegral().weigh(GaussianPaths.straight(x, x, 0.0, 3, 3), Zero(), Draws(0))
