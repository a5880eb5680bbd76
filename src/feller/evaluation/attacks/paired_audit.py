"""One-run audit of a run as it is: guesses which row of a pair, one for training and one held out, was learned.

If rows are held out at random, each pair is a fair coin, so that theorems about canaries apply without another
training. The audited guarantee is about the replacement of a row.

Source: Mahloujifar, Melis and Chaudhuri 2024, arXiv 2410.22235; Steinke, Nasr and Jagielski 2023, arXiv 2305.08846.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.attacks.attack_scores import CONFIDENCE, FOUR_SIGMA_PROB, GUESS_FRACTIONS
from feller.evaluation.intervals import wilson
from feller.privacy.auditing.f_dp import (
    approximate_power_inverse,
    gaussian_epsilon,
    is_contradicted,
    mu_lower_bound,
)

USUAL_DELTA = 1e-5
"""Delta of the lower bound on epsilon for a run without a guarantee."""
MIN_PAIRS = 50
"""Minimum number of pairs."""

Scores = Mapping[str, tuple[Float[Tensor, " n"], Float[Tensor, " m"]]]
"""Scores of members and of other rows, by attack; higher scores indicate membership."""


def paired_audit(scores: Scores, epsilon: float | None, delta: float, rng: Rng) -> dict[str, float | None]:
    """Return the metrics of the audit; attacks with fewer than `MIN_PAIRS` pairs are left out.

    Each attack guesses for the pairs with the largest differences of scores, for several fractions of the pairs; the
    best lower bound counts, and the error probability is divided among all of them.

    Args:
        scores: Scores of the attacks.
        epsilon: Epsilon of the guarantee, for adding or removing a row; None without a guarantee.
        delta: Delta of the guarantee.
        rng: Random streams of pairs and of guesses about ties.
    """
    sizes = {name: min(len(members), len(others)) for name, (members, others) in scores.items()}
    attacks = [name for name, size in sizes.items() if size >= MIN_PAIRS]
    if not attacks:
        return {}
    tests = len(attacks) * len(GUESS_FRACTIONS)
    best_mu, best_share, best_size, is_violated = 0.0, 0.0, 0, False
    for name in attacks:
        (members, others), size, pair_rng = scores[name], sizes[name], rng.fold_in(name)
        parts = (("members", members), ("others", others))
        orders = [pair_rng.stream(part).uniform((len(s),)).argsort()[:size] for part, s in parts]
        difference = (members.double().cpu()[orders[0]] - others.double().cpu()[orders[1]]).nan_to_num(0.0).numpy()
        coin = pair_rng.stream("ties").uniform((size,)).numpy() < 0.5
        is_right = np.where(difference == 0, coin, difference > 0)
        by_certainty = is_right[np.argsort(-abs(difference), kind="stable")]
        best_share, best_size = max((best_share, best_size), (float(is_right.mean()), size))
        for fraction in GUESS_FRACTIONS:
            guesses = max(1, int(fraction * size))
            right = int(by_certainty[:guesses].sum())
            best_mu = max(best_mu, mu_lower_bound(right, guesses, size, 1 - (1 - CONFIDENCE) / tests))
            if epsilon is not None:
                inverse = approximate_power_inverse(2 * epsilon, min(1.0, (1 + math.exp(min(epsilon, 700.0))) * delta))
                is_violated |= is_contradicted(inverse, right, guesses, size, FOUR_SIGMA_PROB / tests)
    low, high = wilson(best_share * best_size, best_size, 1 - (1 - CONFIDENCE) / len(attacks))
    numbers: dict[str, float | None] = {
        "one_run_pairs": float(best_size),
        "one_run_right": best_share,
        "one_run_right_low": low,
        "one_run_right_high": high,
        "one_run_mu": best_mu,
        "one_run_epsilon": gaussian_epsilon(best_mu, delta or USUAL_DELTA),
    }
    return numbers | ({} if epsilon is None else {"one_run_violation": float(is_violated)})
