"""Numbers and dates by which the rows of a person are sorted stay within their bounds."""

import numpy as np

from feller.data.tables.history_rows import within_bounds

LOW, HIGH = 100, 465


def test_groups_that_end_within_bounds_are_unchanged() -> None:
    units, start = np.array([100, 465, 200, 200, 300]), np.array([0, 0, 2, 2, 2])
    assert within_bounds(units, start, LOW, HIGH).tolist() == units.tolist()


def test_groups_that_end_late_begin_earlier_and_keep_their_differences() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.integers(1, 60, (3000, 4))
    gaps[:, 0] = 0
    units = (rng.integers(LOW, HIGH + 1, (3000, 1)) + gaps.cumsum(1)).ravel()
    start = np.repeat(np.arange(3000) * 4, 4)
    found = within_bounds(units, start, LOW, HIGH).reshape(-1, 4)
    late = units.reshape(-1, 4)[:, -1] > HIGH
    assert 0.1 < late.mean() < 0.5
    assert (np.diff(found) == gaps[:, 1:]).all()
    assert found.min() >= LOW
    assert found.max() <= HIGH
    assert (found[~late] == units.reshape(-1, 4)[~late]).all()
    assert (found == HIGH).mean() < 0.01  # clipping would put 7 % of the rows there


def test_groups_longer_than_the_range_shrink() -> None:
    found = within_bounds(np.array([300, 665, 1030]), np.array([0, 0, 0]), LOW, HIGH)
    assert found.tolist() == [100, 282, 465]


def test_microseconds_do_not_overflow() -> None:
    second = 10**6
    units = np.array([63_000_000_000, 63_900_000_000]) * second
    found = within_bounds(units, np.array([0, 0]), 62_000_000_000 * second, 63_800_000_000 * second)
    assert np.diff(found) == 900_000_000 * second
    assert found[1] <= 63_800_000_000 * second
