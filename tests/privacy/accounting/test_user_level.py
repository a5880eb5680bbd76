"""Accounting of users with several rows, against closed forms, numerical integrals and group privacy."""

import math

import numpy as np
import pytest
import scipy.stats

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import compute_delta, compute_epsilon
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.user_level import user_epsilon
from feller.privacy.accounting.zcdp import epsilon_from_rho
from tests.errors import refuses

DELTA = 1e-5


def test_one_row_is_the_accounting_of_rows() -> None:
    events = (PoissonSubsampledGaussian("training", 1.2, 0.02, 50), ZCdp("a", 0.01), GaussianMechanism("b", 20.0))
    assert user_epsilon(events, 1, DELTA) == compute_epsilon(events, DELTA)
    assert user_epsilon((), 5, DELTA) == 0.0


def test_all_rows_in_each_batch_are_one_gaussian_mechanism() -> None:
    """At rate 1, k rows are k times the sensitivity."""
    steps = PoissonSubsampledGaussian("training", 12.0, 1.0, 9)
    truth = compute_epsilon((GaussianMechanism("", 12.0 / 3 / 3),), DELTA)
    assert user_epsilon((steps,), 3, DELTA) == pytest.approx(truth, rel=2e-3)


@pytest.mark.parametrize(("rows", "rate", "sigma"), [(2, 0.1, 1.0), (5, 0.03, 0.8), (4, 0.4, 2.0)])
def test_one_step_against_the_integral(rows: int, rate: float, sigma: float) -> None:
    """Delta(epsilon) of a binomial mixture of Gaussians in both directions, by numerical integration."""
    epsilon = user_epsilon((PoissonSubsampledGaussian("training", sigma, rate, 1),), rows, DELTA)
    x = np.linspace(-12 * sigma, rows + 12 * sigma, 400_001)
    counts = np.arange(rows + 1)
    probs = scipy.stats.binom.pmf(counts, rows, rate)
    p = sum(prob * scipy.stats.norm.pdf(x, k, sigma) for k, prob in zip(counts, probs, strict=True))
    q = scipy.stats.norm.pdf(x, 0, sigma)

    def delta(value: float) -> float:
        removed, added = (np.clip(a - math.exp(value) * b, 0, None).sum() * (x[1] - x[0]) for a, b in ((p, q), (q, p)))
        return max(removed, added)

    assert delta(epsilon) <= DELTA * 1.001
    assert delta(epsilon - 2e-3) > DELTA * 0.999 or epsilon < 2e-3


def test_users_are_never_worse_than_by_group_privacy() -> None:
    """(epsilon, delta) for a row gives (k epsilon, sum_i e^(i epsilon) delta) for k rows."""
    event = PoissonSubsampledGaussian("training", 1.1, 0.02, 60)
    rows = 3
    epsilon = user_epsilon((event,), rows, DELTA)
    single = epsilon / rows
    by_group = sum(math.exp(i * single) for i in range(rows)) * compute_delta((event,), single)
    assert by_group > DELTA  # group privacy would need a larger epsilon
    assert compute_epsilon((event,), DELTA) < epsilon


def test_events_without_samples_in_closed_form() -> None:
    assert user_epsilon((PureDp("a", 0.3),), 4, DELTA) == pytest.approx(1.2, abs=2e-3)
    assert user_epsilon((ZCdp("a", 0.01),), 4, DELTA) == pytest.approx(epsilon_from_rho(0.16, DELTA))
    truth = compute_epsilon((GaussianMechanism("a", 10.0),), DELTA)
    assert user_epsilon((GaussianMechanism("a", 40.0),), 4, DELTA) == pytest.approx(truth, rel=2e-3)
    counts = GaussianMechanism("counts", 40.0, 1, 14)
    assert user_epsilon((counts,), 4, DELTA) >= truth - 1e-6
    correlated = PoissonSubsampledGaussian("training", 50.0, 0.1, 20, 5)  # four uses of each row
    assert user_epsilon((correlated,), 3, DELTA) == pytest.approx(epsilon_from_rho(9 * 4 / (2 * 2500), DELTA))


def test_mixed_events_cost_more_than_each() -> None:
    training = PoissonSubsampledGaussian("training", 1.5, 0.02, 40)
    for other in (ZCdp("a", 0.005), GaussianMechanism("b", 30.0), PureDp("c", 0.05)):
        both = user_epsilon((training, other), 2, DELTA)
        assert both > user_epsilon((training,), 2, DELTA)
        assert both <= user_epsilon((training,), 2, 0.5 * DELTA) + user_epsilon((other,), 2, 0.05 * DELTA)


@pytest.mark.parametrize("rows", [0, -1, 10**6])
def test_bad_numbers_of_rows(rows: int) -> None:
    with refuses(UsageError, argument="rows"):
        user_epsilon((PureDp("a", 0.3),), rows, DELTA)
