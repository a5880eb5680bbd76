"""Audit in one run under f-differential privacy: tests of a trade-off function by guesses about rows.

Each of m rows (or pairs of rows) is assigned by a fair coin: present or absent, or which of two is present. An attacker
guesses some of the coins. A trade-off function f bounds the probability of many correct guesses.

Source: Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-differential privacy in one run", arXiv 2410.22235.
"""

import math
from collections.abc import Callable

from scipy.special import log_ndtr, ndtr, ndtri

from feller.core.errors import UsageError
from feller.privacy.accounting.zcdp import find_root

PowerInverse = Callable[[float], float]
"""Function y -> smallest x with 1 - f(x) >= y: false positive rate that a test with power y needs at least."""
MAX_MU = 30.0
"""Largest lower bound on mu that is computed."""


def gaussian_power_inverse(mu: float) -> PowerInverse:
    """Return the false positive rate by the power of the best test between N(0, 1) and N(mu, 1) (mu-Gaussian DP).

    Source: Dong, Roth and Su 2022, "Gaussian differential privacy", arXiv 1905.02383.
    """
    return lambda y: 0.0 if y <= 0 else 1.0 if y >= 1 else float(ndtr(ndtri(y) - mu))


def approximate_power_inverse(epsilon: float, delta: float) -> PowerInverse:
    """Return the false positive rate by the power of the best test under (epsilon, delta)-differential privacy."""

    def inverse(y: float) -> float:
        by_ratio = (y - delta) * math.exp(-epsilon) if epsilon < 700 else 0.0
        by_complement = 1 - delta - (1 - y) * math.exp(epsilon) if epsilon < 700 else (1.0 if y >= 1 else 0.0)
        return min(1.0, max(0.0, by_ratio, by_complement))

    return inverse


def is_contradicted(inverse: PowerInverse, num_right: int, guesses: int, coins: int, error_prob: float = 0.05) -> bool:
    """Return True if `num_right` or more correct guesses are less likely than `error_prob` under a trade-off function.

    Let p_i be the probability of i correct guesses, r_i the sum of j p_j / m over j >= i, and h_i that of
    (guesses - j) p_j / m. The trade-off function gives h_i >= inverse(r_(i+1)). Starting from a tail of probability
    `error_prob`, this makes the sums grow downwards; if r_0 + h_0 exceeds guesses / m, the tail is impossible.

    Args:
        inverse: False positive rate by power.
        num_right: Number of correct guesses.
        guesses: Number of guesses; for the other coins the attacker abstains.
        coins: Number of rows or pairs, m.
        error_prob: Probability of a wrong contradiction.

    Raises:
        UsageError: If a value is out of range.
    """
    if not 0 <= num_right <= guesses <= coins or guesses < 1 or not 0 < error_prob < 1:
        raise UsageError(f"0 to {guesses} right guesses about at least {guesses} coins", f"{num_right} and {coins}")
    if not num_right:
        return False
    right, wrong = error_prob * num_right / coins, error_prob * (guesses - num_right) / coins
    for i in range(num_right - 1, -1, -1):
        lower = max(wrong, inverse(right))
        right += i / (guesses - i) * (lower - wrong)
        wrong = lower
        if right + wrong > guesses / coins:
            return True
    return False


def mu_lower_bound(num_right: int, guesses: int, coins: int, confidence: float = 0.95) -> float:
    """Return a lower bound on mu of a mechanism with Gaussian differential privacy, from guesses; 0 without evidence.

    Arguments are those of `is_contradicted`.
    """

    def is_below(mu: float) -> bool:
        return is_contradicted(gaussian_power_inverse(mu), num_right, guesses, coins, 1 - confidence)

    if not is_below(0.0):
        return 0.0
    low, high = 0.0, MAX_MU
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return epsilon of a mu-Gaussian differentially private mechanism at delta.

    Source: Balle and Wang 2018, "Improving the Gaussian mechanism for differential privacy", arXiv 1805.06530.
    """
    if not 0 < delta < 1:
        raise UsageError("a delta between 0 and 1", delta)

    def excess(epsilon: float) -> float:
        second = epsilon + float(log_ndtr(-epsilon / mu - mu / 2))
        return float(ndtr(mu / 2 - epsilon / mu)) - math.exp(second) - delta

    if mu <= 0 or excess(0.0) <= 0:
        return 0.0
    return find_root(excess, 0.0, mu**2 / 2 + mu * 10 + 10, 1e-10)
