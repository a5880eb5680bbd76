"""What guesses about planted rows prove: never more than holds, and much where all are right."""

import math

import pytest
import torch
from scipy.stats import binom

from feller.core.rng import Draws
from feller.evaluation.attacks.attack_scores import FOUR, named, told_planted
from feller.privacy.auditing.one_run import lower_bound


@pytest.mark.slow
def test_no_more_is_proven_than_holds() -> None:
    """Randomised response at epsilon 1 of 200 rows: 0.05 of 120 audits may prove more, 16 once in 2,000."""
    epsilon, over, n = 1.0, 0, 200
    for seed in range(120):
        draws = Draws(seed)
        present = draws.at("coins").uniform((n,)) < 0.5
        told = draws.at("answers").uniform((n,)) < math.exp(epsilon) / (1 + math.exp(epsilon))
        scores = torch.where(told, present.double(), 1 - present.double()) + 1e-3 * draws.at("ties").uniform((n,))
        over += told_planted(scores, present).epsilon > epsilon
    assert over <= 15


def test_all_right_and_all_blind() -> None:
    present = torch.arange(240) % 2 == 0
    sure = told_planted(present.double(), present)
    assert sure.auc == 1
    assert sure.epsilon == lower_bound(240, 240, 1 - 0.05 / 3)
    assert told_planted(present.double(), present, 1e-3).epsilon < sure.epsilon
    blind = told_planted(Draws(1).at("x").normal((240,)), present)
    assert blind.auc == pytest.approx(0.5, abs=4 * 0.0373)
    assert blind.epsilon < 0.5


def test_candidates_by_their_scores() -> None:
    """The least chance is that of which so many hits would be as rare as 4 standard errors."""
    scores = torch.eye(10).repeat(4, 1)
    chosen = torch.arange(40) % 10
    chosen[:8] = (chosen[:8] + 1) % 10
    found = named(scores, chosen, 0.3)
    assert found.right == 0.8
    assert binom.sf(31, 40, found.least) == pytest.approx(FOUR, rel=1e-6)
    assert found.bound == 0.3
    assert named(scores, (torch.arange(40) + 1) % 10, 0.3).least == 0
