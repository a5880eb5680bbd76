"""What guesses about planted rows prove."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from scipy.stats import beta
from torch import Tensor

from feller.evaluation.attacks.attack_scores import CONFIDENCE, Told, told
from feller.privacy.auditing.one_run import guess, lower_bound

SHARES = (1 / 8, 1 / 2, 1.0)
"""Of the rows about which guesses are made, the surest first; each is a bound of its own, and they share the 5 %."""
FOUR = 3.17e-5
"""Chance of a normal number above 4 standard errors."""


def told_planted(scores: Float[Tensor, " n"], present: Bool[Tensor, " n"], delta: float = 0.0) -> Told:
    """Judge scores of planted rows, each of which was there by a fair coin; the epsilon is that of one run.

    Source: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, theorem 5.2.

    Args:
        scores: High where a row seems to be there.
        present: Which were.
        delta: Of the guarantee that is audited.

    Raises:
        UsageError: If fewer than four are there, or absent.
    """
    scores = scores.double().nan_to_num(nan=0.0)
    n, best = len(scores), 0.0
    for share in SHARES:
        guesses = max(2, int(share * n) // 2 * 2)
        right = guess(scores, present, guesses)
        sure = 1 - (1 - CONFIDENCE) / len(SHARES)
        best = max(best, lower_bound(right, guesses, sure, delta=delta, planted=n))
    return replace(told(scores[present], scores[~present]), epsilon=best)


@dataclass(frozen=True)
class Named:
    """How often an attacker names the right one of several candidates."""

    right: float
    least: float
    """The chance of that, at least: wrong as seldom as a normal number is above 4 standard errors."""
    bound: float
    """What the guarantee allows, at most; if it is below the least, the guarantee does not hold."""


def named(scores: Float[Tensor, "places candidates"], chosen: Int[Tensor, " places"], bound: float) -> Named:
    """Judge an attacker who names the candidate of the highest score, at each of some places.

    Args:
        scores: Of all candidates.
        chosen: The right ones.
        bound: Chance of a right answer that the guarantee allows.
    """
    hits, places = int((scores.argmax(1) == chosen).sum()), len(chosen)
    least = float(beta.ppf(FOUR, hits, places - hits + 1)) if hits else 0.0
    return Named(hits / places, least, bound)
