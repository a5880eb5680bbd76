"""Exact samplers of integer distributions: float64 comparisons, and exact arithmetic where float64 cannot decide.

Source: Canonne, Kamath and Steinke 2020, "The discrete Gaussian for differential privacy", arXiv 2004.00010.
"""

import decimal
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from feller.core.errors import check_number

RandomWords = Callable[[int], np.ndarray]
"""Source of randomness: count n -> n random 64-bit words, [n] in uint64."""
BITS = 53
ERROR_MARGIN = 2.0**-44
"""Upper bound on the rounding error of exp in float64; closer comparisons are decided in exact arithmetic."""


def uniform_integers(words: RandomWords, high: int, n: int) -> np.ndarray:
    """Sample n integers uniformly from 0 to high - 1, by rejection."""
    check_number("high", high, ge=1, lt=2**63)
    mask = np.uint64((1 << (high - 1).bit_length()) - 1)

    def propose(m: int) -> np.ndarray:
        candidates = words(m) & mask
        return candidates[candidates < np.uint64(high)].astype(np.int64)

    return _gather(propose, n)


def discrete_laplace(words: RandomWords, scale: int, n: int) -> np.ndarray:
    """Sample n integers k with probability proportional to e^(-|k| / scale): algorithm 2 of arXiv 2004.00010."""
    check_number("scale", scale, ge=1)

    def propose(m: int) -> np.ndarray:
        remainder = uniform_integers(words, scale, m)
        remainder = remainder[bernoulli_exp(words, remainder / scale, lambda i: Fraction(int(remainder[i]), scale))]
        magnitude = remainder + scale * _runs(words, len(remainder))
        is_negative = words(len(magnitude)) >> np.uint64(63) == 1
        is_valid = ~(is_negative & (magnitude == 0))
        return np.where(is_negative, -magnitude, magnitude)[is_valid]

    return _gather(propose, n)


def discrete_gaussian(words: RandomWords, sigma: float, n: int) -> np.ndarray:
    """Sample n integers k with probability proportional to e^(-k^2 / (2 sigma^2)): arXiv 2004.00010, algorithm 3."""
    check_number("sigma", sigma, gt=0, lt=2**40)
    scale = math.floor(sigma) + 1
    variance = Fraction(sigma) ** 2

    def propose(m: int) -> np.ndarray:
        candidates = discrete_laplace(words, scale, m)
        magnitude = np.abs(candidates)

        def exact_exponent(i: int) -> Fraction:
            return (int(magnitude[i]) - variance / scale) ** 2 / (2 * variance)

        return candidates[bernoulli_exp(words, (magnitude - sigma**2 / scale) ** 2 / (2 * sigma**2), exact_exponent)]

    return _gather(propose, n)


def bernoulli_exp(words: RandomWords, exponents: np.ndarray, exactly: Callable[[int], Fraction]) -> np.ndarray:
    """Sample exactly from Bernoulli(e^-x) for each x in `exponents`.

    Args:
        words: Source of randomness.
        exponents: Values x >= 0 in float64, correct to a few units in the last place.
        exactly: Function from the index of an entry to its exact value x.
    """
    leading_bits = words(len(exponents)) >> np.uint64(64 - BITS)
    margin = np.exp(-exponents) - leading_bits * 2.0**-BITS
    is_success = margin > 0
    for i in np.flatnonzero(np.abs(margin) <= ERROR_MARGIN):
        is_success[i] = decide_bernoulli_exp(words, int(leading_bits[i]), exactly(int(i)))
    return is_success


def decide_bernoulli_exp(words: RandomWords, leading_bits: int, exponent: Fraction) -> bool:
    """Return True if a uniform number is below e^-exponent, in exact arithmetic.

    The first bits of the number are given as the integer `leading_bits`; further bits are drawn until the result is
    certain.
    """
    bits, digits = BITS, 40
    while True:
        with decimal.localcontext() as context:
            context.prec = digits
            power = -decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator)
            prob = Fraction(power.exp())
        error = Fraction(1 + math.ceil(exponent), 10 ** (digits - 2))
        if Fraction(leading_bits + 1, 2**bits) <= prob - error:
            return True
        if Fraction(leading_bits, 2**bits) >= prob + error:
            return False
        leading_bits, bits, digits = (leading_bits << 64) | int(words(1)[0]), bits + 64, digits + 40


def _runs(words: RandomWords, n: int) -> np.ndarray:
    """Sample n geometric numbers, each the count of Bernoulli(1 / e) successes before the first failure."""
    counts, active = np.zeros(n, dtype=np.int64), np.arange(n)
    while len(active):
        active = active[bernoulli_exp(words, np.ones(len(active)), lambda i: Fraction(1))]
        counts[active] += 1
    return counts


def _gather(propose: Callable[[int], np.ndarray], n: int) -> np.ndarray:
    """Return n accepted values of a rejection sampler; `propose(m)` returns the accepted ones of m proposals."""
    batches, accepted = [np.empty(0, dtype=np.int64)], 0
    while accepted < n:
        batches.append(propose(math.ceil(1.5 * (n - accepted)) + 16))
        accepted += len(batches[-1])
    return np.concatenate(batches)[:n]
