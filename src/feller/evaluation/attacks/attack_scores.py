"""Scores of membership inference attacks (AUC, true positive rate, lower bound on epsilon), and canary audits."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import beta, rankdata
from torch import Tensor

from feller.core.errors import UsageError
from feller.evaluation.intervals import auc_interval
from feller.privacy.auditing.one_run import epsilon_lower_bound, num_right_guesses

FALSE_POSITIVE_RATE = 0.01
"""False positive rate at which the true positive rate is reported."""
CONFIDENCE = 0.95
SELECTION_PURPOSE = "order"
"""Name of the random stream that chooses the attacked examples."""


@dataclass(frozen=True)
class MembershipScores:
    """Scores of one membership inference attack."""

    auc: float
    """Area under the ROC curve; 0.5 corresponds to guessing."""
    caught: float
    """True positive rate at a false positive rate of 1 %; 0.01 corresponds to guessing."""
    epsilon: float
    """Lower bound on epsilon with 95 % confidence; 0 if the attack shows no leakage."""
    auc_low: float = 0.0
    """Lower end of the 95 % interval of `auc`."""
    auc_high: float = 1.0
    """Upper end of the 95 % interval of `auc`."""

    def with_prefix(self, attack: str) -> dict[str, float | None]:
        """Return the scores as metrics named `{attack}_{score}`."""
        return {f"{attack}_{name}": value for name, value in asdict(self).items()}


def membership_scores(
    members: Float[Tensor, " n"], others: Float[Tensor, " m"], delta: float = 0.0
) -> MembershipScores:
    """Evaluate a membership inference attack from its scores of examples; higher scores indicate membership.

    The score threshold of the epsilon bound is chosen on one half of the examples; the bound is computed on the other
    half, with Clopper-Pearson bounds on both error rates. The examples are treated as independent, although they share
    one trained model.
    Source: Jagielski, Ullman and Oprea 2020, arXiv 2006.07709.

    Args:
        members: Scores of training examples.
        others: Scores of non-members from the same distribution.
        delta: Delta of the audited (epsilon, delta) guarantee.

    Raises:
        UsageError: If there are fewer than 4 members or fewer than 4 non-members.
    """
    if min(len(members), len(others)) < 4:
        raise UsageError("at least 4 members and 4 non-members", f"{len(members)} and {len(others)}")
    a, b = (scores.double().cpu().numpy() for scores in (members, others))
    threshold = np.quantile(b, 1 - FALSE_POSITIVE_RATE)
    area = roc_auc(a, b)
    low, high = auc_interval(area, len(a), len(b))
    return MembershipScores(area, (a > threshold).mean().item(), proven_epsilon(a, b, delta), low, high)


def roc_auc(members: np.ndarray, others: np.ndarray) -> float:
    """Return the area under the ROC curve: the probability that a member scores higher than a non-member.

    Ties count as one half.
    """
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    n = len(members)
    return ((ranks.sum() - n * (n + 1) / 2) / (n * len(others))).item()


def proven_epsilon(members: np.ndarray, others: np.ndarray, delta: float) -> float:
    """Return a lower bound on epsilon with 95 % confidence, from scores of members and of other examples.

    The score threshold is chosen on one half of the examples, and the bound is computed on the other half. `delta` is
    the delta of the audited guarantee.
    """
    (select, test), (select_others, test_others) = ((scores[::2], scores[1::2]) for scores in (members, others))
    best, decision = 0.0, None
    for threshold in np.quantile(np.concatenate([select, select_others]), np.linspace(0, 1, 101)):
        for sign in (1, -1):
            epsilon = _bound(select, select_others, threshold, sign, delta)
            if epsilon > best:
                best, decision = epsilon, (threshold, sign)
    return 0.0 if decision is None else _bound(test, test_others, *decision, delta)


def _bound(members: np.ndarray, others: np.ndarray, threshold: float, sign: int, delta: float) -> float:
    # epsilon >= log((TPR - delta) / FPR), with a lower bound on the TPR and an upper bound on the FPR
    tp, fp = ((sign * (scores - threshold) > 0).sum().item() for scores in (members, others))
    if sign < 0:
        members, others, tp, fp = others, members, fp, tp
    error_prob = (1 - CONFIDENCE) / 2
    tpr = beta.ppf(error_prob, tp, len(members) - tp + 1) if tp else 0.0
    fpr = beta.ppf(1 - error_prob, fp + 1, len(others) - fp) if fp < len(others) else 1.0
    return float(max(0.0, np.log(max(tpr - delta, 1e-300) / fpr)))


ATTACKS = {
    "loss": "by the loss of the model, which is lower on training examples",
    "nearness": "by the distance to the nearest sample",
    "density": "by the density ratio of synthetic rows to real rows outside the training set (DOMIAS)",
    "shadow": "by the likelihood ratio of its loss under shadow models trained with and without it (LiRA)",
    "relative": "by its loss relative to the mean loss of shadow models",
    "planted": "among canaries inserted in a separate training, by the decrease of their losses relative to the run",
    "overheard": "among canaries inserted in a separate training, by all of its noisy gradients",
}
"""Membership inference attacks and their descriptions."""
CANARY_ATTACKS = ("planted", "overheard")
"""Names of attacks on canaries, each of which is inserted into an audit's training run with probability 1/2."""


GUESS_FRACTIONS = (1 / 8, 1 / 2, 1.0)
"""Fractions of the canaries for which the audit guesses; it guesses for the canaries with the most certain scores.

Each fraction gives a lower bound on epsilon, and the largest one counts. The error probability of 5 % is divided among
these bounds.
"""
FOUR_SIGMA_PROB = 3.17e-5
"""Probability that a normal variable exceeds its mean by more than 4 standard deviations."""


def canary_scores(scores: Float[Tensor, " n"], present: Bool[Tensor, " n"], delta: float = 0.0) -> MembershipScores:
    """Evaluate an attack on canaries, artificial examples that a privacy audit adds to the training data.

    Each canary is inserted with probability 1/2 into a single audited training run.

    Source: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, theorem 5.2.

    Args:
        scores: Attack scores of the canaries; higher scores indicate that a canary was inserted.
        present: True for inserted canaries.
        delta: Delta of the audited guarantee, for the lower bound on epsilon.

    Raises:
        UsageError: If fewer than 4 canaries are inserted, or fewer than 4 are left out.
    """
    scores = scores.double().nan_to_num(nan=0.0)
    n, best = len(scores), 0.0
    for fraction in GUESS_FRACTIONS:
        guesses = max(2, int(fraction * n) // 2 * 2)
        num_right = num_right_guesses(scores, present, guesses)
        confidence = 1 - (1 - CONFIDENCE) / len(GUESS_FRACTIONS)
        best = max(best, epsilon_lower_bound(num_right, guesses, confidence, delta=delta, num_canaries=n))
    return replace(membership_scores(scores[present], scores[~present]), epsilon=best)


@dataclass(frozen=True)
class IdentificationScores:
    """Success rate of an attack that guesses which of several candidates is at each place of the data set."""

    right: float
    """Fraction of places at which the attack picked the true candidate."""
    least: float
    """Lower confidence bound on the success probability, with error probability `FOUR_SIGMA_PROB`."""
    bound: float
    """Largest success probability that the privacy guarantee allows; the guarantee is violated if `least` is larger."""


def identification_scores(
    scores: Float[Tensor, "places candidates"], chosen: Int[Tensor, " places"], bound: float
) -> IdentificationScores:
    """Compute the success rate of an attack that guesses the candidate with the highest score for each place.

    Args:
        scores: Scores of all candidates.
        chosen: Index of the true candidate at each place.
        bound: Largest success probability that the privacy guarantee allows.
    """
    hits, total = int((scores.argmax(1) == chosen).sum()), len(chosen)
    least = float(beta.ppf(FOUR_SIGMA_PROB, hits, total - hits + 1)) if hits else 0.0
    return IdentificationScores(hits / total, least, bound)
