"""Scores of membership: areas by brute force, what guessing and certainty reach, and what proves an epsilon."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.evaluation.attacks.attack_scores import told
from feller.evaluation.attacks.membership import calibrated


def normal(n: int, mean: float, seed: int) -> torch.Tensor:
    return mean + Draws(seed).at("x").normal((n,), torch.float64)


def test_area_by_all_pairs() -> None:
    members, others = torch.tensor([3.0, 1, 2, 2, 5]), torch.tensor([2.0, 0, 1, 4, 2, 2])
    pairs = (members[:, None] > others).double() + (members[:, None] == others).double() / 2
    assert told(members, others).auc == pytest.approx(pairs.mean().item(), abs=1e-12)


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.0])
def test_normal_scores(apart: float) -> None:
    found = told(normal(20_000, apart, 1), normal(20_000, 0.0, 2))
    assert found.auc == pytest.approx(norm.cdf(apart / math.sqrt(2)), abs=0.008)
    assert found.caught == pytest.approx(norm.sf(norm.isf(0.01) - apart), abs=0.015)


def test_no_more_is_proven_than_holds() -> None:
    """Scores of randomised response at epsilon: its own likelihood ratio; 0.05 of audits may be wrong."""
    epsilon, n, over = 1.0, 2_000, 0
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    proven = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        members = torch.from_numpy((rng.random(n) < truth).astype(float))
        others = torch.from_numpy((rng.random(n) < 1 - truth).astype(float))
        proven.append(told(members, others).epsilon)
        over += proven[-1] > epsilon
    assert over <= 6  # 2 are expected at most
    assert np.median(proven) > 0.75


def test_guessing_proves_nothing_and_certainty_much() -> None:
    assert told(normal(2_000, 0.0, 1), normal(2_000, 0.0, 2)).epsilon < 0.5
    sure = told(torch.ones(1_000), torch.zeros(1_000))
    assert (sure.auc, sure.caught) == (1.0, 1.0)
    assert 4 < sure.epsilon < 6  # 500 of each bound a rate by some 0.007
    assert told(torch.ones(1_000), torch.zeros(1_000), delta=0.5).epsilon < sure.epsilon


def test_losses_beside_models_that_saw_and_did_not() -> None:
    """Losses are lower by one where an example was learned from, and differ by ten between examples."""
    draws, n, shadows = Draws(0), 4_000, 8
    hard = 10 * draws.at("hard").normal((n,), torch.float64)
    seen = torch.stack([torch.arange(n) % 2 == (k + torch.arange(n) // 2 % 2) % 2 for k in range(shadows)])
    inside = hard - seen.double() + draws.at("x").normal((n, shadows), torch.float64).T
    member = torch.arange(n) % 4 < 2
    attacked = hard - member.double() + draws.at("y").normal((n,), torch.float64)
    score = calibrated(inside, seen, attacked)
    plain, better = told(-attacked[member], -attacked[~member]).auc, told(score[member], score[~member]).auc
    assert plain < 0.56
    assert better == pytest.approx(norm.cdf(1 / math.sqrt(2) / math.sqrt(1 + 1 / 8)), abs=0.03)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(UsageError, match="4 members"):
        told(torch.zeros(3), torch.zeros(9))
    seen = torch.tensor([[True, False], [True, True]])
    with pytest.raises(UsageError, match="more of them"):
        calibrated(torch.zeros(2, 2), seen, torch.zeros(2))
