"""Processes that keep a distribution: Langevin and Metropolis."""

import math

import torch
from scipy import stats
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import ScorePrediction, VelocityPrediction
from feller.paths.divergence_free import langevin, metropolis
from feller.paths.processes import Characteristics, Jumps, add
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from tests.errors import refuses
from tests.oracle import F64, Normal, chain, close, f64


def test_langevin_added_to_a_flow_keeps_the_marginals() -> None:
    """From N(0, 1) to N(m, s^2), exact moments extrapolated to no step; without its drift the variance is 1.1 off."""
    data = Normal()
    flow = data.flow

    def total(strength) -> tuple[Tensor, Tensor]:
        process = add(flow, langevin(lambda x, t: data.predict(ScorePrediction(), x, t), strength))
        ends = [f64(*chain(Euler(), process, linear_grid(n, 0.0, 0.8), 0.0, 1.0)) for n in (80, 160)]
        return ends[1], 2 * ends[1] - ends[0]

    for strength in (1.3, lambda t: 1 + t):
        close(total(strength)[1], f64(*data.moments(0.8)), 2e-3)


def test_langevin_has_half_the_score_as_drift() -> None:
    now = langevin(lambda x, t: -x, lambda t: 4 * t)(torch.ones(2, 3), torch.tensor([0.5, 1.0]))
    close(now.velocity[:, 0], (-1.0, -2.0), 1e-6)
    close(now.diffusion.expand(2, 3)[:, 0], (2.0, 4.0), 1e-6)


def test_langevin_works_on_trees() -> None:
    x = {"a": torch.ones(2, 3), "b": torch.ones(2)}
    now = langevin(lambda x, t: {name: -leaf for name, leaf in x.items()}, 2.0)(x, torch.zeros(2))
    assert now["a"].velocity.tolist() == [[-1] * 3] * 2
    assert now["b"].diffusion.shape == (1,)


def test_langevin_uses_the_time_of_each_leaf() -> None:
    x = {"a": torch.ones(2, 3), "b": {"c": torch.ones(2)}}
    t = {"a": torch.ones(2), "b": {"c": torch.full((2,), 0.1)}}
    now = langevin(lambda x, t: x, lambda t: 10 * t)(x, t)
    assert now["a"].diffusion.flatten().tolist() == [10, 10]
    assert now["b"]["c"].diffusion.flatten().tolist() == [1, 1]


def two(x: Tensor, t: Tensor | None = None) -> Tensor:
    """Return the log density of normal numbers with correlation .8, up to a constant."""
    a, b = x[:, 0], x[:, 1]
    return -(a.square() - 1.6 * a * b + b.square()) / (2 * 0.36)


def test_metropolis_keeps_its_stationary_distribution() -> None:
    """8,000 exact draws after 100 expected proposals: KS of each number, and the correlation to 5 standard errors."""
    z = Rng(0).stream("x").normal((8000, 2), F64)
    x = torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], 1)
    y = simulate(metropolis(two, 1.0, 100.0), x, linear_grid(100), Euler(), Rng(1))
    assert (y != x).any(1).double().mean() > 0.99
    for i in range(2):
        assert stats.kstest(y[:, i].numpy(), "norm").statistic < 1.95 / math.sqrt(8000)  # false alarm 1e-3
    assert abs(torch.corrcoef(y.T)[0, 1].item() - 0.8) < 5 * 0.36 / math.sqrt(8000)


def test_metropolis_converges_to_its_stationary_distribution() -> None:
    """From one point 2,000 examples have the correlation after 400 proposals, to 5 standard errors and .02."""
    y = simulate(metropolis(two, 1.0, 400.0), torch.full((2000, 2), 3.0, dtype=F64), linear_grid(400), Euler(), Rng(1))
    assert abs(torch.corrcoef(y.T)[0, 1].item() - 0.8) < 5 * 0.36 / math.sqrt(2000) + 0.02
    assert abs(y.mean().item()) < 5 / math.sqrt(2000) + 0.02


def test_metropolis_added_to_a_flow_keeps_the_marginals() -> None:
    """KS at t = .8 below 1.95 / sqrt(n), 6,000 paths of 200 steps, about 4 proposals each; false alarm 1e-3.

    Who proposes is not carried by the flow in that step, rate x step of the way: 2 % here.
    """
    data = Normal()

    def log_density(x: Tensor, t: Tensor) -> Tensor:
        mean, variance = data.moments(float(t[0]))
        return -((x[:, 0] - mean) ** 2) / (2 * variance)

    process = add(data.flow, metropolis(log_density, 0.7, 5.0))
    y = simulate(process, Rng(0).stream("x").normal((6000, 1), F64), linear_grid(200, 0.0, 0.8), Euler(), Rng(1))
    mean, variance = data.moments(0.8)
    assert stats.kstest(y.flatten().numpy(), stats.norm(mean, math.sqrt(variance)).cdf).statistic < 1.95 / math.sqrt(
        6000
    )


def test_metropolis_hazard_is_proposals_per_time() -> None:
    now = metropolis(two, 1.0, 3.0)(torch.zeros(4, 2, dtype=F64), torch.full((4,), 0.25, dtype=F64))
    close(now.jumps.hazard(0.75), (1.5,) * 4, 1e-12)
    with refuses(UsageError):
        metropolis(two, 0.0, 1.0)


def test_jumps_of_examples_and_of_entries_cannot_be_added() -> None:
    def parts(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(jumps=Jumps(lambda s: torch.ones_like(x), lambda s, which, draw: x[which]))

    now = add(parts, metropolis(two, 1.0, 1.0))(torch.zeros(2, 2, dtype=F64), torch.zeros(2, dtype=F64))
    with refuses(ValueError):
        now.jumps.hazard(0.5)


def test_velocities_of_processes_add() -> None:
    data = Normal()
    x, t = f64(0.3, -0.2)[:, None], f64(0.4, 0.4)
    now = add(data.flow, data.flow)(x, t)
    close(now.velocity, 2 * data.predict(VelocityPrediction(), x, t), 1e-14)
