"""Properties of all token paths: predictions, samples, reversal rates."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    ForwardIncrement,
    LeaveOneOut,
    LevelDistance,
    MetricPath,
    Mixture,
    PowerBeta,
    SoftmaxPath,
    TokenPath,
    TokenSampler,
    TokenStepRule,
)
from feller.paths.discrete.rates import CHUNK_SIZE
from feller.paths.discrete.token_distribution import TokenDistribution
from feller.paths.discrete.token_schedules import KineticOptimalPerToken
from feller.paths.schedules import Linear, Polynomial
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.spaces import CategoricalSource, MaskSource, Tokens, UniformSource
from tests.errors import refuses
from tests.oracle import F64, close, f64

P = (0.5, 0.3, 0.2)


def bump(x_1: Tensor, t: Tensor) -> Tensor:
    """Return logits of three symbols that grow at the data."""
    return 5 * t[:, None] * torch.nn.functional.one_hot(x_1, 3)


PATHS = {
    "mixture": Mixture(Polynomial(2.0), CategoricalSource(P)),
    "mixture, a symbol without mass": Mixture(source=CategoricalSource((0.0, 0.4, 0.6))),
    "mask": Mixture(source=MaskSource()),
    "per token": Mixture(KineticOptimalPerToken(P), CategoricalSource(P)),
    "per token, mask": Mixture(KineticOptimalPerToken(P), MaskSource()),
    "metric": MetricPath(LevelDistance(3)),
    "geometric": SoftmaxPath(bump),
}


@pytest.mark.parametrize("together", [True, False], ids=["one time", "times"])
@pytest.mark.parametrize("name", PATHS)
def test_leave_one_out_posterior_follows_bayes_rule(name: str, together: bool) -> None:
    """By Bayes' rule, for all x_t; under a mask what is revealed is known for sure."""
    path = PATHS[name]
    path = type(path)(
        **{field: getattr(path, field) for field in path.__dataclass_fields__} | {"parameterization": LeaveOneOut()}
    )
    size = path.log_probabilities(torch.tensor([0]), f64(0.4), 3).shape[1]
    x, t = torch.arange(size), f64(0.4).expand(size) if together else torch.linspace(0.2, 0.7, size, dtype=F64)
    q = torch.tensor([0.2, 0.7, 0.1], dtype=F64)
    informed = path.posterior_logits(q.log().expand(size, 3), x, t).softmax(1)
    for row in range(size):
        law = path.log_probabilities(torch.arange(3), t[row].expand(3), 3)[:, row].exp()
        close(informed[row], q * law / (q * law).sum(), 1e-12)


def test_leave_one_out_of_a_mixture_changes_one_logit() -> None:
    path = Mixture(source=UniformSource(), parameterization=LeaveOneOut())
    logits, x = torch.zeros(3, 4), torch.tensor([0, 1, 2])
    added = path.posterior_logits(logits, x, torch.tensor([0.0, 0.5, 1.0]))
    assert added[0].tolist() == [0, 0, 0, 0]
    close(added[1], (0, math.log(5), 0, 0), 1e-6)
    assert added.softmax(1)[2].tolist() == [0, 0, 1, 0]
    alone = torch.vmap(lambda z, x, t: path.posterior_logits(z[None], x[None], t[None])[0])(
        logits, x, torch.full((3,), 0.5)
    )
    assert torch.equal(alone, path.posterior_logits(logits, x, torch.full((3,), 0.5)))


@pytest.mark.parametrize("name", PATHS)
def test_complete_prediction_works_under_vmap(name: str) -> None:
    path = PATHS[name]
    mask = isinstance(path, Mixture) and isinstance(path.source, MaskSource)
    cavity = type(path)(
        **{field: getattr(path, field) for field in path.__dataclass_fields__} | {"parameterization": LeaveOneOut()}
    )
    logits = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = torch.randint(3 + mask, (4, 5), generator=torch.Generator().manual_seed(1))
    t = torch.linspace(0.2, 0.7, 4, dtype=F64)
    assert torch.equal(path.complete_prediction(logits, x, t), logits) != mask
    for kind in (path, cavity):
        together = kind.complete_prediction(logits, x, t)
        alone = torch.vmap(lambda z, x, t, kind=kind: kind.complete_prediction(z[None], x[None], t[None])[0])(
            logits, x, t
        )
        close(alone.softmax(-1), together.softmax(-1), 1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_samples_have_the_distribution_of_the_path(name: str) -> None:
    """40,000 tokens of each symbol at t = 0.4: chi square with up to 3 degrees is above 32 once in 2e6."""
    path, n = PATHS[name], 40_000
    x_1, t = torch.arange(3)[:, None].expand(3, n), torch.full((3,), 0.4, dtype=F64)
    space = Tokens(3, (n,), getattr(path, "source", None) or UniformSource())
    x_t = path.sample(space.sample_base(3, Rng(0).stream("source")), x_1, t, Rng(0).stream("path"))
    u = (torch.arange(n, dtype=F64) + 0.5) / n
    for row in range(3):
        p = n * path.log_probabilities(torch.tensor([row]), t[:1], 3)[0].exp()
        seen = x_t[row].bincount(minlength=len(p)).double()
        assert (seen[p == 0] == 0).all()
        assert ((seen - p)[p > 0] ** 2 / p[p > 0]).sum() < 32
        even = path.corrupt(x_1[row], t[:1].expand(n), u, 3).bincount(minlength=len(p)).double()
        close(even, p, 3.0)


def test_large_samples_are_drawn_in_chunks() -> None:
    path, seen = MetricPath(LevelDistance(200)), []
    watched = SoftmaxPath(lambda x_1, t: (seen.append(len(x_1)), path.log_probabilities(x_1, t))[1])
    x_1 = torch.randint(200, (40, 1000), generator=torch.Generator().manual_seed(0))
    t = torch.full((40,), 0.5, dtype=F64)
    assert torch.equal(path.sample(x_1, x_1, t, Rng(0).stream("x")), watched.sample(x_1, x_1, t, Rng(0).stream("x")))
    assert max(seen) * 200 <= CHUNK_SIZE
    assert sum(seen) == 40_001


@pytest.mark.parametrize("schedule", [Linear(), KineticOptimalPerToken(P)], ids=repr)
def test_the_time_reversal_has_the_marginals(schedule) -> None:
    """U p = dp given the data, and for the mean over the posterior; both in one array and pair by pair."""
    path, t, x = Mixture(schedule, CategoricalSource(P)), torch.full((3,), 0.35, dtype=F64), torch.arange(3)
    for a in range(3):
        x_1 = torch.full((3,), a)
        outward = path.reversal_rates(x_1, x, t, 3).T
        law, slope = path.log_probabilities(x_1[:1], t[:1], 3)[0].exp(), path.time_derivative(x_1[:1], t[:1], 3)[0]
        close((outward - torch.diag(outward.sum(0))) @ law, law * slope, 1e-14)
        assert (outward >= 0).all()
    posterior = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]], dtype=F64)
    pairs = torch.stack([path.reversal_rates(torch.full((3,), a), x, t, 3) for a in range(3)])
    close(path.mean_reversal_rates(posterior, x, t), torch.einsum("ma,amy->my", posterior, pairs), 1e-14)


def test_reversal_needs_positive_source_probabilities() -> None:
    path, x = Mixture(source=CategoricalSource((0.5, 0.0, 0.5))), torch.tensor([0])
    with refuses(ValueError):
        path.reversal_rates(x, x, f64(0.5), 3)
    with refuses(ValueError):
        path.mean_reversal_rates(torch.full((1, 3), 1 / 3), x, f64(0.5))


@pytest.mark.parametrize("name", PATHS)
def test_marginal_rates_are_means_of_conditional_ones(name: str) -> None:
    path = PATHS[name]
    size = path.log_probabilities(torch.tensor([0]), f64(0.4), 3).shape[1]
    x, t = torch.arange(size), torch.full((size,), 0.4, dtype=F64)
    logits = torch.randn(size, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    posterior = path.posterior_logits(logits, x, t).softmax(1)
    rates = path.rates(posterior, x, t)
    if size == 3:
        close(rates, TokenPath.rates(path, posterior, x, t), 1e-12)
    close(rates.sum(1), torch.zeros(size), 1e-12)
    outward = [path.conditional_rates(torch.full((size,), a), x, t, 3) for a in range(3)]
    mean = torch.einsum("ma,amy->my", posterior, torch.stack(outward))
    close(rates - torch.diag(rates.diag()), mean, 1e-12)


def test_softmax_path_may_start_at_probability_zero() -> None:
    """Logits of minus infinity at t = 0, as of a mask written as a geometric path: 20,000 tokens, false alarm 6e-7."""

    def masked(x_1: Tensor, t: Tensor) -> Tensor:
        share = t[:, None] * torch.nn.functional.one_hot(x_1, 4).to(t.dtype)
        return (share + (1 - t[:, None]) * torch.tensor([0, 0, 0, 1.0], dtype=t.dtype)).log()

    process = SoftmaxPath(masked).process(lambda x, t, given: f64(800, 0, 0).expand(*x.shape, 3), {})
    x = simulate(process, torch.full((200, 100), 3), [0.0, 0.1, 0.2], Euler(), Rng(0))
    assert ((x == 0) | (x == 3)).all()
    assert abs((x == 0).double().mean().item() - 0.2) < 0.01 + 5 * math.sqrt(0.16 / 20_000)


@pytest.mark.parametrize("name", PATHS)
def test_every_path_ends_at_the_data(name: str) -> None:
    """Four steps to t = 1 with a network that is certain."""
    path = PATHS[name]
    path = type(path)(
        **{field: getattr(path, field) for field in path.__dataclass_fields__} | {"step_rule": ForwardIncrement()}
    )
    x_1 = torch.randint(3, (6, 7), generator=torch.Generator().manual_seed(0))
    logits = 800.0 * torch.nn.functional.one_hot(x_1, 3).double()
    x_0 = Tokens(3, (7,), getattr(path, "source", None) or UniformSource()).sample_base(6, Rng(0).stream("source"))
    end = simulate(path.process(lambda x, t, given: logits, {}), x_0, linear_grid(4), Euler(), Rng(1))
    assert torch.equal(end, x_1)


@dataclass(frozen=True)
class AtTheStart(TokenStepRule):
    """Rates at the start times the step."""

    def distribution_and_change(
        self, path: TokenDistribution, x_1: Tensor, t: Tensor, s: float, vocab_size: int
    ) -> tuple[Tensor, Tensor]:
        return path.log_probabilities(x_1, t, vocab_size), (s - t)[:, None] * path.time_derivative(x_1, t, vocab_size)


def test_a_custom_step_rule_is_used() -> None:
    """Of alpha = t^2 the rate to the data is 2 t / (1 - t^2); the bound of the number of jumps is none below it."""
    path = Mixture(Polynomial(2.0), CategoricalSource(P), step_rule=AtTheStart())
    jumps, weights = path.expected_jumps(torch.full((3,), 1), torch.arange(3), torch.full((3,), 0.4, dtype=F64), 0.6, 3)
    close(jumps, 0.2 * 0.8 / 0.84 * f64(1.0, 0.0, 1.0), 1e-14)
    close(weights, jumps[:, None] * f64(0.0, 1.0, 0.0), 1e-14)
    assert (path.max_hazard(torch.arange(3)[None], f64(0.4), 0.6, 3)[0] >= jumps - 1e-14).all()
    metric, t = MetricPath(LevelDistance(3), PowerBeta(), step_rule=AtTheStart()), torch.full((9,), 0.4, dtype=F64)
    x_1, x = (part.flatten() for part in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"))
    jumps = metric.expected_jumps(x_1, x, t, 0.6, 3)[0].unflatten(0, (3, 3)).amax(0)
    assert (metric.max_hazard(torch.arange(3)[None], f64(0.4), 0.6, 3)[0] >= jumps - 1e-14).all()
    for wrong in (
        lambda: Mixture(step_rule=AtTheStart()),
        lambda: Mixture(source=MaskSource(), step_rule=AtTheStart()),
    ):
        with refuses(UsageError):
            wrong()


def test_token_sampler_applies_to_jumps() -> None:
    """At temperature 0 all land on the likeliest symbol."""
    logits = torch.randn(5, 9, 3, generator=torch.Generator().manual_seed(0))
    for path in (
        Mixture(source=UniformSource(), token_sampler=TokenSampler(0.0)),
        MetricPath(LevelDistance(3), token_sampler=TokenSampler(top_k=1)),
    ):
        process = path.process(lambda x, t, given: logits, {})
        end = simulate(process, torch.zeros(5, 9, dtype=torch.long), [0.0, 1.0], Euler(), Rng(0))
        assert torch.equal(end, logits.argmax(-1))


def test_sampling_needs_an_rng() -> None:
    x = torch.zeros(2, 3, dtype=torch.long)
    for path in (Mixture(), MetricPath(LevelDistance(3))):
        with refuses(UsageError, argument="rng"):
            path.sample(x, x, torch.zeros(2))


def test_a_mixture_without_a_source_has_no_probabilities() -> None:
    with refuses(UsageError):
        Mixture().log_probabilities(torch.tensor([0]), f64(0.5), 3)
    with refuses(UsageError):
        Mixture(source=UniformSource()).log_probabilities(torch.tensor([0]), f64(0.5))
