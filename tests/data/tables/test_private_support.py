"""Islands in noisy counts: what stands out alone, what does so together, and how far it reaches."""

import numpy as np
import pytest

from feller.data.tables.private_support import Told, even, islands


def test_neighbours_that_hide_alone_stand_out_together() -> None:
    """Thirty rows in each of twelve places are little beside a noise of 20; 360 in all are not."""
    counts = [0.0] * 20 + [50.0] * 12 + [0.0] * 30
    assert islands(counts, 20.0, 0.5, Told(600.0, 1)) == [(20 - 12 // 5, 31 + 12 // 5)]
    assert islands([50.0, 50.0, *[0.0] * 60], 20.0, 0.5, Told(100.0, 1)) == []


def test_shores_hold_more_than_noise_is_worth() -> None:
    counts = [0.0, 0.0, 1.0, 3.0, 9.0, 500.0, 700.0, 8.0, 2.0, 0.0, 0.0]
    assert islands(counts, 2.0, 1.0, Told(1223.0, 1)) == [(3, 7)]


def test_two_islands_stay_apart_and_touching_ones_become_one() -> None:
    counts = [900.0, *[0.0] * 9, 300.0, 300.0, *[0.0] * 9]
    assert islands(counts, 1.0, 0.5, Told(1500.0, 1)) == [(0, 0), (10, 11)]
    assert islands([0.0] * 50, 5.0, 0.5, Told(100.0, 1)) == []


def test_where_much_is_missing_weaker_sums_are_believed() -> None:
    """150 of 1,150 rows lie five deviations of their sum away, which is too little for a seed of so many places."""
    counts = [1000.0, *[0.0] * 100, *[38.0] * 4, *[0.0] * 100]
    assert islands(counts, 20.0, 0.5, Told(1000.0, 1)) == [(0, 0)]
    assert islands(counts, 20.0, 0.5, Told(1152.0, 1)) == [(0, 0), (101, 104)]


def test_noise_alone_makes_an_island_as_seldom_as_is_said() -> None:
    """A false alarm in at most 1e-3 of the lines: of 1,000 more than seven have the chance 1e-5."""
    rng = np.random.default_rng(0)
    assert sum(bool(islands(rng.normal(size=60).tolist(), 1.0, 0.5, Told(0.0, 1))) for _ in range(1000)) <= 7


def test_even_counts_are_the_nearest_with_their_sum() -> None:
    assert even([5.0, 1.0, -2.0], 4.0) == pytest.approx([4.0, 0.0, 0.0])
    assert even([3.0, 3.0, -1.0], 6.0) == pytest.approx([3.0, 3.0, 0.0])
    assert even([1.0, 2.0, 3.0], 9.0) == pytest.approx([2.0, 3.0, 4.0])
    assert even([1.0, 2.0], 0.0) == [0.0, 0.0]
