"""The rates of edit paths generate their marginals, and the integrated divergence is tight for exact predictions."""

import itertools
import math

import numpy as np
import pytest
import torch

from feller.paths.edits.alignment import LeftAlignment, ShortestAlignment
from feller.paths.edits.edit_flow import EditFlow
from feller.paths.edits.edit_path import EditPath
from feller.paths.edits.insertion_masking import InsertionMasking
from feller.spaces.sequences import RandomSequence, Sequences
from feller.training.losses.edit_divergence import edit_divergence
from tests.paths.edits.exact import F64, ExactPath, padded, random_data, unpadded

SPACE = Sequences(3, 4)
EMPTY = {(): 1.0}
EVERYTHING = {tokens: 3.0**-n / 5 for n in range(5) for tokens in itertools.product(range(3), repeat=n)}
"""All sequences of up to 4 tokens over 3 symbols."""


def uniform_pairs() -> dict[tuple[int, ...], float]:
    return dict.fromkeys(itertools.product(range(3), repeat=2), 1 / 9)


DISTINCT = {(): 0.1, (0,): 0.2, (1, 2): 0.1, (2, 1): 0.2, (0, 1, 2): 0.3, (2, 0): 0.1}
"""Sequences without repeated tokens: source, data and state determine which tokens are missing."""
CASES = {
    "insertions": ExactPath(EditFlow(space=SPACE), EMPTY, EVERYTHING),
    "insertions of few sequences": ExactPath(EditFlow(space=SPACE), EMPTY, random_data(9, 3, 4, 0)),
    "insertion masking": ExactPath(InsertionMasking(space=SPACE), EMPTY, EVERYTHING),
    "insertion masking of few sequences": ExactPath(InsertionMasking(space=SPACE), EMPTY, random_data(9, 3, 4, 1)),
    "distinct tokens": ExactPath(EditFlow(space=SPACE), EMPTY, DISTINCT),
    "one mask": ExactPath(InsertionMasking(space=SPACE), EMPTY, {(): 0.2, (0,): 0.5, (1,): 0.3}),
    "all edits": ExactPath(
        EditFlow(space=Sequences(3, 4, RandomSequence(2)), alignment=LeftAlignment()),
        uniform_pairs(),
        random_data(9, 3, 4, 2),
    ),
    "fewest edits": ExactPath(
        EditFlow(space=Sequences(3, 4, RandomSequence(2)), alignment=ShortestAlignment()),
        uniform_pairs(),
        random_data(9, 3, 4, 3),
    ),
    "localized": ExactPath(EditFlow(space=SPACE, propagation=2.0), EMPTY, random_data(9, 3, 4, 4)),
    "localized, fewest edits": ExactPath(
        EditFlow(space=Sequences(3, 4, RandomSequence(2)), alignment=ShortestAlignment(), propagation=0.7),
        uniform_pairs(),
        random_data(7, 3, 4, 5),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tau", [0.05, 1.5])
def test_forward_equation(name: str, tau: float) -> None:
    """d/dtau p(x) = sum of p(y) u(y to x) minus p(x) sum of u(x to y), for every x."""
    exact, at = CASES[name], torch.tensor(tau, dtype=F64)
    marginal = exact.marginal(at)
    assert abs(sum(float(p) for p in marginal.values()) - 1) < 1e-12
    states = list(marginal)
    slopes = torch.autograd.functional.jacobian(lambda tau: torch.stack(list(exact.marginal(tau).values())), at)
    predictions = exact.predictions(at)
    change = dict.fromkeys(states, 0.0)
    for state in states:
        p = float(marginal[state])
        if p == 0:
            continue
        for new, rate in exact.outgoing(state, predictions[state], at).items():
            change[new] = change.get(new, 0.0) + p * rate
            change[state] -= p * rate
    assert change.keys() == set(states)
    residual = max(abs(change[state] - float(slope)) for state, slope in zip(states, slopes, strict=True))
    assert residual < 1e-10


@pytest.mark.parametrize(
    ("name", "is_tight"),
    [
        ("distinct tokens", True),
        ("one mask", True),
        ("insertions of few sequences", False),
        ("insertion masking of few sequences", False),
    ],
)
def test_the_integrated_divergence_bounds_the_log_probability(name: str, is_tight: bool) -> None:
    """With exact predictions the bound is tight if the state determines the slots of its tokens, else above."""
    exact = CASES[name]
    for data, bound in integrated_divergences(exact).items():
        nats = -math.log(exact.data[data])
        assert bound == pytest.approx(nats, abs=1e-4) if is_tight else bound > nats - 1e-4


@pytest.mark.parametrize("name", ["insertions of few sequences", "insertion masking of few sequences"])
def test_the_bound_with_mean_rates_is_tight(name: str) -> None:
    """With the mean rates over all alignments, the bound is tight for exact predictions also for repeated tokens."""
    exact = CASES[name]
    for data, bound in integrated_divergences(exact, averages=True).items():
        assert bound == pytest.approx(-math.log(exact.data[data]), abs=1e-4)


def test_two_equal_tokens_cost_the_choice_of_the_gap() -> None:
    """For certain data "aa", the remaining token is in either gap of the first with probability 1/2: log 2 nats."""
    for path in (EditFlow(space=SPACE), InsertionMasking(space=SPACE)):
        (bound,) = integrated_divergences(ExactPath(path, EMPTY, {(0, 0): 1.0})).values()
        assert bound == pytest.approx(math.log(2), abs=1e-4)


def integrated_divergences(exact: ExactPath, averages: bool = False) -> dict[tuple[int, ...], float]:
    """Return the integral over tau of the mean divergence, for each data sequence."""
    nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(8))
    panels = [0.0, 0.02, 0.2, 1.0, 3.0, 8.0, 20.0]  # in tau; afterwards the integrand is below exp(-20) tau
    totals = dict.fromkeys(exact.data, 0.0)
    for low, high in itertools.pairwise(panels):
        for tau, weight in zip(low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2, strict=True):
            for data, value in _mean_divergences(exact, tau, averages).items():
                totals[data] += float(weight) * value
    return totals


def _mean_divergences(exact: ExactPath, tau: torch.Tensor, averages: bool) -> dict[tuple[int, ...], float]:
    """Return the mean divergence at time tau for each data sequence."""
    predictions, space, out = exact.predictions(tau), exact.path.space, {}
    for joint, (end, weight, _, _, states, target) in zip(exact.joint(tau), exact.pairs, strict=True):
        keep = joint > 0
        rows = [state for state, is_kept in zip(states, keep, strict=True) if is_kept]
        prediction = {name: torch.stack([predictions[row][name] for row in rows]) for name in predictions[rows[0]]}
        x = padded(rows, space.max_length, space.pad_token_id)
        t = (1 - (-tau).exp()).expand(len(x))
        kept = {name: rate[keep] for name, rate in target.items()}
        if averages:
            mean = exact.path.mean_target(x, padded([end], space.max_length, space.pad_token_id).expand(len(x), -1))
            assert mean is not None
            kept = mean
        divergence = edit_divergence(exact.path, prediction, x, t, kept)
        out[end] = float((joint[keep] / weight * divergence).sum())
    return out


@pytest.mark.parametrize(
    "path",
    [EditFlow(space=SPACE), EditFlow(space=SPACE, propagation=1.5), InsertionMasking(space=SPACE)],
    ids=["edit flow", "localized", "insertion masking"],
)
def test_sampled_stages_have_the_exact_distribution(path: EditPath) -> None:
    """Chi-squared test over the states at t = .6 of one sequence, at a false-alarm probability of 1e-4."""
    from scipy.stats import chi2

    from feller.core.rng import Rng

    n, x_1 = 20_000, (0, 0, 1, 2)
    exact = ExactPath(path, EMPTY, {x_1: 1.0})
    data = padded([x_1], 4, 3).expand(n, -1)
    x_t, _ = path.sample_with_target(torch.full_like(data, 3), data, torch.full((n,), 0.6), Rng(0).stream("path"))
    counts: dict[tuple[int, ...], int] = {}
    for row in x_t:
        state = unpadded(row, 3)
        counts[state] = counts.get(state, 0) + 1
    probs = {x: float(p) for x, p in exact.marginal(-torch.tensor(0.4, dtype=F64).log()).items() if p > 0}
    assert counts.keys() <= probs.keys()
    statistic = sum((counts.get(x, 0) - n * p) ** 2 / (n * p) for x, p in probs.items())
    assert statistic < chi2.ppf(1 - 1e-4, len(probs) - 1)
