"""Bridge solver: alternation, segments, populations, known bridges."""

import itertools
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.drift_matching import ImplicitMatching
from feller.control.bridges.population import Population
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import init_state, iterate_rounds
from feller.control.bridges.solution import solve_bridge
from feller.control.bridges.unbalanced_weights import unbalanced_weights
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.networks.bridge_drift import ForwardBackwardDrift, Potential
from feller.networks.mlp import MLP
from feller.training.couplings import IndependentCoupling, MinibatchOT, optimal_permutation
from feller.training.engine import get_engine
from feller.training.optimizer import TrainConfig
from tests.errors import refuses

SMALL = BridgeSolverConfig(
    architecture=MLP(width=32, depth=1),
    rounds=2,
    pairs=256,
    control=ConditionalControl(steps=20, mean_knots=5, scale_knots=5, times=20),
    train=TrainConfig(batch_size=256, steps=150, lr=3e-3, ema_decay=0.98, lr_decay_fraction=0.0, warmup=0),
    nfe=40,
)


def normal(n: int, mean: float, seed: int) -> torch.Tensor:
    return mean + 0.5 * torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))


def test_rounds_alternate() -> None:
    for number in (1, 2, 3):
        how = replace(SMALL, rounds=number, train=replace(SMALL.train, steps=2), control=ConditionalControl(steps=1))
        found = solve_bridge(BridgeProblem.between([normal(50, -1, 0), normal(50, 1, 1)], 1.0), how)
        assert [one.backward for one in found.rounds] == [k % 2 == 0 for k in range(1, number + 1)]
        assert [one.number for one in found.rounds] == [*range(1, number + 1)]


def test_initial_coupling() -> None:
    problem = BridgeProblem.between(
        [torch.randn(64, 2, generator=torch.Generator().manual_seed(k)) for k in range(3)], 1.0
    )
    how = replace(SMALL, rounds=1, pairs=64, train=replace(SMALL.train, steps=2), control=ConditionalControl(steps=1))
    for pairing, nearest in ((MinibatchOT(block_size=None), True), (IndependentCoupling(), False)):
        found = solve_bridge(problem, replace(how, coupling=pairing))
        for leg in found.rounds[0].segments:
            x_0, x_1 = leg.paths.means[:, 0], leg.paths.means[:, -1]
            assert torch.equal(optimal_permutation(x_0, x_1), torch.arange(64)) == nearest


def test_config_round_trip() -> None:
    how = replace(SMALL, coupling=MinibatchOT(block_size=None))
    assert from_dict(BridgeSolverConfig, to_dict(how)) == how


@pytest.mark.slow
def test_bridge_between_gaussians() -> None:
    """Ends, and the middle of the closed form for quadratic cost (omega 2, deviations .5): 1,000 of each, 4 rounds."""
    problem = BridgeProblem.between(
        [normal(1000, -1, 0), normal(1000, 1, 1)], 1.0, cost=lambda x, t: 2 * x.square().sum(-1)
    )
    found = solve_bridge(problem, replace(SMALL, rounds=3, pairs=1000))
    states = found.transport(normal(1000, -1, 0)).states[..., 0]
    assert states[:, -1].mean().item() == pytest.approx(1, abs=0.12)
    assert states[:, -1].std().item() == pytest.approx(0.5, abs=0.08)
    # kappa = 2 / sinh 2; c = (-1 + sqrt(1 + 4 kappa^2 / 16)) / (2 kappa); A = B = sinh 1 / sinh 2
    kappa, a = 2 / 3.626860, 1.175201 / 3.626860
    c = (-1 + (1 + kappa**2 / 4) ** 0.5) / (2 * kappa)
    middle = (2 * a**2 * 0.25 + 2 * a**2 * c + 1.175201**2 / (2 * 3.626860)) ** 0.5
    assert states[:, 2].mean().item() == pytest.approx(0, abs=0.12)
    assert states[:, 2].std().item() == pytest.approx(middle, rel=0.12)


def test_intermediate_populations() -> None:
    crowds = [normal(300, mean, k) for k, mean in enumerate((-1.0, 2.0, 0.0))]
    problem = BridgeProblem.between(crowds, 0.5, times=[10.0, 12.0, 20.0])
    assert problem.times == (0.0, 0.2, 1.0)
    found = solve_bridge(problem, replace(SMALL, rounds=1, train=replace(SMALL.train, steps=300)))
    walked = found.transport(crowds[0])
    place = walked.times.index(0.2)
    assert walked.states[:, place].mean().item() == pytest.approx(2, abs=0.25)
    assert walked.states[:, -1].mean().item() == pytest.approx(0, abs=0.25)


@pytest.mark.slow
def test_base_drift() -> None:
    """In dX = -2 X dt + dW a crowd N(0, 1) has variance v = e^-4 + (1 - e^-4) / 4 at time 1, and covariance e^-2."""
    v = math.exp(-4) + (1 - math.exp(-4)) / 4
    problem = BridgeProblem.between([2 * normal(1000, 0, 0), 2 * v**0.5 * normal(1000, 0, 1)], 1.0, cost=None)
    problem = replace(problem, base_drift=lambda x, t: -2 * x)
    found = solve_bridge(problem, replace(SMALL, rounds=5, pairs=1000))
    walked = found.transport(2 * normal(1000, 0, 2))
    begin, end = walked.states[:, 0, 0], walked.states[:, -1, 0]
    assert end.std().item() == pytest.approx(v**0.5, rel=0.08)
    assert (begin * end).mean().item() == pytest.approx(math.exp(-2), abs=0.06)
    assert walked.control.square().mean().item() / 2 < 0.1  # of 1/2 (2 X)^2, about 1, that the drift is


@pytest.mark.slow
def test_implicit_matching() -> None:
    how = replace(SMALL, rounds=1, architecture=Potential(SMALL.architecture), matching=ImplicitMatching())
    found = solve_bridge(BridgeProblem.between([normal(500, -1, 0), normal(500, 1, 1)], 1.0), how)
    end = found.transport(normal(500, -1, 2)).states[:, -1]
    assert end.mean().item() == pytest.approx(1, abs=0.15)
    assert end.std().item() == pytest.approx(0.5, abs=0.12)


def test_bits_depend_on_the_seed() -> None:
    problem = BridgeProblem.between([normal(50, -1, 0), normal(50, 1, 1)], 1.0)
    how = replace(SMALL, train=replace(SMALL.train, steps=3))

    def walks(seed: int) -> list[torch.Tensor]:
        progress = init_state(ForwardBackwardDrift(how.architecture).build((1,), {}, Rng(0)), how)
        found = itertools.islice(iterate_rounds(problem, how, progress, Rng(seed), get_engine()), 2)
        return [one.trajectories[0].states for one in found]

    for one, other in zip(walks(0), walks(0), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(walks(0)[0], walks(1)[0])


def test_invalid_problems() -> None:
    with refuses(UsageError):
        BridgeProblem.between([torch.zeros(3, 1)], 1.0)
    with refuses(UsageError):
        BridgeProblem.between([torch.zeros(3, 1), torch.ones(3, 1)], 1.0, times=[0.0, 1.0, 2.0])


def test_populations_from_files(tmp_path) -> None:
    members = torch.tensor([[10.0, 200.0], [30.0, 400.0], [50.0, -7.0]])
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "\n".join(",".join(map(str, row)) for row in members.tolist()) + "\n")
    problem = BridgeProblem.between([str(path), members], 1.0)
    seen = problem.populations[0][0](3, Rng(0))
    assert torch.allclose(seen.sort(0).values, members.sort(0).values, atol=1e-3)


def test_members_that_are_not_finite() -> None:
    a = torch.zeros(4, 2)
    for wrong in (math.nan, math.inf):
        bad = a.clone()
        bad[2, 1] = wrong
        with refuses(InputError):
            BridgeProblem.between([a, bad], noise=0.5)


def test_data_frames_with_columns_in_another_order() -> None:
    a, b = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]}), pd.DataFrame({"y": [7.0, 8.0], "x": [5.0, 6.0]})
    problem = BridgeProblem.between([a, b], noise=0.5)
    ends = problem.populations[0][1].members
    torch.testing.assert_close(ends, torch.tensor([[5.0, 7.0], [6.0, 8.0]]))


def test_members_are_drawn_equally_often() -> None:
    crowd = Population(torch.arange(7.0)[:, None])
    drawn = crowd(23, Rng(0))[:, 0].long()
    counts = drawn.bincount(minlength=7)
    assert counts.max() - counts.min() <= 1
    assert (crowd(23, Rng(0)) == crowd(23, Rng(0))).all()
    assert (crowd(23, Rng(0)) != crowd(23, Rng(1))).any()


def test_weights_are_frequencies() -> None:
    """4,000 draws: within 5 deviations."""
    weights = torch.tensor([0.1, 0.2, 0.7])
    drawn = Population(torch.arange(3.0)[:, None], weights).sample_indices(4000, Rng(0))
    torch.testing.assert_close(drawn.bincount() / 4000, weights, atol=5 * (0.25 / 4000) ** 0.5, rtol=0)


def test_unbalanced_weights() -> None:
    """Two groups of 50; the first becomes 90 of 100, the second 10: members of the first count more."""
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(50, 2, generator=g), torch.randn(50, 2, generator=g) + 10
    later = torch.cat([torch.randn(90, 2, generator=g), torch.randn(10, 2, generator=g) + 10])
    crowd, after = unbalanced_weights(torch.cat([left, right]), later, 0.5)
    share = crowd.weights[:50].sum().item()
    assert 0.7 < share < 0.95
    assert crowd.weights.sum().item() == pytest.approx(1)
    assert after.weights[90:].mean() > after.weights[:90].mean()  # they stand for more of the earlier ones
    even, _ = unbalanced_weights(torch.cat([left, right]), later, 1e6)
    torch.testing.assert_close(even.weights, torch.full_like(even.weights, 0.01), atol=2e-4, rtol=0)
    with refuses(UsageError):
        unbalanced_weights(left, later, 0.0)
