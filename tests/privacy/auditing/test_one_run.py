"""One-run lower bounds of epsilon."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.privacy.auditing.one_run import epsilon_lower_bound, tail_probability
from tests.errors import refuses


def keep(epsilon: float) -> float:
    """Chance that randomised response tells a bit as it is."""
    return math.exp(epsilon) / (1 + math.exp(epsilon))


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.0])
def test_randomised_response_attains_the_bound(epsilon: float) -> None:
    """Over all 2^m outputs."""
    m, p = 5, keep(epsilon)
    for v in range(m + 1):
        reached = sum(
            math.prod(p if right else 1 - p for right in answer)
            for answer in itertools.product((True, False), repeat=m)
            if sum(answer) >= v
        )
        assert tail_probability(v, m, epsilon, 0.0, m) == pytest.approx(reached, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_bound_holds_for_random_private_mechanisms(seed: int) -> None:
    """Best guesses over all coins and outputs of random epsilon-DP mechanisms."""
    epsilon, m, answers = 1.3, 3, 5
    rng = np.random.default_rng(seed)
    coins = np.array(list(itertools.product((0, 1), repeat=m)))
    centre = rng.integers(0, 2, (answers, m))
    far = (coins[:, None] != centre).sum(2) + rng.random((1, answers))  # moves by one with each coin
    law = np.exp(-epsilon * far / 2)
    law /= law.sum(1, keepdims=True)
    for a, b in itertools.combinations(range(len(coins)), 2):
        if (coins[a] != coins[b]).sum() == 1:
            assert np.abs(np.log(law[a] / law[b])).max() <= epsilon + 1e-12
    likely = (coins[:, :, None] * law[:, None, :]).sum(0) > law.sum(0) / 2  # [row, answer]
    for v in range(1, m + 1):
        reached = sum(
            law[s, y] / len(coins)
            for s in range(len(coins))
            for y in range(answers)
            if (likely[:, y] == coins[s]).sum() >= v
        )
        assert reached <= tail_probability(v, m, epsilon, 0.0, m) + 1e-12


def test_lower_bound_covers_randomised_response() -> None:
    """Above epsilon in at most 5 % of 2,000 trials, of 400 guesses each; near it where there are many."""
    epsilon, n = 1.0, 400
    right = (Rng(0).stream("answers").uniform((2_000, n), torch.float64) < keep(epsilon)).sum(1)
    bound = {v: epsilon_lower_bound(v, n) for v in right.unique().tolist()}
    found = np.array([bound[v] for v in right.tolist()])
    assert 0.02 < (found > epsilon).mean() <= 0.05
    assert 0.7 < np.median(found) < 0.9
    many = round(200_000 * keep(epsilon))
    assert 0.98 * epsilon < epsilon_lower_bound(many, 200_000) < epsilon


def test_delta_term() -> None:
    """2 m delta max_i P(v > B >= v - i) / i, by distribution functions."""
    v, r, m, epsilon, delta = 17, 24, 60, 0.9, 1e-3
    law = stats.binom(r, keep(epsilon))
    worst = max((law.cdf(v - 1) - law.cdf(v - i - 1)) / i for i in range(1, v + 1))
    assert tail_probability(v, r, epsilon, delta, m) == pytest.approx(law.sf(v - 1) + 2 * m * delta * worst, rel=1e-10)
    bounds = [epsilon_lower_bound(23, 24, delta=delta, num_canaries=m) for delta in (0.0, 1e-6, 1e-5, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]
    with refuses(UsageError, found="5"):
        epsilon_lower_bound(5, 6, delta=1e-5, num_canaries=5)


@pytest.mark.parametrize("delta", [0.001, 0.02])
def test_bound_holds_if_all_bits_leak_with_probability_delta(delta: float) -> None:
    epsilon, m = 0.8, 12
    law = stats.binom(m, keep(epsilon))
    for v in range(1, m + 1):
        reached = (1 - delta) * law.sf(v - 1) + delta
        assert reached <= tail_probability(v, m, epsilon, delta, m) + 1e-12
    over = sum(
        ((1 - delta) * law.pmf(v) + delta * (v == m))
        for v in range(m + 1)
        if epsilon_lower_bound(v, m, delta=delta, num_canaries=m) > epsilon
    )
    assert over <= 0.05
