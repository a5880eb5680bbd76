"""ELBO of token chains against exact likelihoods of two tokens."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.models.families.elbo import (
    ELBO,
    ReversalRates,
    SamplingRates,
    _importance_sampled_time,
    estimate_elbo,
    sampling_elbo,
)
from feller.paths import LevelDistance, MetricPath, Mixture, Reversal, TokenPath
from feller.paths.discrete.token_schedules import KineticOptimalPerToken
from feller.paths.path import Cond
from feller.paths.schedules import CustomSchedule, Linear
from feller.sampling import Euler
from feller.sampling.simulation import simulate
from feller.spaces import CategoricalSource, MaskSource, Tokens, UniformSource
from tests.oracle import F64, f64

COUNT = 3
LAW = CategoricalSource((0.5, 0.3, 0.2))
JOINT = f64(0.20, 0.05, 0.10, 0.02, 0.25, 0.03, 0.05, 0.10, 0.20).view(3, 3)
ROOT = CustomSchedule(torch.sqrt, lambda t: 1 - torch.sqrt(t))
PATHS = {
    "uniform": Mixture(Linear(), UniformSource()),
    "any source": Mixture(Linear(), LAW),
    "schedules per token": Mixture(KineticOptimalPerToken(LAW.weights), LAW),
    "mask": Mixture(Linear(), MaskSource()),
    "mask, square root": Mixture(ROOT, MaskSource()),
    "uniform, square root": Mixture(ROOT, UniformSource()),
}
NOISY = [name for name, path in PATHS.items() if path.source.has_full_support]


class Chain:
    """A path of two tokens with an imperfect network, on a grid of times that is fine at both ends."""

    def __init__(self, path: Mixture, wrong: float = 0.5, steps: int = 1200) -> None:
        self.path, self.size, self.wrong = path, COUNT + isinstance(path.source, MaskSource), wrong
        edges = torch.linspace(-30.0, 30.0, steps + 1, dtype=F64)
        grid = (edges[1:] + edges[:-1]) / 2
        self.t = torch.special.expit(grid)
        self.dt = (edges[1] - edges[0]) * self.t * torch.special.expit(-grid)
        self.states = torch.tensor(list(itertools.product(range(self.size), repeat=2)))
        self.rows = [self.logits(place) for place in range(2)]

    def logits(self, place: int) -> Tensor:
        """Return log p(x_1 | x_t) of one token, [steps, states, 3]: the exact posterior with a fixed perturbation."""
        likelihood = [
            torch.stack(
                [
                    self.path.log_probabilities(torch.full_like(self.t, a, dtype=torch.long), self.t, COUNT)
                    for a in range(COUNT)
                ],
                1,
            ).exp()[:, :, self.states[:, i]]
            for i in range(2)
        ]
        joint = torch.einsum("ab,tax,tbx->txab", JOINT, *likelihood)
        exact = joint.sum(3 - place).clamp(min=1e-300).log()
        draw = torch.Generator().manual_seed(400 + place)
        return exact + self.wrong * torch.randn(len(self.states), COUNT, generator=draw, dtype=F64)

    def flat(self, place: int, x_1: int | None = None) -> tuple[Tensor, ...]:
        shape = (len(self.t), len(self.states))
        x_t = self.states[:, place].expand(shape).flatten()
        t = self.t[:, None].expand(shape).flatten()
        return self.rows[place].flatten(0, 1), x_t, t

    def log_likelihood(self, path: TokenPath) -> Tensor:
        """Return log p(x_1) of the chain along the rates of a path, [3, 3], by products of matrix exponentials."""
        n = len(self.states)
        generator = torch.zeros(len(self.t), n, n, dtype=F64)
        for place in range(2):
            logits, x_t, t = self.flat(place)
            out = path.rates(path.posterior_logits(logits, x_t, t).softmax(-1), x_t, t).clone()
            out = out.scatter(1, x_t[:, None], 0.0).view(len(self.t), n, -1)
            for x, state in enumerate(self.states.tolist()):
                for y in range(out.shape[2]):
                    to = [*state]
                    to[place] = y
                    target = to[0] * self.size + to[1]
                    generator[:, target, x] += out[:, x, y]
        generator -= torch.diag_embed(generator.sum(1))
        law = path.source_probs(COUNT)
        p = torch.outer(law, law).flatten()
        for step in torch.linalg.matrix_exp(generator * self.dt[:, None, None]):
            p = step @ p
        return p.view(self.size, self.size)[:COUNT, :COUNT].log()

    def bound(self, kind: ELBO, path: TokenPath) -> Tensor:
        """Return the bound of each x_1, [3, 3], by the same grid."""
        total = torch.zeros(COUNT, COUNT, dtype=F64)
        for a, b in itertools.product(range(COUNT), repeat=2):
            table = [
                path.log_probabilities(torch.full_like(self.t, z, dtype=torch.long), self.t, COUNT).exp()
                for z in (a, b)
            ]
            chance = table[0][:, self.states[:, 0]] * table[1][:, self.states[:, 1]]
            for place, data in enumerate((a, b)):
                logits, x_t, t = self.flat(place)
                possible = chance.flatten() > 1e-200
                rows = torch.zeros_like(t)
                rows[possible] = kind.token_divergence(
                    path, logits[possible], torch.full_like(x_t, data)[possible], x_t[possible], t[possible]
                )
                total[a, b] += (rows.view_as(chance) * chance * self.dt[:, None]).sum()
        return total

    def network(self, x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        """Answer as `logits` does at any states and times."""
        self.t = t.double()
        rows = x_t[:, 0] * self.size + x_t[:, 1]
        return torch.stack([self.logits(place)[torch.arange(len(t)), rows] for place in range(2)], 1)


@pytest.mark.parametrize("name", PATHS)
def test_elbo_of_sampling_rates_bounds_their_likelihood(name: str) -> None:
    chain = Chain(PATHS[name])
    paths = [PATHS[name], *([replace(PATHS[name], velocity=Reversal())] if name in NOISY else [])]
    for path in paths:
        log_p = chain.log_likelihood(path)
        assert abs(log_p.exp().sum().item() - 1) < 1e-9
        assert (chain.bound(sampling_elbo(path), path) + log_p).min() > -1e-4


@pytest.mark.parametrize("name", ["uniform", "any source"])
def test_elbo_of_reversal_rates_bounds_their_own_likelihood_only(name: str) -> None:
    """Below the likelihood of samples along the kinetic optimum by more than 0.05 nats; above that of its own chain."""
    chain, path = Chain(PATHS[name]), PATHS[name]
    bound = chain.bound(ReversalRates(), path)
    assert (bound + chain.log_likelihood(path)).min() < -0.05
    assert (bound + chain.log_likelihood(replace(path, velocity=Reversal()))).min() > 0.01


def test_elbos_agree_for_reversed_rates() -> None:
    chain = Chain(PATHS["any source"], steps=60)
    path = replace(chain.path, velocity=Reversal())
    torch.testing.assert_close(chain.bound(SamplingRates(), path), chain.bound(ReversalRates(), chain.path))


@pytest.mark.parametrize("name", PATHS)
def test_elbo_estimate_is_unbiased(name: str) -> None:
    """Within 4.5 standard errors, for each of nine data and each bound: a false alarm has the probability 1e-4.

    With masks the error is 0.004: where alpha is 0.01 at t = 1e-4, leaving that out missed 0.019.
    """
    chain, path = Chain(PATHS[name]), PATHS[name]
    n, space = 300 if name in NOISY else 1500, Tokens(COUNT, (2,), path.source)
    data = torch.cartesian_prod(torch.arange(3), torch.arange(3)).repeat_interleave(n, 0)
    for kind in (SamplingRates(), ReversalRates()) if name in NOISY else (SamplingRates(),):
        expected = chain.bound(kind, path).flatten()
        found = estimate_elbo(path, space, Chain(path).network, data, {}, Rng(0), elbo=kind, times=16)
        mean, spread = found.nats.view(9, -1).mean(1), found.nats.view(9, -1).std(1)
        assert ((mean - expected).abs() < 4.5 * spread / n**0.5 + 5e-4).all()
        assert name in NOISY or (spread / n**0.5).max() < 0.0045
        claimed = found.std_err.view(9, -1).square().mean(1).sqrt()
        torch.testing.assert_close(claimed / spread, torch.ones(9, dtype=F64), rtol=0, atol=0.35)


@pytest.mark.parametrize("path", [Mixture(ROOT, UniformSource()), MetricPath(LevelDistance(3))], ids=["root", "metric"])
def test_importance_sampled_times_cover_the_interval(path: TokenPath) -> None:
    """The integral of a function that is infinite at t = 0, t^(-1/2) / 2, up to the last time."""
    u = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
    t, weight = _importance_sampled_time(path, Tokens(COUNT, (2,)), u)
    last = _importance_sampled_time(path, Tokens(COUNT, (2,)), torch.ones(1, dtype=F64))[0].item()
    assert abs((weight * t.rsqrt() / 2).mean().item() - last**0.5) < 1e-3
    assert last > 0.999


@pytest.mark.parametrize("source", [UniformSource(), LAW])
@pytest.mark.parametrize("schedule", [Linear(), KineticOptimalPerToken(LAW.weights)])
def test_a_reversed_step_of_any_length_is_exact(source, schedule) -> None:
    """One token, exact posterior: p_t times the step is p_s; the bound on its jumps holds."""
    path, q = Mixture(schedule, source, velocity=Reversal()), f64(0.1, 0.2, 0.7)
    data, x = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unbind(1)
    for t, s in ((0.0, 0.3), (0.2, 0.9), (0.5, 0.55)):
        t_, s_ = (torch.full((9,), time, dtype=F64) for time in (t, s))
        now, later = (path.log_probabilities(data, time, 3).exp() for time in (t_, s_))
        jumps, weights = path.expected_jumps(data, x, t_, s, 3)
        assert (path.max_hazard(x[:, None], t_, s, 3)[:, 0] >= jumps - 1e-12).all()
        step = weights.scatter(1, x[:, None], torch.exp(-jumps)[:, None])
        arrived = ((q[data] * now.gather(1, x[:, None])[:, 0])[:, None] * step).sum(0)
        torch.testing.assert_close(arrived, (q[data][:, None] * later / 3).sum(0))
        torch.testing.assert_close(step.sum(1), torch.ones(9, dtype=F64))


def test_short_reversed_steps_have_the_reversed_rates() -> None:
    path, h = Mixture(Linear(), LAW, velocity=Reversal()), 1e-6
    data, x = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unbind(1)
    t = torch.full((9,), 0.4, dtype=F64)
    jumps, weights = path.expected_jumps(data, x, t, 0.4 + h, 3)
    rates = path.conditional_rates(data, x, t, 3)
    torch.testing.assert_close(weights / h, rates, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(jumps / h, rates.sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("schedule", [Linear(), KineticOptimalPerToken(LAW.weights)])
def test_samples_along_reversed_rates_have_the_data_distribution(schedule) -> None:
    """One token, exact posterior, 3 steps, 20,000 samples: shares within 5 standard errors, a false alarm of 2e-6."""
    path, q, space = Mixture(schedule, LAW, velocity=Reversal()), f64(0.1, 0.2, 0.7), Tokens(COUNT, (1,), LAW)

    def network(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        x, time = x_t[:, 0], t.double()
        tables = [path.log_probabilities(torch.full_like(x, a), time, 3).gather(1, x[:, None]) for a in range(3)]
        return (torch.cat(tables, 1) + q.log())[:, None]

    x = space.sample_base(20_000, Rng(0).stream("source"))
    y = simulate(path.process(network, {}), x, [0.0, 0.3, 0.7, 1.0], Euler(space), Rng(1))
    shares = torch.bincount(y.flatten(), minlength=3) / len(y)
    assert ((shares - q).abs() < 5 * (q * (1 - q) / len(y)).sqrt()).all()
