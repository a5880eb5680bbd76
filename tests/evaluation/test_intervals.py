"""Confidence intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest

from feller.evaluation.attacks.attack_scores import roc_auc
from feller.evaluation.intervals import auc_interval, share_difference, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (97, 100), (100, 100), (1, 3)])
def test_wilson_equals_that_of_scipy(k: int, n: int) -> None:
    truth = binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson(k, n) == pytest.approx((truth.low, truth.high), abs=1e-12)


def test_wilson_without_trials() -> None:
    assert wilson(0, 0) == (0, 1)


def test_difference_of_the_paper() -> None:
    """Newcombe 1998, table II: 56/70 against 48/80 has the interval 0.0524 to 0.3339."""
    assert share_difference(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_coverage_of_the_interval_of_an_area() -> None:
    """Two normal distributions one standard deviation apart have the area 0.7602; 400 intervals of 95 %."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        a, b = rng.normal(1, 1, 80), rng.normal(0, 1, 120)
        low, high = auc_interval(roc_auc(a, b), 80, 120)
        hits += low <= 0.7602 <= high
    assert 0.92 <= hits / 400 <= 0.98
