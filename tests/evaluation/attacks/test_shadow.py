"""Shadow models: halves, ratios against normal densities, and what they reach where the law is known."""

import math

import pytest
import torch
from scipy.stats import norm

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.evaluation.attacks.attack_scores import told
from feller.evaluation.attacks.membership import OWN, calibrated, halves, likelihood_ratio, relative


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return Draws(seed).at("x").normal(shape, torch.float64)


def test_each_row_is_in_half_of_the_models_and_each_model_has_half_of_the_rows() -> None:
    """Shares of 4,000 rows within 5 standard deviations; two models with a third of the pairs alike or so."""
    seen = halves(4_000, 6, Draws(0))
    assert (seen.sum(0) == 3).all()
    assert (seen.double().mean(1) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(4_000)
    both = (seen[0] & seen[1]).double().mean().item()
    assert both == pytest.approx(3 / 6 * 2 / 5, abs=5 * 0.4 / math.sqrt(4_000))
    assert (halves(10, 5, Draws(0)).sum(0) == 2).all()
    with pytest.raises(UsageError, match="2 shadow models"):
        halves(10, 1, Draws(0))


def test_many_models_give_each_row_laws_of_its_own() -> None:
    models, n = 2 * OWN, 5
    seen, losses, attacked = halves(n, models, Draws(1)), normal(models, n), normal(n, seed=2)
    found = likelihood_ratio(losses, seen, attacked)
    for j in range(n):
        there, gone = losses[seen[:, j], j], losses[~seen[:, j], j]
        logs = [norm.logpdf(attacked[j], x.mean(), x.std()) for x in (there, gone)]
        assert found[j].item() == pytest.approx(logs[0] - logs[1], abs=1e-9)
    constant = torch.where(seen, 1.0, 2.0).double()
    sure = likelihood_ratio(constant, seen, torch.tensor([1.0, 2, 1, 2, 1]))
    assert (sure.sign() == torch.tensor([1, -1, 1, -1, 1])).all()


def test_few_models_share_deviation_and_shift() -> None:
    seen, losses, attacked = halves(40, 4, Draws(1)), normal(4, 40), normal(40, seed=2)
    assert torch.equal(likelihood_ratio(losses, seen, attacked), calibrated(losses, seen, attacked))


@pytest.mark.parametrize("models", [4, 64])
def test_areas_where_the_law_is_known(models: int) -> None:
    """Losses fall by two where a row was learned from, and differ by ten between rows.

    With the usual loss of each row, from s models, the area is Phi(2 / sqrt(2 (1 + 1 / s))), within 4 errors of 0.01.
    """
    n = 3_000
    hard, seen = 10 * normal(n), halves(n, models, Draws(3))
    shadows = hard - 2 * seen.double() + normal(models, n, seed=1)
    member = torch.arange(n) % 2 == 0
    attacked = hard - 2 * member.double() + normal(n, seed=2)
    expected = norm.cdf(2 / math.sqrt(2 * (1 + 1 / models)))
    plain = told(-attacked[member], -attacked[~member]).auc
    assert plain < 0.6
    for scores in (likelihood_ratio(shadows, seen, attacked), relative(shadows, attacked)):
        assert told(scores[member], scores[~member]).auc == pytest.approx(expected, abs=0.04)
    blind = relative(shadows, hard + normal(n, seed=4))
    assert told(blind[member], blind[~member]).auc == pytest.approx(0.5, abs=0.045)
