"""Numbers of revealed tokens per step: thresholds of confidence, bounds of entropy, and samples that end early."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    ConfidenceOrder,
    ConfidenceThreshold,
    EntropyBound,
    EntropyOrder,
    LogOddsCorrector,
    MarginOrder,
    Mixture,
    UnmaskingCount,
)
from feller.paths.processes import clamp
from feller.paths.schedules import Polynomial
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate, trajectory
from feller.spaces import MaskSource, UniformSource
from tests.errors import refuses
from tests.oracle import f64

K, N = 5, 9


def logits_of(examples: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(examples, N, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reveal(count: UnmaskingCount, logits: Tensor, **options) -> tuple[Tensor, Tensor]:
    """Return the tokens after one step, and the tokens that are sampled if all are revealed with the same numbers."""
    x = torch.full((len(logits), N), K)
    path = Mixture(source=MaskSource(), unmasking_count=count, **options)
    now = path.characteristics(logits, x, torch.zeros(len(x)).double()).jumps
    every = Mixture(source=MaskSource(), unmasking_count=ConfidenceThreshold(0.0)).characteristics(
        logits, x, torch.zeros(len(x)).double()
    )
    return now.apply(x, 0.1, Rng(0).stream("step")), every.jumps.apply(x, 0.1, Rng(0).stream("step"))


def test_threshold_reveals_all_confident_tokens_and_the_best() -> None:
    logits = logits_of(200)
    y, x_1 = reveal(ConfidenceThreshold(0.8), logits)
    p = logits.softmax(2).gather(2, x_1[..., None])[..., 0]
    expected = (p >= 0.8) | (p == p.amax(1, keepdim=True))
    assert ((p >= 0.8).sum(1) == 0).any()  # the best alone, in some examples
    assert torch.equal(y != K, expected)
    assert torch.equal(y[y != K], x_1[expected])


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0, math.inf])
@pytest.mark.parametrize("order", [None, MarginOrder()], ids=repr)
def test_entropy_bound_reveals_the_longest_beginning_within_the_bound(gamma: float, order) -> None:
    logits = logits_of(50)
    y, _ = reveal(EntropyBound(gamma), logits, unmasking_order=order)
    p = logits.softmax(2)
    entropies = -(p * p.log()).sum(2)
    top = p.topk(2, 2).values
    keys = entropies if order is None else top[..., 1] - top[..., 0]
    for i in range(50):
        places = sorted(range(N), key=lambda j, i=i: keys[i, j].item())
        number = 1
        for k in range(1, N + 1):
            values = [entropies[i, j].item() for j in places[:k]]
            number = k if k == 1 or sum(values) - max(values) <= gamma else number
        assert (y[i] != K).nonzero()[:, 0].tolist() == sorted(places[:number])


@pytest.mark.parametrize(
    ("count", "steps"),
    [(ConfidenceThreshold(1.0), N), (EntropyBound(0.0), N), (ConfidenceThreshold(0.0), 1), (EntropyBound(math.inf), 1)],
    ids=repr,
)
def test_extreme_counts_and_the_end_of_network_calls(count: UnmaskingCount, steps: int) -> None:
    logits, calls = logits_of(4), []

    def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        calls.append(t)
        return logits

    process = Mixture(source=MaskSource(), unmasking_count=count).process(network, {})
    states = list(trajectory(process, torch.full((4, N), K), linear_grid(32), Euler(), Rng(0)))
    revealed = [(state != K).sum(1).tolist() for state in states[:steps]]
    assert revealed == [[N if steps == 1 else i + 1] * 4 for i in range(steps)]
    assert len(calls) == steps
    assert all(torch.allclose(t, torch.full_like(t, i / N), atol=2e-6) for i, t in enumerate(calls))


def test_network_is_called_with_the_time_of_the_revealed_share() -> None:
    times = []

    def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        times.append((t.clone(), (x != K).double().mean(1)))
        return logits_of(3)

    path = Mixture(Polynomial(2.0), MaskSource(), unmasking_count=ConfidenceThreshold(0.6))
    simulate(path.process(network, {}), torch.full((3, N), K), linear_grid(32), Euler(), Rng(1))
    assert len(times) > 2
    for t, share in times[1:]:
        assert torch.allclose(Polynomial(2.0)(t.double()).alpha, share, atol=2e-6)


def test_samples_do_not_depend_on_their_batch() -> None:
    logits = logits_of(6)
    path = Mixture(source=MaskSource(), unmasking_count=ConfidenceThreshold(0.7), unmasking_order=ConfidenceOrder(1.0))

    def run(rows: slice) -> Tensor:
        process = path.process(lambda x, t, cond: logits[rows], {})
        x = torch.full((len(logits[rows]), N), K)
        return simulate(process, x, linear_grid(N), Euler(), Rng(3, first_example=rows.start))

    whole = run(slice(0, 6))
    assert torch.equal(torch.cat([run(slice(0, 2)), run(slice(2, 6))]), whole)


def test_observed_tokens_stay_and_do_not_count() -> None:
    logits, known = logits_of(4), torch.zeros(4, N, dtype=torch.bool)
    known[:, :6] = True
    x = torch.where(known, 2, K)
    calls = []

    def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        calls.append(t)
        return logits

    process = clamp(Mixture(source=MaskSource(), unmasking_count=EntropyBound(0.0)).process(network, {}), known)
    y = simulate(process, x, linear_grid(20), Euler(), Rng(0))
    assert (y[:, :6] == 2).all()
    assert (y != K).all()
    assert len(calls) == 3


@pytest.mark.parametrize(("p", "found"), [(-0.1, "-0.1"), (1.5, "1.5"), (math.nan, "nan")])
def test_wrong_thresholds(p: float, found: str) -> None:
    with refuses(UsageError, argument="p", found=found):
        ConfidenceThreshold(p)


@pytest.mark.parametrize("gamma", [-1.0, math.nan])
def test_wrong_bounds(gamma: float) -> None:
    with refuses(UsageError, argument="gamma"):
        EntropyBound(gamma)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixture(unmasking_count=EntropyBound(1.0)),
        lambda: Mixture(source=UniformSource(), unmasking_count=EntropyBound(1.0)),
        lambda: Mixture(source=MaskSource(), unmasking_count=EntropyBound(1.0), corrector=LogOddsCorrector()),
    ],
)
def test_counts_need_a_mask_source(make) -> None:
    with refuses(UsageError):
        make()


def test_margin_is_that_of_the_two_most_likely_tokens() -> None:
    logits = logits_of(3)[0]
    p = logits.softmax(1)
    for u, x_1 in itertools.product((f64(*[0.3] * N), f64(*[0.9] * N)), (torch.zeros(N).long(), torch.ones(N).long())):
        margin = MarginOrder().score(logits, x_1, u)
        for row, value in zip(p, margin, strict=True):
            first, second, *_ = sorted(row.tolist(), reverse=True)
            assert abs(value.item() - (first - second)) < 1e-12
    assert MarginOrder().score(logits[:, :1], torch.zeros(N).long(), f64(*[0.3] * N)).isfinite().all()


def test_default_orders() -> None:
    assert ConfidenceThreshold(0.5).default_order == ConfidenceOrder(0.0)
    assert EntropyBound(0.5).default_order == EntropyOrder()
