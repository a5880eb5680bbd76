"""What one training run proves about epsilon: a lower bound from guesses about planted rows.

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
    """Return how many guesses are right: the highest scores are guessed present, as many of the lowest absent.

    Args:
        scores: Of planted rows, each of which was present by the flip of a fair coin; high where it seems present.
        present: Which were.
        guesses: How many are made, an even number of at most m.

    Raises:
        UsageError: If so many guesses cannot be made.
    """
    if guesses % 2 or not 0 < guesses <= len(scores):
        raise UsageError(f"an even number of guesses, at most {len(scores)}", guesses)
    order = scores.argsort()
    half = guesses // 2
    return int(present[order[-half:]].sum() + (~present[order[:half]]).sum())


def epsilon_lower_bound(
    num_right: int, guesses: int, confidence: float = 0.95, *, delta: float = 0.0, num_canaries: int = 0
) -> float:
    """Return the epsilon that the run has at least, wrong in at most one of 1 / (1 - confidence) audits.

    Args:
        num_right: Guesses that were right.
        guesses: Guesses made.
        confidence: Of the bound.
        delta: Of the guarantee that is audited; 0 leaves its term out.
        num_canaries: Rows that were planted, which the term of delta needs.

    Raises:
        UsageError: If a number is out of its range.
    """
    if not 0 <= num_right <= guesses or guesses < 1 or not 0 < confidence < 1:
        raise UsageError(f"0 to {guesses} right guesses and a confidence in (0, 1)", f"{num_right}, {confidence}")
    if delta and num_canaries < guesses:
        raise UsageError(f"delta counts once for each planted row: expected {guesses} planted rows or more")

    def surprise(epsilon: float) -> float:
        return tail_probability(num_right, guesses, epsilon, delta, num_canaries) - (1 - confidence)

    if surprise(0.0) > 0:
        return 0.0
    return MAX_EPSILON if surprise(MAX_EPSILON) < 0 else find_root(surprise, 0.0, MAX_EPSILON, 1e-10)


def tail_probability(num_right: int, guesses: int, epsilon: float, delta: float, num_canaries: int) -> float:
    """Return a bound of the chance of so many right guesses, or more, if the guarantee holds."""
    one = 1 / (1 + math.exp(-epsilon))
    tail = float(scipy.stats.binom.sf(num_right - 1, guesses, one))
    if not delta or not num_right:
        return tail
    back = torch.arange(1, num_right + 1, dtype=torch.float64)
    masses = torch.as_tensor(scipy.stats.binom.pmf(num_right - back.numpy(), guesses, one))
    return tail + 2 * num_canaries * delta * (masses.cumsum(0) / back).max().item()
