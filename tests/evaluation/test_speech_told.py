"""How sure it is that sounds are told apart."""

import pytest
from scipy.stats import binom, binomtest

from feller.evaluation.speech.detector import Apart, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 8), (3, 8), (8, 8), (40, 50), (1, 1)])
def test_limits_of_a_share(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, "wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_each_kind_counts_alike() -> None:
    assert Apart(90, 100, 5, 10).accuracy == pytest.approx(0.7)
    assert Apart(100, 100, 0, 2).accuracy == 0.5


def test_the_interval_covers_the_truth() -> None:
    """Over all outcomes of 12 real and 9 made sounds, by their exact chances."""
    for spares, catches in ((0.9, 0.8), (0.5, 0.5), (0.97, 0.6)):
        covered = 0.0
        for a in range(13):
            for b in range(10):
                low, high = Apart(a, 12, b, 9).interval
                inside = low <= (spares + catches) / 2 <= high
                covered += inside * binom.pmf(a, 12, spares) * binom.pmf(b, 9, catches)
        assert 0.93 < covered < 0.995


def test_all_right_is_not_certain() -> None:
    low, high = Apart(12, 12, 12, 12).interval
    assert high == 1
    assert 0.75 < low < 0.9
