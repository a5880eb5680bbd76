"""What one training run proves about epsilon: a lower bound from guesses about planted rows.

Source: Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", arXiv 2305.08846, theorem 5.2.
"""

import math

import scipy
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.privacy.accounting.zcdp import root

LARGEST = 50.0


def guess(scores: Float[Tensor, " m"], present: Bool[Tensor, " m"], guesses: int) -> int:
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


def lower_bound(right: int, guesses: int, confidence: float = 0.95, *, delta: float = 0.0, planted: int = 0) -> float:
    """Return the epsilon that the run has at least, wrong in at most one of 1 / (1 - confidence) audits.

    Args:
        right: Guesses that were right.
        guesses: Guesses made.
        confidence: Of the bound.
        delta: Of the guarantee that is audited; 0 leaves its term out.
        planted: Rows that were planted, which the term of delta needs.

    Raises:
        UsageError: If a number is out of its range.
    """
    if not 0 <= right <= guesses or guesses < 1 or not 0 < confidence < 1:
        raise UsageError(f"0 to {guesses} right guesses and a confidence in (0, 1)", f"{right}, {confidence}")
    if delta and planted < guesses:
        raise UsageError(f"delta counts once for each planted row: expected {guesses} planted rows or more")

    def surprise(epsilon: float) -> float:
        return chance(right, guesses, epsilon, delta, planted) - (1 - confidence)

    if surprise(0.0) > 0:
        return 0.0
    return LARGEST if surprise(LARGEST) < 0 else root(surprise, 0.0, LARGEST, 1e-10)


def chance(right: int, guesses: int, epsilon: float, delta: float, planted: int) -> float:
    """Return a bound of the chance of so many right guesses, or more, if the guarantee holds."""
    one = 1 / (1 + math.exp(-epsilon))
    tail = float(scipy.stats.binom.sf(right - 1, guesses, one))
    if not delta or not right:
        return tail
    back = torch.arange(1, right + 1, dtype=torch.float64)
    masses = torch.as_tensor(scipy.stats.binom.pmf(right - back.numpy(), guesses, one))
    return tail + 2 * planted * delta * (masses.cumsum(0) / back).max().item()
