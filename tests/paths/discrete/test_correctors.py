"""Correctors keep the marginals: step kernel of the reference, enumerated chains of one token."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    Corrector,
    LevelDistance,
    LogOddsCorrector,
    MetricPath,
    MidpointIncrement,
    Mixture,
    RenoiseCorrector,
    ReversibleCorrector,
    SoftmaxPath,
    Tempered,
    TokenPath,
)
from feller.paths.discrete.token_schedules import KineticOptimal, KineticOptimalPerToken
from feller.paths.schedules import Linear, Polynomial
from feller.sampling import Euler, simulate, trajectory
from feller.spaces import CategoricalSource, MaskSource, Tokens, TokenSource, UniformSource
from tests.errors import refuses
from tests.oracle import F64, close, f64
from tests.paths.kernels import kernel

Q = f64(0.1, 0.2, 0.7)
P = (0.5, 0.3, 0.2)
SOURCES = [CategoricalSource(P), UniformSource(), MaskSource(), CategoricalSource((0.0, 0.4, 0.6))]
SCHEDULES = [Linear(), Polynomial(3.0), KineticOptimal(0.2), KineticOptimalPerToken(P)]
CORRECTORS = [None, RenoiseCorrector(3.0), LogOddsCorrector(0.7), LogOddsCorrector(5.0)]


def posterior(path: TokenPath, t: float) -> Tensor:
    """Return p(x_1 | x_t = x), [x, x_1]; any law where x has no mass."""
    joint = Q.log()[:, None] + path.log_probabilities(torch.arange(3), torch.full((3,), t, dtype=F64), 3)
    return joint.softmax(0).T.nan_to_num(nan=1 / 3)


def marginal(path: TokenPath, t: float) -> Tensor:
    return Q @ path.log_probabilities(torch.arange(3), torch.full((3,), t, dtype=F64), 3).exp()


@pytest.mark.parametrize("c", [0.5, 1.0, 5.0])
@pytest.mark.parametrize(("t", "s"), [(0.0, 0.3), (0.2, 0.55), (0.9, 1.0), (0.0, 1.0)])
def test_step_kernel_of_the_log_odds_corrector(t: float, s: float, c: float) -> None:
    """Keep r; the data with kappa_s - r kappa_t; a fresh draw with the rest: both ends are finite."""
    path = Mixture(source=CategoricalSource(P), corrector=LogOddsCorrector(c))
    r = ((1 - s) / (1 - t)) ** (1 + c) * (t / s) ** c
    certain = torch.eye(3, dtype=F64)[torch.tensor([2, 2, 2])]
    expected = r * torch.eye(3, dtype=F64) + (s - r * t) * certain + ((1 - s) - r * (1 - t)) * f64(*P)
    close(kernel(path, certain, torch.arange(3), torch.full((3,), t, dtype=F64), s), expected, 1e-15)


@settings(deadline=None, max_examples=25)
@given(
    inner=st.lists(st.floats(0.01, 0.99), max_size=3),
    schedule=st.sampled_from(SCHEDULES),
    source=st.sampled_from(SOURCES),
    corrector=st.sampled_from(CORRECTORS),
)
def test_one_token_has_the_exact_marginals_for_any_step_size(
    inner: list[float], schedule, source: TokenSource, corrector
) -> None:
    """On any grid, the law of the chain with the exact posterior is that of the path: 1e-12."""
    path = Mixture(schedule, source, corrector=corrector)
    x = torch.arange(len(path.source_probs(3)))
    law = path.source_probs(3)
    for t, s in itertools.pairwise([0.0, *sorted(set(inner)), 1.0]):
        law = law @ kernel(path, posterior(path, t), x, torch.full((len(x),), t, dtype=F64), s)
        close(law, marginal(path, s), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("corrector", [RenoiseCorrector(4.0), ReversibleCorrector(2.0)], ids=repr)
@pytest.mark.parametrize(
    "path", [MetricPath(LevelDistance(3)), Mixture(source=CategoricalSource(P), velocity=Tempered(0.0))]
)
def test_corrected_marginals_converge_with_the_step_size(path: TokenPath, corrector: Corrector) -> None:
    errors = []
    for n in (40, 160):
        corrected = type(path)(**{**vars_of(path), "corrector": corrector})
        x, law = torch.arange(3), marginal(path, 0.0)
        for i in range(n):
            t = torch.full((3,), 0.9 * i / n, dtype=F64)
            law = law @ kernel(corrected, posterior(path, 0.9 * i / n), x, t, 0.9 * (i + 1) / n)
        errors.append(float((law - marginal(path, 0.9)).abs().sum()))
    assert errors[1] < errors[0] / 3
    assert errors[1] < 0.02


def vars_of(path: TokenPath) -> dict:
    return {name: getattr(path, name) for name in path.__dataclass_fields__}


PATHS = {
    "uniform, odds": Mixture(Polynomial(2.0), CategoricalSource(P), corrector=LogOddsCorrector(1.5)),
    "mask, odds": Mixture(source=MaskSource(), corrector=LogOddsCorrector(1.0)),
    "per token": Mixture(KineticOptimalPerToken(P), CategoricalSource(P), corrector=RenoiseCorrector(2.0)),
    "per token, mask": Mixture(KineticOptimalPerToken(P), MaskSource()),
    "weights of its own": Mixture(source=CategoricalSource(P), velocity=Tempered(0.0), corrector=RenoiseCorrector(1.0)),
    "metric": MetricPath(LevelDistance(3)),
    "metric, back and forth": MetricPath(LevelDistance(3), corrector=ReversibleCorrector(1.0)),
    "geometric": SoftmaxPath(lambda x_1, t: 3 * t[:, None] * torch.nn.functional.one_hot(x_1, 3)),
}


@pytest.mark.parametrize("together", [True, False], ids=["one time", "times"])
@pytest.mark.parametrize("name", PATHS)
def test_sampled_steps_have_the_distribution_of_the_kernel(name: str, together: bool) -> None:
    """By thinning, from each symbol, 30,000 tokens: chi square of each is above 32 once in 2e6 (3 degrees).

    With the exact posterior, for one time that all share and for times that differ.
    """
    path, t, s, n = PATHS[name], 0.35, 0.6, 30_000
    law = posterior(path, t)
    size = len(law)
    x = torch.arange(size)[:, None].expand(size, n).contiguous()
    time = f64(t).expand(size) if together else torch.full((size,), t, dtype=F64)
    logits = law.clamp(min=1e-30).log()[:, None].expand(size, n, 3)
    y = path.characteristics(logits, x, time).jumps.apply(x, s, Rng(3).stream("step"))
    expected = n * kernel(path, law, torch.arange(size), torch.full((size,), t, dtype=F64), s)
    for row in range(size):
        seen, wanted = y[row].bincount(minlength=size).double(), expected[row]
        assert (seen[wanted < 1e-6] == 0).all()
        seen, wanted = seen[wanted >= 1e-6], wanted[wanted >= 1e-6]
        assert ((seen - wanted) ** 2 / wanted).sum() < 32


def test_unmasked_tokens_stay_without_a_corrector() -> None:
    space, x_1 = Tokens(4, (50,), MaskSource()), torch.randint(4, (20, 50), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(20, 50, 4, generator=torch.Generator().manual_seed(1))
    known = torch.arange(50) < 25
    start = torch.where(known, x_1, space.sample_base(20, Rng(0).stream("source")))
    for answer in (Mixture(source=MaskSource()), Mixture(KineticOptimalPerToken((0.1, 0.2, 0.3, 0.4)), MaskSource())):
        before = start
        for x in trajectory(
            answer.process(lambda x, t, given: logits, {}), start, [0.0, 0.3, 0.8, 1.0], Euler(), Rng(1)
        ):
            assert (x[before != 4] == before[before != 4]).all()
            before = x
        assert (before < 4).all()
    remasking = Mixture(source=MaskSource(), corrector=RenoiseCorrector(20.0)).process(lambda x, t, given: logits, {})
    x = simulate(remasking, start, [0.0, 0.5], Euler(), Rng(1))
    assert ((x == 4) & (start != 4)).any()
    assert (x[(x != 4) & (start != 4)] == start[(x != 4) & (start != 4)]).all()


def test_stopping_at_one_half_gives_the_marginal_there() -> None:
    """X_0.5 from a uniform source, 30,000 tokens whose data are 0: 0.5 + 0.5 / 4; false alarm 6e-7 each."""
    network = lambda x, t, given: f64(0.0, -800, -800, -800).expand(*x.shape, 4)  # noqa: E731
    n = 30_000
    for path in (
        Mixture(source=UniformSource()),
        Mixture(source=UniformSource(), corrector=LogOddsCorrector(2.0)),
        Mixture(KineticOptimalPerToken((0.25,) * 4), UniformSource()),
        MetricPath(LevelDistance(4)),
    ):
        x_0 = Tokens(4, (300,)).sample_base(100, Rng(0).stream("source"))
        x = simulate(path.process(network, {}), x_0, [0.0, 0.2, 0.5], Euler(), Rng(1))
        share = path.log_probabilities(torch.tensor([0]), f64(0.5), 4)[0, 0].exp().item()
        slack = 0.01 if isinstance(path, MetricPath) else 0.0
        assert abs((x == 0).double().mean().item() - share) < 5 * math.sqrt(share * (1 - share) / n) + slack


@pytest.mark.parametrize(
    "make",
    [
        lambda: RenoiseCorrector(-1.0),
        lambda: LogOddsCorrector(math.inf),
        lambda: Mixture(corrector=LogOddsCorrector()),
        lambda: Mixture(velocity=Tempered(0.0)),
        lambda: Mixture(source=MaskSource(), corrector=ReversibleCorrector()),
        lambda: Mixture(source=CategoricalSource((0.0, 1.0)), velocity=Tempered()),
        lambda: SoftmaxPath(lambda x_1, t: t, corrector=LogOddsCorrector()),
        lambda: MetricPath(LevelDistance(5), corrector=LogOddsCorrector()),
    ],
)
def test_correctors_that_do_not_fit_the_path_are_refused(make) -> None:
    with refuses(UsageError):
        make()


def test_a_step_of_length_zero_has_no_hazard() -> None:
    for corrector in (None, RenoiseCorrector(1.0), LogOddsCorrector(1.0)):
        path = Mixture(source=CategoricalSource(P), corrector=corrector, step_rule=MidpointIncrement())
        for t in (0.5, 1.0):
            jumps = path.characteristics(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long), f64(t)).jumps
            if t < 1 or corrector is None:
                close(jumps.hazard(t), torch.zeros(1, 2), 1e-15)
