"""Computation of a lower bound on epsilon from guesses about canaries (planted rows) in one training run.

Source: Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", arXiv 2305.08846, theorem 5.2.
"""

import math

import scipy
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.privacy.accounting.zcdp import find_root

MAX_EPSILON = 50.0


def num_right_guesses(scores: Float[Tensor, " m"], present: Bool[Tensor, " m"], guesses: int) -> int:
    """Return the number of correct guesses about which canaries were present in the training set.

    Half of the guesses are that the canaries with the highest scores were present. The other half are that the canaries
    with the lowest scores were absent.

    Args:
        scores: Scores of the canaries, each of which is present with probability 1/2; a high score suggests presence.
        present: True for the canaries that were present.
        guesses: Number of guesses, even and at most m.

    Raises:
        UsageError: If `guesses` is odd, not positive or above m.
    """
    if guesses % 2 or not 0 < guesses <= len(scores):
        raise UsageError(f"an even number of guesses from 2 to {len(scores)}", guesses)
    order = scores.argsort()
    half = guesses // 2
    return int(present[order[-half:]].sum() + (~present[order[:half]]).sum())


def epsilon_lower_bound(
    num_right: int, guesses: int, confidence: float = 0.95, *, delta: float = 0.0, num_canaries: int = 0
) -> float:
    """Return a lower bound on the run's epsilon at a given confidence level.

    Args:
        num_right: Number of correct guesses.
        guesses: Number of guesses.
        confidence: Confidence level of the bound.
        delta: Delta of the audited guarantee; 0 for pure differential privacy.
        num_canaries: Number of canaries; needed only if `delta` is above 0.

    Raises:
        UsageError: If a value is out of range.
    """
    if not 0 <= num_right <= guesses or guesses < 1 or not 0 < confidence < 1:
        raise UsageError(f"0 to {guesses} right guesses and a confidence in (0, 1)", f"{num_right}, {confidence}")
    if delta and num_canaries < guesses:
        raise UsageError(f"at least as many canaries as guesses ({guesses}) if delta is above 0", num_canaries)

    def excess(epsilon: float) -> float:
        return tail_probability(num_right, guesses, epsilon, delta, num_canaries) - (1 - confidence)

    if excess(0.0) > 0:
        return 0.0
    return MAX_EPSILON if excess(MAX_EPSILON) < 0 else find_root(excess, 0.0, MAX_EPSILON, 1e-10)


def tail_probability(num_right: int, guesses: int, epsilon: float, delta: float, num_canaries: int) -> float:
    """Return an upper bound on the probability of `num_right` or more correct guesses under (epsilon, delta)-DP.

    Arguments are those of `epsilon_lower_bound`.
    """
    accuracy = 1 / (1 + math.exp(-epsilon))  # accuracy of randomised response, the worst case of pure DP
    tail = float(scipy.stats.binom.sf(num_right - 1, guesses, accuracy))
    if not delta or not num_right:
        return tail
    offsets = torch.arange(1, num_right + 1, dtype=torch.float64)
    pmf = torch.as_tensor(scipy.stats.binom.pmf(num_right - offsets.numpy(), guesses, accuracy))
    return tail + 2 * num_canaries * delta * (pmf.cumsum(0) / offsets).max().item()
