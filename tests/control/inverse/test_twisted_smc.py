"""Particles against posteriors in closed form: modes, normal laws, rewards, and tokens by enumeration."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from feller.control.inverse.guided_solver import DPS, GuidedSolver, PiGDM
from feller.control.inverse.inverse_problem import InverseSolver, Measurement, PriorModel
from feller.control.inverse.operators import CompressedSensing, LinearOperator, Operator, UnknownBlur
from feller.control.inverse.particles import Outlook, TwistedChain, resample, run_particles
from feller.control.inverse.twisted_chains import GaussianChain, MeasurementTwist, RewardTwist, TokenChain
from feller.control.inverse.twisted_smc import TwistedSMC
from feller.core.errors import InputError, UsageError
from feller.core.rng import RandomStream, Rng
from feller.paths import Affine, Mixture
from feller.paths.processes import Characteristics
from feller.paths.schedules import Cosine, Linear, Schedule
from feller.paths.time_distributions import linear_grid
from feller.spaces import Euclidean
from feller.spaces.tokens import MaskSource
from tests.control.inverse.test_inverse_methods import gaussian, normal
from tests.errors import refuses
from tests.oracle import F64, Normal, close

CENTRES = torch.tensor([[-1.0, 0.8], [1.2, 0.3], [0.2, -1.4]], dtype=F64)
SHARES, VARIANCE = torch.tensor([0.3, 0.5, 0.2], dtype=F64), 0.09


def modes(x: Tensor, t: Tensor) -> Characteristics:
    """Return the exact flow to three normal modes."""
    t = t[:, None]
    variance, away = t.square() * VARIANCE + (1 - t).square(), x[:, None] - t[:, :, None] * CENTRES
    posterior = (SHARES.log() - away.square().sum(2) / (2 * variance)).softmax(1)
    velocity = CENTRES + ((t * VARIANCE - (1 - t)) / variance)[:, :, None] * away
    return Characteristics(velocity=(posterior[:, :, None] * velocity).sum(1))


class Direction(LinearOperator):
    """The coordinate along one direction."""

    def __init__(self, *direction: float) -> None:
        self.direction = torch.tensor(direction, dtype=F64)

    def __call__(self, values: Tensor, unknown: Tensor | None = None) -> Tensor:
        return values @ self.direction[:, None]


MODES = PriorModel(lambda rows: modes, Affine(), Euclidean((2,)))


def mode_errors(method: InverseSolver, direction: Direction, y: float, noise: float, n: int) -> tuple[float, float]:
    """Return the largest errors of the weights of the modes and of the mean."""
    a = direction.direction
    spread = VARIANCE * (a @ a) + noise**2
    weights = (SHARES.log() - (y - CENTRES @ a).square() / (2 * spread)).softmax(0)
    mean = weights @ (CENTRES + VARIANCE / spread * (y - CENTRES @ a)[:, None] * a)
    observation = Measurement(direction, torch.full((n, 1), y, dtype=F64), noise)
    found = method.restore(MODES, observation, normal(n, 2), Rng(1)).state
    shares = torch.bincount(torch.cdist(found, CENTRES).argmin(1), minlength=3) / n
    return (shares - weights).abs().max().item(), (found.mean(0) - mean).abs().max().item()


@pytest.mark.parametrize(
    ("direction", "y", "noise"),
    [
        ((1.0, 0.5), 0.4, 0.3),
        pytest.param((0.0, 1.0), 0.2, 0.5, marks=pytest.mark.slow),
        pytest.param((0.7, -0.3), -0.2, 0.6, marks=pytest.mark.slow),
    ],
)
def test_modes_have_their_posterior_weights(direction: tuple[float, float], y: float, noise: float) -> None:
    """64 particles in 32 steps, 200 groups; guidance alone is off by 0.05 or more."""
    found = {
        type(method).__name__ + str(getattr(method, "guidance", "")): mode_errors(
            method, Direction(*direction), y, noise, n
        )
        for method, n in (
            (TwistedSMC(64, 32), 64 * 200),
            (GuidedSolver(DPS(1.0), steps=32), 3000),
            (GuidedSolver(PiGDM(), steps=32), 3000),
        )
    }
    (weights, mean), *guided = found.values()
    assert weights < 0.02
    assert mean < 0.02
    assert min(error for _, error in guided) > 0.05


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
def test_normal_laws(schedule: Schedule) -> None:
    """Data N(1, 0.25), seen with noise 0.5 at 2: the posterior is N(1.5, 0.125)."""
    law = Normal(schedule)
    prior = PriorModel(lambda rows: law.flow, Affine(schedule), Euclidean((1,)))
    observation = Measurement(Direction(1.0), torch.full((6400, 1), 2.0, dtype=F64), 0.5)
    found = TwistedSMC(64, 64).restore(prior, observation, normal(6400, 1), Rng(1))
    assert found.state.mean().item() == pytest.approx(1.5, abs=0.02)
    assert found.state.var().item() == pytest.approx(0.125, abs=0.01)
    assert found.ess is not None
    assert found.ess.shape == (64, 100)
    assert ((found.ess >= 1) & (found.ess <= 64 + 1e-9)).all()
    assert found.nfe.tolist() == [64] * 6400


def test_correlated_numbers_seen_through_sums() -> None:
    """Six numbers with a full covariance, of which two random sums are measured: mean and covariance of the rest."""
    root = normal(6, 6, seed=5) / 2
    covariance = root @ root.T + 0.2 * torch.eye(6, dtype=F64)
    operator = CompressedSensing(2, seed=1)
    matrix = operator(torch.eye(6, dtype=F64)).T
    y = matrix @ torch.ones(6, dtype=F64)
    gain = covariance @ matrix.T @ torch.linalg.inv(matrix @ covariance @ matrix.T + 0.25 * torch.eye(2, dtype=F64))
    observation = Measurement(operator, y.expand(6400, 2), 0.5)
    found = TwistedSMC(64, 48).restore(gaussian(covariance, (6,)), observation, normal(6400, 6), Rng(1)).state
    close(found.mean(0), (gain @ y).tolist(), 0.05)
    close(found.T.cov(), (covariance - gain @ matrix @ covariance).tolist(), 0.06)


@pytest.mark.parametrize("has_gradient", [True, False])
def test_rewards_tilt_the_law(has_gradient: bool) -> None:
    """N(1, 0.25) times exp(2 x) is N(1.5, 0.25), whether the reward has a gradient or not."""

    def reward(x: Tensor, cond: object) -> Tensor:
        return 2 * (x if has_gradient else x.detach())[:, 0]

    chain = GaussianChain(Normal().flow, Affine(), RewardTwist(reward))
    found = run_particles(chain, normal(6400, 1), linear_grid(32), 64, Rng(1))
    assert found.state.mean().item() == pytest.approx(1.5, abs=0.02)
    assert found.state.var().item() == pytest.approx(0.25, abs=0.02)
    assert (found.ess[-1].mean() > 48) == has_gradient


def test_tokens_by_enumeration() -> None:
    """Two dependent tokens under a mask, with a reward: all nine tilted probabilities."""
    joint = torch.tensor([[0.3, 0.05, 0.1], [0.02, 0.2, 0.03], [0.1, 0.1, 0.1]], dtype=F64)
    rewards = torch.tensor([[0.0, 1.5, 0.2], [1.0, -1.0, 2.0], [0.0, 0.5, 1.0]], dtype=F64)

    def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        logits = []
        for place in (0, 1):
            table, other = joint if place == 0 else joint.T, x[:, 1 - place]
            given = torch.cat([table.T / table.sum(0)[:, None], table.sum(1)[None]])[other]
            logits.append(given.log())
        return torch.stack(logits, 1)

    def reward(x: Tensor, cond: object) -> Tensor:
        return rewards[x[:, 0], x[:, 1]]

    path = Mixture(source=MaskSource())
    chain = TokenChain(network, path, {}, RewardTwist(reward))
    x_0 = torch.full((12800, 2), 3)
    found = run_particles(chain, x_0, linear_grid(32), 64, Rng(1)).state
    target = joint * rewards.exp()
    counts = torch.tensor([((found[:, 0] == i) & (found[:, 1] == j)).sum() for i, j in product(range(3), repeat=2)])
    close(counts / len(found), (target / target.sum()).flatten().tolist(), 0.02)


def test_a_group_does_not_depend_on_other_groups() -> None:
    method, direction = TwistedSMC(16, 8), Direction(1.0, 0.5)
    y, x_0 = torch.tensor([0.4, -1.0, 1.0], dtype=F64).repeat_interleave(16)[:, None], normal(48, 2)
    heard: list[float] = []
    together = method.restore(MODES, Measurement(direction, y, 0.3), x_0, Rng(1), on_progress=heard.append)
    assert heard == [number / 8 for number in range(1, 9)]
    alone = method.restore(MODES, Measurement(direction, y[16:32], 0.3), x_0[16:32], Rng(1, first_example=16))
    assert together.ess is not None
    assert alone.ess is not None
    close(together.state[16:32], alone.state.tolist(), 1e-12)
    close(together.ess[:, 1], alone.ess[:, 0].tolist(), 1e-9)


def test_resampling_is_systematic() -> None:
    weights = torch.tensor([[0.5, 0.26, 0.24, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=F64)
    for u in (0.0, 0.5, 0.999):
        index = resample(weights, torch.full((2,), u, dtype=F64))
        counts = torch.stack([torch.bincount(row, minlength=4) for row in index])
        assert ((counts - 4 * weights).abs() < 1).all()


class NotLinear(Operator):
    def __call__(self, values: Tensor, unknown: Tensor | None = None) -> Tensor:
        return values.square()


def test_nonlinear_measurements() -> None:
    """The square of a coordinate of N(0, 1) leaves two equal modes, which all 40 groups together find."""
    law = Normal(m=0.0, s=1.0)
    prior = PriorModel(lambda rows: law.flow, Affine(), Euclidean((1,)))
    observation = Measurement(NotLinear(), torch.ones(2560, 1, dtype=F64), 0.3)
    found = TwistedSMC(64, 32).restore(prior, observation, normal(2560, 1), Rng(1)).state
    assert (found > 0).double().mean().item() == pytest.approx(0.5, abs=0.06)
    grid = torch.linspace(-4, 4, 8001, dtype=F64)
    density = torch.exp(-grid.square() / 2 - (grid.square() - 1).square() / (2 * 0.09))
    assert found.abs().mean().item() == pytest.approx(((density * grid.abs()).sum() / density.sum()).item(), abs=0.02)


def test_what_is_refused() -> None:
    y, x_0 = torch.zeros(4, 1, dtype=F64), normal(4, 2)
    with refuses(UsageError, argument="particles", found="1"):
        TwistedSMC(1)
    with refuses(UsageError, argument="steps", found="1"):
        TwistedSMC(4, 1)
    with refuses(UsageError, argument="noise", found="0"):
        TwistedSMC(4).restore(MODES, Measurement(Direction(1.0, 0.0), y), x_0, Rng(0))
    with refuses(UsageError, argument="x", found="4"):
        TwistedSMC(3).restore(MODES, Measurement(Direction(1.0, 0.0), y, 0.1), x_0, Rng(0))
    blur = Measurement(UnknownBlur(), torch.zeros(4, 1, 8, 8, dtype=F64), 0.1)
    with refuses(UsageError):
        TwistedSMC(4).restore(MODES, blur, normal(4, 1, 8, 8), Rng(0))
    chain = GaussianChain(modes, Affine(), RewardTwist(lambda x, cond: torch.full((len(x),), torch.nan, dtype=F64)))
    with refuses(InputError):
        run_particles(chain, x_0, linear_grid(4), 2, Rng(0))


@pytest.mark.parametrize("first", [(0.0, 0.0), (0.0, 1.0), (0.0, -2.0)])
def test_any_first_twist_has_the_same_limit(first: tuple[float, float]) -> None:
    """A chain of two states that keeps its state with probability 0.8, tilted by exp of the last state."""

    class Coin(TwistedChain):
        def look(self, x: Tensor, t: float) -> Outlook:
            return Outlook(torch.tensor(first if t == 0 else (0.0, 1.0), dtype=F64)[x], {})

        def move(self, x: Tensor, outlook: Outlook, t: float, s: float, rng: RandomStream) -> tuple[Tensor, Tensor]:
            keeps = rng.uniform(x.shape, F64, x.device) < 0.8
            return torch.where(keeps, x, 1 - x), torch.zeros(len(x), dtype=F64)

    n = 40_000
    found = run_particles(Coin(), torch.arange(n) % 2, [0.0, 1.0], n, Rng(0)).state
    assert found.double().mean().item() == pytest.approx(1 / (1 + math.exp(-1)), abs=0.01)


def test_copies_count_once() -> None:
    """Particles are resampled to the largest half, and a step without noise keeps the copies."""

    class Still(TwistedChain):
        def look(self, x: Tensor, t: float) -> Outlook:
            return Outlook(torch.where(x[:, 0] >= 12, 50.0, 0.0) if t else torch.zeros(len(x), dtype=F64), {})

        def move(self, x: Tensor, outlook: Outlook, t: float, s: float, rng: RandomStream) -> tuple[Tensor, Tensor]:
            return x, torch.zeros(len(x), dtype=F64)

    x = torch.arange(16, dtype=F64)[:, None].repeat(3, 1)
    ess = run_particles(Still(), x, [0.0, 0.5, 1.0], 16, Rng(0)).ess
    close(ess, torch.full((2, 3), 4.0, dtype=F64), 1e-6)


@pytest.mark.parametrize("noise", [0.1, 1e-3, 1e-6])
def test_the_twist_of_sharp_measurements(noise: float) -> None:
    """The likelihood of residuals r under noise^2 + A A^T / 2, in single precision."""
    operator, x = CompressedSensing(3), torch.linspace(-1, 1, 12).reshape(2, 6)
    rows = operator(torch.eye(6)).double()
    y = operator(torch.linspace(1, -1, 12).reshape(2, 6))
    covariance = noise**2 * torch.eye(3, dtype=F64) + 0.5 * rows.T @ rows
    residual = (operator(x) - y).double()
    expected = -(residual * torch.linalg.solve(covariance, residual.T).T).sum(1) / 2
    close(MeasurementTwist(Measurement(operator, y, noise)).log_likelihood(x, 0.5).double(), expected, 1e-3)
