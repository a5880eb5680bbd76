"""Scores of membership attacks: AUC, proven epsilon, guesses about canaries; explanations."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import beta, rankdata
from torch import Tensor

from feller.core.errors import UsageError
from feller.privacy.auditing.one_run import epsilon_lower_bound, num_right_guesses

FALSE_POSITIVE_RATE = 0.01
"""Share of others that may be taken for members."""
CONFIDENCE = 0.95
SELECTION_PURPOSE = "order"
"""Address of the draws that choose which examples are attacked."""


@dataclass(frozen=True)
class MembershipScores:
    """What a membership attack reaches."""

    auc: float
    """Chance that of one of each kind the member scores higher, ties half: 0.5 is guessing."""
    caught: float
    """Share of members above the threshold that one other in a hundred passes; 0.01 is guessing."""
    epsilon: float
    """That a private model must have at least for it, wrong in one of twenty audits; 0 proves nothing."""

    def with_prefix(self, attack: str) -> dict[str, float | None]:
        """Return the numbers under the name of a way to tell members."""
        return {f"{attack}_{name}": value for name, value in asdict(self).items()}


def membership_scores(
    members: Float[Tensor, " n"], others: Float[Tensor, " m"], delta: float = 0.0
) -> MembershipScores:
    """Judge scores, high where an example seems to be a member.

    The epsilon is that of thresholds chosen on one half and judged on the other, by Clopper and Pearson's bounds of
    both error rates. Source: Jagielski, Ullman and Oprea 2020, arXiv 2006.07709; it is of one training, whose rows are
    taken for independent.

    Args:
        members: Scores of examples that were learned from.
        others: Of others of the same law.
        delta: Of the guarantee that is audited.

    Raises:
        UsageError: If there are fewer than four of either.
    """
    if min(len(members), len(others)) < 4:
        raise UsageError("4 members and 4 others or more", f"{len(members)} and {len(others)}")
    a, b = (scores.double().cpu().numpy() for scores in (members, others))
    threshold = np.quantile(b, 1 - FALSE_POSITIVE_RATE)
    return MembershipScores(roc_auc(a, b), (a > threshold).mean().item(), proven_epsilon(a, b, delta))


def roc_auc(members: np.ndarray, others: np.ndarray) -> float:
    """Return the area under ROC of scores: the chance that of one of each kind the member scores higher, ties half."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    n = len(members)
    return ((ranks.sum() - n * (n + 1) / 2) / (n * len(others))).item()


def proven_epsilon(members: np.ndarray, others: np.ndarray, delta: float) -> float:
    """Return the epsilon below which so many right and so few wrong answers are no chance."""
    (choose, judge), (choose_others, judge_others) = ((each[::2], each[1::2]) for each in (members, others))
    best, chosen = 0.0, None
    for threshold in np.quantile(np.concatenate([choose, choose_others]), np.linspace(0, 1, 101)):
        for sign in (1, -1):
            found = _bound(choose, choose_others, threshold, sign, delta)
            if found > best:
                best, chosen = found, (threshold, sign)
    return 0.0 if chosen is None else _bound(judge, judge_others, *chosen, delta)


def _bound(members: np.ndarray, others: np.ndarray, threshold: float, sign: int, delta: float) -> float:
    """Return log((true - delta) / false) by a lower bound of the first and an upper one of the second rate."""
    hits, slips = ((sign * (each - threshold) > 0).sum().item() for each in (members, others))
    if sign < 0:
        members, others, hits, slips = others, members, slips, hits
    wrong = (1 - CONFIDENCE) / 2
    true = beta.ppf(wrong, hits, len(members) - hits + 1) if hits else 0.0
    false = beta.ppf(1 - wrong, slips + 1, len(others) - slips) if slips < len(others) else 1.0
    return float(max(0.0, np.log(max(true - delta, 1e-300) / false)))


ATTACKS = {
    "loss": "by the model's own loss, which is lower on what it has seen",
    "nearness": "by how near the closest sample is",
    "density": "by how much likelier a row is under synthetic rows than under real ones that were not learned from"
    " (DOMIAS)",
    "shadow": "by the likelihood ratio of its loss among those of models that were trained again with it and without it"
    " (LiRA)",
    "relative": "by how far its loss is below the mean of those of models that were trained again",
    "planted": "among rows planted in a training of its own, by how far their losses are below those in the run",
    "overheard": "among rows planted in a training of its own, by all its noisy gradients",
}
"""Ways to tell members from others."""
CANARY_ATTACKS = ("planted", "overheard")
"""Those of them that are about planted rows: half are in a training that is made for the audit, by the flip of a coin.
"""


GUESS_FRACTIONS = (1 / 8, 1 / 2, 1.0)
"""Of the rows about which guesses are made, the surest first; each is a bound of its own, and they share the 5 %."""
FOUR_SIGMA_PROB = 3.17e-5
"""Chance of a normal number above 4 standard errors."""


def canary_scores(scores: Float[Tensor, " n"], present: Bool[Tensor, " n"], delta: float = 0.0) -> MembershipScores:
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
    for fraction in GUESS_FRACTIONS:
        guesses = max(2, int(fraction * n) // 2 * 2)
        right = num_right_guesses(scores, present, guesses)
        sure = 1 - (1 - CONFIDENCE) / len(GUESS_FRACTIONS)
        best = max(best, epsilon_lower_bound(right, guesses, sure, delta=delta, num_canaries=n))
    return replace(membership_scores(scores[present], scores[~present]), epsilon=best)


@dataclass(frozen=True)
class IdentificationScores:
    """How often an attacker names the right one of several candidates."""

    right: float
    least: float
    """The chance of that, at least: wrong as seldom as a normal number is above 4 standard errors."""
    bound: float
    """What the guarantee allows, at most; if it is below the least, the guarantee does not hold."""


def identification_scores(
    scores: Float[Tensor, "places candidates"], chosen: Int[Tensor, " places"], bound: float
) -> IdentificationScores:
    """Judge an attacker who names the candidate of the highest score, at each of some places.

    Args:
        scores: Of all candidates.
        chosen: The right ones.
        bound: Chance of a right answer that the guarantee allows.
    """
    hits, places = int((scores.argmax(1) == chosen).sum()), len(chosen)
    least = float(beta.ppf(FOUR_SIGMA_PROB, hits, places - hits + 1)) if hits else 0.0
    return IdentificationScores(hits / places, least, bound)
