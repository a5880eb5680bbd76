"""Counts with whole-numbered noise against their own law, summed out, and large epsilons against the clock."""

import math
import time

import numpy as np
import pytest
from scipy.optimize import brentq

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import compute_epsilon, rdp_epsilon
from feller.privacy.accounting.calibration import calibrate
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian
from tests.errors import refuses

DELTA = 1e-5


def true_epsilon(sigma: float, counts: int) -> float:
    """Return epsilon of counts that are each moved by one, from the chances of the sum of their noises."""
    k = np.arange(-math.ceil(12 * sigma + 20), math.ceil(12 * sigma + 20) + 1)
    one = np.exp(-(k**2) / (2 * sigma**2))
    one, total = one / one.sum(), np.ones(1)
    for _ in range(counts):
        total = np.convolve(total, one)
    sums = np.arange(len(total)) - len(total) // 2
    losses = (counts - 2 * sums) / (2 * sigma**2)

    def over(wanted: float) -> float:
        return float((total * -np.expm1(np.minimum(wanted - losses, 0.0))).sum()) - DELTA

    return float(brentq(over, 0.0, 500.0, xtol=1e-10))  # pyrefly: ignore


@pytest.mark.parametrize(("sigma", "counts"), [(1.5, 1), (5.0, 1), (1.0, 2), (2.0, 6)])
def test_whole_noise_is_charged_by_its_own_law(sigma: float, counts: int) -> None:
    told = compute_epsilon((GaussianMechanism("counts", sigma / math.sqrt(counts), integer_moves=counts),), DELTA)
    truth = true_epsilon(sigma, counts)
    assert truth - 1e-6 <= told <= truth + 2e-3


def test_continuous_noise_would_be_charged_less() -> None:
    assert true_epsilon(1.5, 1) > 1.01 * compute_epsilon((GaussianMechanism("counts", 1.5),), DELTA)


def test_an_older_ledger_has_continuous_noise() -> None:
    assert GaussianMechanism("counts", 2.0).integer_moves == 0
    with refuses(UsageError, found="-1"):
        GaussianMechanism("counts", 2.0, integer_moves=-1)


def test_whole_counts_beside_steps_cost_what_continuous_ones_would_where_noise_is_large() -> None:
    steps = PoissonSubsampledGaussian("training", 1.2, 0.05, 100)
    both = [compute_epsilon((GaussianMechanism("counts", 4.0, integer_moves=whole), steps), DELTA) for whole in (0, 14)]
    assert both[1] == pytest.approx(both[0], abs=2e-3)


@pytest.mark.parametrize("wanted", [60.0, 300.0, 1000.0])
def test_large_epsilons_are_answered_at_once(wanted: float) -> None:
    begun = time.process_time()
    others = (GaussianMechanism("counts", 0.9, integer_moves=14),)
    sigma = calibrate(wanted, DELTA, 0.03, 400, others)
    spent = (*others, PoissonSubsampledGaussian("training", sigma, 0.03, 400))
    assert 0.99 * wanted < compute_epsilon(spent, DELTA) <= min(wanted, rdp_epsilon(spent, DELTA))
    assert time.process_time() - begun < 10
