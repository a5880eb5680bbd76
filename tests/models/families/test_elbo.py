"""Bounds on the probability of tokens: the discrete references, sections 7 of one and 14 of the other."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.models.families.elbo import ELBO, ReversalRates, SamplingRates, estimate_elbo, tightest_elbo
from feller.paths import MetricPath, Mixture, SoftmaxPath, Tempered
from feller.paths.discrete.metric_path import ConstantSpeedBeta
from feller.paths.discrete.token_distances import LevelDistance
from feller.paths.discrete.token_schedules import KineticOptimal
from feller.paths.path import Cond
from feller.paths.schedules import Linear, Polynomial, Schedule
from feller.spaces import CategoricalSource, MaskSource, Tokens, UniformSource
from feller.spaces.tokens import TokenSource
from tests.errors import refuses
from tests.oracle import F64, close, f64

P = CategoricalSource((0.5, 0.3, 0.2))
Q = (0.1, 0.2, 0.7)
LOG_Q = tuple(-math.log(q) for q in Q)


def exact(path: Mixture, x_t: Tensor, t: Tensor) -> Tensor:
    """Return log q(x_1) p_t(x_t | x_1) of one token, [m, 3]: the logits of the exact posterior."""
    tables = [path.log_probabilities(torch.full_like(x_t, a), t, 3) for a in range(3)]
    return torch.stack([f64(Q[a]).log() + table.gather(1, x_t[:, None])[:, 0] for a, table in enumerate(tables)], 1)


def integral(kind: ELBO, path: Mixture, x_1: int, symbols: int) -> float:
    """Integrate over times and states exactly; the nodes crowd at both ends, where the integrand may be infinite."""
    nodes, weights = np.polynomial.legendre.leggauss(160)
    u, w = torch.as_tensor(nodes, dtype=F64) / 2 + 0.5, torch.as_tensor(weights, dtype=F64) / 2
    t, w = u**3 * (10 - 15 * u + 6 * u**2), w * 30 * u**2 * (1 - u) ** 2
    total = 0.0
    for x in range(symbols):
        here, data = torch.full(t.shape, x), torch.full(t.shape, x_1)
        chance = path.log_probabilities(data, t, 3)[:, x].exp()
        possible = chance > 0
        rows = kind.token_divergence(path, exact(path, here, t)[possible], data[possible], here[possible], t[possible])
        total += (w[possible] * chance[possible] * rows).sum().item()
    return total


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), KineticOptimal()])
def test_mask_source_is_tight(schedule: Schedule) -> None:
    path = Mixture(schedule, MaskSource())
    found = [integral(SamplingRates(), path, x_1, 4) for x_1 in range(3)]
    close(f64(*found), LOG_Q, 1e-4)
    assert tightest_elbo(path) == SamplingRates()


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0)])
def test_kinetic_optimal_rates_are_not_tight(schedule: Schedule) -> None:
    found = [integral(SamplingRates(), Mixture(schedule, P), x_1, 3) for x_1 in range(3)]
    close(f64(*found), (2.873996, 1.988285, 0.480041), 2e-4)


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0)])
@pytest.mark.parametrize("source", [P, UniformSource()])
def test_reversal_rates_are_tight(schedule: Schedule, source: TokenSource) -> None:
    path = Mixture(schedule, source)
    found = [integral(ReversalRates(), path, x_1, 3) for x_1 in range(3)]
    close(f64(*found), LOG_Q, 2e-4)
    assert tightest_elbo(path) == ReversalRates()


def test_divergence_of_rate_matrices() -> None:
    draw = Rng(0).stream("rows")
    logits, t = draw.normal((50, 3), F64), 0.05 + 0.9 * draw.uniform((50,), F64)
    x_1, x_t = draw.randint(3, (50,)), draw.randint(3, (50,))
    mixture = Mixture(Linear(), P)
    arrays = SoftmaxPath(lambda x_1, t: mixture.log_probabilities(x_1, t, 3))
    close(
        SamplingRates().token_divergence(arrays, logits, x_1, x_t, t),
        SamplingRates().token_divergence(mixture, logits, x_1, x_t, t),
        1e-9,
    )
    bridge = Mixture(Linear(), P, velocity=Tempered(1.0))
    close(
        SamplingRates().token_divergence(bridge, logits, x_1, x_t, t),
        SamplingRates().token_divergence(mixture, logits, x_1, x_t, t),
        1e-9,
    )


def test_estimate_elbo_is_unbiased() -> None:
    """4,000 draws of the bound of each symbol; the mean is within 5 standard errors (a false alarm: 1 in a million)."""
    path, space = Mixture(Linear(), MaskSource()), Tokens(3, (1,), MaskSource())

    def network(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        return f64(*Q).log().expand(*x_t.shape, 3)

    for x_1 in range(3):
        data = torch.full((500, 1), x_1)
        found = estimate_elbo(path, space, network, data, {}, Rng(x_1), elbo=SamplingRates(), times=8).nats
        assert abs(found.mean().item() - LOG_Q[x_1]) < 5 * found.std().item() / 500**0.5 + 1e-3


def test_padding_does_not_count() -> None:
    path, space = Mixture(Linear(), MaskSource()), Tokens(3, (4,), MaskSource())

    def network(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        return f64(*Q).log().expand(*x_t.shape, 3)

    data, valid = torch.tensor([[0, 1, 2, 2]]), torch.tensor([[True, True, False, False]])
    full = estimate_elbo(path, space, network, data, {"valid": valid}, Rng(0), elbo=SamplingRates(), times=4).nats
    other = estimate_elbo(
        path, space, network, data * 0 + data[:, [0, 1, 0, 0]], {"valid": valid}, Rng(0), elbo=SamplingRates(), times=4
    ).nats
    close(full, other, 1e-12)


def test_reversal_needs_a_positive_source() -> None:
    path = Mixture(Linear(), CategoricalSource((0.5, 0.5, 0.0)))
    zeros = torch.zeros(1, dtype=torch.long)
    with refuses(ValueError):
        ReversalRates().token_divergence(path, torch.zeros(1, 3, dtype=F64), zeros, zeros, f64(0.5))


@pytest.mark.parametrize("largest", [0.5, 4.0])
def test_last_step_counts(largest: float) -> None:
    """With an exact posterior the mean bound is above the entropy; without the last step it was 0.22 of 0.80 nats."""
    path = MetricPath(LevelDistance(3), ConstantSpeedBeta(max_beta=largest))

    def network(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        flat, times = x_t.flatten(), t.double()[:, None].expand(x_t.shape).flatten()
        tables = [path.log_probabilities(torch.full_like(flat, a), times).gather(1, flat[:, None]) for a in range(3)]
        return (torch.cat(tables, 1) + f64(*Q).log()).view(*x_t.shape, 3)

    data = torch.tensor(1000 * ([0] + 2 * [1] + 7 * [2]))[:, None]
    found = estimate_elbo(path, Tokens(3, (1,)), network, data, {}, Rng(0), elbo=SamplingRates(), times=4).nats
    assert found.mean() > -sum(q * math.log(q) for q in Q) - 5 * found.std() / len(data) ** 0.5
