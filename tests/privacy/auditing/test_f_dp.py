"""Audits in one run under f-differential privacy."""

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import binom, norm

from feller.core.errors import UsageError
from feller.privacy.auditing.f_dp import (
    approximate_power_inverse,
    gaussian_epsilon,
    gaussian_power_inverse,
    is_contradicted,
    mu_lower_bound,
)
from feller.privacy.auditing.one_run import epsilon_lower_bound
from tests.errors import refuses


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("guesses", [20, 100])
def test_the_best_attack_is_never_contradicted(mu: float, guesses: int) -> None:
    """Of N(0, 1) against N(mu, 1), the likelier one is right with probability Phi(mu / 2), independently for each pair.

    Counts whose true tail reaches the error probability may not be contradicted; all right guesses may, for mu = 1.
    """
    tail = binom(guesses, norm.cdf(mu / 2)).sf(np.arange(guesses + 1) - 1)
    allowed = int(np.flatnonzero(tail >= 0.05).max())
    inverse = gaussian_power_inverse(mu)
    assert not any(is_contradicted(inverse, count, guesses, guesses) for count in range(allowed + 1))
    assert is_contradicted(inverse, guesses, guesses, guesses) == (mu < 1.5)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.7, 0.0), (1.5, 0.02)])
@pytest.mark.parametrize("coins", [8, 12])
def test_the_largest_tail_is_that_of_a_linear_program(epsilon: float, delta: float, coins: int) -> None:
    """Maximise the probability of 6 (or all) of 8 right guesses under the inequalities of the paper (theorem 3.2)."""
    guesses, count = 8, 6 if epsilon < 1 else 8
    number = np.arange(guesses + 1)
    rows, limits = [], []
    for i in range(1, guesses + 1):
        right = np.where(number >= i, number, 0) / coins
        wrong = np.where(number >= i - 1, guesses - number, 0) / coins
        rows.append(right - np.exp(epsilon) * wrong)  # 1 - f is the smaller of two lines
        limits.append(delta)
        rows.append(right - np.exp(-epsilon) * wrong)
        limits.append(1 - np.exp(-epsilon) * (1 - delta))
    objective = -(number >= count).astype(float)
    found = linprog(objective, np.array(rows), limits, np.ones((1, guesses + 1)), [1.0], bounds=(0, 1))
    inverse, largest = approximate_power_inverse(epsilon, delta), -found.fun
    assert 0.05 < largest < 1
    assert is_contradicted(inverse, count, guesses, coins, largest + 1e-6)
    assert not is_contradicted(inverse, count, guesses, coins, largest - 1e-6)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_randomised_response_is_never_contradicted(epsilon: float) -> None:
    tail = binom(200, 1 / (1 + np.exp(-epsilon))).sf(np.arange(201) - 1)
    allowed = int(np.flatnonzero(tail >= 0.05).max())
    inverse = approximate_power_inverse(epsilon, 0.0)
    assert not is_contradicted(inverse, allowed, 200, 200)
    assert is_contradicted(inverse, min(200, allowed + 20), 200, 200)


def test_abstaining_does_not_make_a_contradiction() -> None:
    """An attacker guesses the 40 of 400 pairs that are clearest; 2,000 trials, mu at its true value."""
    rng, mu, alarms = np.random.default_rng(0), 0.3, 0
    limit = next(c for c in range(41) if is_contradicted(gaussian_power_inverse(mu), c, 40, 400))
    for _ in range(2_000):
        coins = rng.integers(2, size=400)
        seen = rng.normal(coins * mu, 1) - mu / 2
        sure = np.argsort(-abs(seen))[:40]
        alarms += ((seen[sure] > 0) == coins[sure]).sum() >= limit
    assert alarms / 2_000 <= 0.05


def test_bounds_beat_those_of_approximate_privacy() -> None:
    """A mechanism of mu = 2 with the expected number of right guesses: a share Phi(1) of 1,000."""
    right = round(1_000 * norm.cdf(1.0))
    mu = mu_lower_bound(right, 1_000, 1_000)
    assert 0.6 < mu < 2.0
    assert gaussian_epsilon(mu, 1e-5) > 1.8 * epsilon_lower_bound(right, 1_000, delta=1e-5, num_canaries=1_000)


def test_chance_proves_nothing() -> None:
    assert mu_lower_bound(52, 100, 100) == 0
    assert mu_lower_bound(0, 1, 1) == 0
    assert gaussian_epsilon(0.0, 1e-5) == 0


def test_gaussian_epsilon() -> None:
    """The function of the analytic Gaussian mechanism, at the noise 1.1 and 0.4 of sensitivity 1."""
    for mu, delta in ((1 / 1.1, 1e-5), (2.5, 1e-6)):
        epsilon = gaussian_epsilon(mu, delta)
        ratio = norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
        assert ratio == pytest.approx(delta, rel=1e-6)


def test_power_inverse() -> None:
    inverse = approximate_power_inverse(1.0, 0.01)
    for y in (0.2, 0.5, 0.9, 0.999):
        x = inverse(y)
        power = min(1.0, np.e * x + 0.01, 1 - np.exp(-1) * (1 - 0.01 - x))
        assert power == pytest.approx(y, abs=1e-12)


def test_bad_counts() -> None:
    with refuses(UsageError, found="11 and 10"):
        is_contradicted(gaussian_power_inverse(1.0), 11, 10, 10)
