"""Membership scores, epsilon lower bounds of canaries, shadow models."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.evaluation.attacks.attack_scores import (
    FOUR_SIGMA_PROB,
    canary_scores,
    identification_scores,
    membership_scores,
)
from feller.evaluation.attacks.membership import (
    MIN_SHADOWS_PER_CLASS,
    lira_scores,
    lira_shared_variance,
    relative_loss_scores,
    shadow_splits,
)
from feller.privacy.auditing.one_run import epsilon_lower_bound
from tests.errors import refuses


def normal(n: int, mean: float, seed: int) -> torch.Tensor:
    return mean + Rng(seed).stream("x").normal((n,), torch.float64)


def test_auc_by_all_pairs() -> None:
    members, others = torch.tensor([3.0, 1, 2, 2, 5]), torch.tensor([2.0, 0, 1, 4, 2, 2])
    pairs = (members[:, None] > others).double() + (members[:, None] == others).double() / 2
    assert membership_scores(members, others).auc == pytest.approx(pairs.mean().item(), abs=1e-12)


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.0])
def test_scores_of_normals(apart: float) -> None:
    found = membership_scores(normal(20_000, apart, 1), normal(20_000, 0.0, 2))
    assert found.auc == pytest.approx(norm.cdf(apart / math.sqrt(2)), abs=0.008)
    assert found.caught == pytest.approx(norm.sf(norm.isf(0.01) - apart), abs=0.015)


def test_epsilon_of_membership_scores_covers() -> None:
    """Scores of randomised response at epsilon: its own likelihood ratio; 0.05 of audits may be wrong."""
    epsilon, n, over = 1.0, 2_000, 0
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    proven = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        members = torch.from_numpy((rng.random(n) < truth).astype(float))
        others = torch.from_numpy((rng.random(n) < 1 - truth).astype(float))
        proven.append(membership_scores(members, others).epsilon)
        over += proven[-1] > epsilon
    assert over <= 6  # 2 are expected at most
    assert np.median(proven) > 0.75


def test_membership_scores_of_chance_and_certainty() -> None:
    assert membership_scores(normal(2_000, 0.0, 1), normal(2_000, 0.0, 2)).epsilon < 0.5
    sure = membership_scores(torch.ones(1_000), torch.zeros(1_000))
    assert (sure.auc, sure.caught) == (1.0, 1.0)
    assert 4 < sure.epsilon < 6  # 500 of each bound a rate by some 0.007
    assert membership_scores(torch.ones(1_000), torch.zeros(1_000), delta=0.5).epsilon < sure.epsilon


def test_few_members_and_shadow_models() -> None:
    with refuses(UsageError, found="3 and 9"):
        membership_scores(torch.zeros(3), torch.zeros(9))
    seen = torch.tensor([[True, False], [True, True]])
    with refuses(UsageError):
        lira_shared_variance(torch.zeros(2, 2), seen, torch.zeros(2))


@pytest.mark.slow
def test_epsilon_of_canary_scores_covers() -> None:
    """Randomised response at epsilon 1 of 200 rows: 0.05 of 120 audits may prove more, 16 once in 2,000."""
    epsilon, over, n = 1.0, 0, 200
    for seed in range(120):
        draws = Rng(seed)
        present = draws.stream("coins").uniform((n,)) < 0.5
        told = draws.stream("answers").uniform((n,)) < math.exp(epsilon) / (1 + math.exp(epsilon))
        scores = torch.where(told, present.double(), 1 - present.double()) + 1e-3 * draws.stream("ties").uniform((n,))
        over += canary_scores(scores, present).epsilon > epsilon
    assert over <= 15


def test_canary_scores_of_chance_and_certainty() -> None:
    present = torch.arange(240) % 2 == 0
    sure = canary_scores(present.double(), present)
    assert sure.auc == 1
    assert sure.epsilon == epsilon_lower_bound(240, 240, 1 - 0.05 / 3)
    assert canary_scores(present.double(), present, 1e-3).epsilon < sure.epsilon
    blind = canary_scores(Rng(1).stream("x").normal((240,)), present)
    assert blind.auc == pytest.approx(0.5, abs=4 * 0.0373)
    assert blind.epsilon < 0.5


def test_identification_scores() -> None:
    """The least chance is that of which so many hits would be as rare as 4 standard errors."""
    scores = torch.eye(10).repeat(4, 1)
    chosen = torch.arange(40) % 10
    chosen[:8] = (chosen[:8] + 1) % 10
    found = identification_scores(scores, chosen, 0.3)
    assert found.right == 0.8
    assert binom.sf(31, 40, found.least) == pytest.approx(FOUR_SIGMA_PROB, rel=1e-6)
    assert found.bound == 0.3
    assert identification_scores(scores, (torch.arange(40) + 1) % 10, 0.3).least == 0


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return Rng(seed).stream("x").normal(shape, torch.float64)


def test_shadow_splits() -> None:
    """Shares of 4,000 rows within 5 standard deviations."""
    seen = shadow_splits(4_000, 6, Rng(0))
    assert (seen.sum(0) == 3).all()
    assert (seen.double().mean(1) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(4_000)
    both = (seen[0] & seen[1]).double().mean().item()
    assert both == pytest.approx(3 / 6 * 2 / 5, abs=5 * 0.4 / math.sqrt(4_000))
    assert (shadow_splits(10, 5, Rng(0)).sum(0) == 2).all()
    with refuses(UsageError, argument="models", found="1"):
        shadow_splits(10, 1, Rng(0))


def test_lira_scores() -> None:
    models, n = 2 * MIN_SHADOWS_PER_CLASS, 5
    seen, losses, attacked = shadow_splits(n, models, Rng(1)), normals(models, n), normals(n, seed=2)
    found = lira_scores(losses, seen, attacked)
    for j in range(n):
        there, gone = losses[seen[:, j], j], losses[~seen[:, j], j]
        logs = [norm.logpdf(attacked[j], x.mean(), x.std()) for x in (there, gone)]
        assert found[j].item() == pytest.approx(logs[0] - logs[1], abs=1e-9)
    constant = torch.where(seen, 1.0, 2.0).double()
    sure = lira_scores(constant, seen, torch.tensor([1.0, 2, 1, 2, 1]))
    assert (sure.sign() == torch.tensor([1, -1, 1, -1, 1])).all()


def test_lira_with_few_models_shares_the_variance() -> None:
    seen, losses, attacked = shadow_splits(40, 4, Rng(1)), normals(4, 40), normals(40, seed=2)
    assert torch.equal(lira_scores(losses, seen, attacked), lira_shared_variance(losses, seen, attacked))


@pytest.mark.parametrize("models", [4, 64])
def test_auc_of_lira_and_relative_loss(models: int) -> None:
    """Losses fall by two where a row was learned from, and differ by ten between rows.

    With the usual loss of each row, from s models, the area is Phi(2 / sqrt(2 (1 + 1 / s))), within 4 errors of 0.01.
    """
    n = 3_000
    hard, seen = 10 * normals(n), shadow_splits(n, models, Rng(3))
    shadows = hard - 2 * seen.double() + normals(models, n, seed=1)
    member = torch.arange(n) % 2 == 0
    attacked = hard - 2 * member.double() + normals(n, seed=2)
    expected = norm.cdf(2 / math.sqrt(2 * (1 + 1 / models)))
    plain = membership_scores(-attacked[member], -attacked[~member]).auc
    assert plain < 0.6
    for scores in (lira_scores(shadows, seen, attacked), relative_loss_scores(shadows, attacked)):
        assert membership_scores(scores[member], scores[~member]).auc == pytest.approx(expected, abs=0.04)
    blind = relative_loss_scores(shadows, hard + normals(n, seed=4))
    assert membership_scores(blind[member], blind[~member]).auc == pytest.approx(0.5, abs=0.045)
