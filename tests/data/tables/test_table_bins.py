"""Bins of whole numbers: every number has one code, and codes give back their numbers evenly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.tables.bins import Bins, equal_starts


@st.composite
def some_bins(draw: st.DrawFn) -> Bins:
    numbers = draw(st.lists(st.integers(-30, 30), min_size=2, max_size=6, unique=True))
    *starts, last = sorted(numbers)
    heavy = draw(st.lists(st.integers(starts[0], last), max_size=4, unique=True))
    return Bins(tuple(starts), last, tuple(sorted(heavy)))


def codes_of(bins: Bins) -> dict[int, int]:
    numbers = np.arange(bins.starts[0], bins.last + 1)
    return dict(zip(numbers.tolist(), bins.codes(numbers).tolist(), strict=True))


@settings(deadline=None, max_examples=100)
@given(some_bins())
def test_codes_part_the_range(bins: Bins) -> None:
    """By brute force: a heavy value is alone, any other is with those of its bin, and codes ascend."""
    codes = codes_of(bins)
    assert {*codes.values()} == {*range(bins.count)}
    members = [[number for number, code in codes.items() if code == each] for each in range(bins.count)]
    for numbers in members:
        if numbers[0] in bins.heavy:
            assert len(numbers) == 1
        else:
            start = max(start for start in bins.starts if start <= numbers[0])
            end = min([*[later for later in bins.starts if later > start], bins.last + 1])
            assert numbers == [n for n in range(start, end) if n not in bins.heavy]
    firsts = [bins.span(code)[0] for code in range(bins.count)]
    assert firsts == sorted(firsts)
    assert bins.codes(np.array([bins.starts[0] - 1, bins.last + 1])).tolist() == [-1, -1]


@settings(deadline=None, max_examples=60)
@given(some_bins())
def test_draws_are_even_over_the_members(bins: Bins) -> None:
    """Uniform numbers on a grid of 840 give each of m members 840 / m times, to one where m does not divide it."""
    grid = (np.arange(840) + 0.5) / 840
    for code in range(bins.count):
        drawn = bins.draw(np.full(840, code), grid)
        members = [n for n, own in codes_of(bins).items() if own == code]
        numbers, counts = np.unique(drawn, return_counts=True)
        assert numbers.tolist() == members
        assert np.abs(counts - 840 / len(members)).max() < 1


def test_equal_widths_and_refusals() -> None:
    assert equal_starts(0, 99, 4) == (0, 25, 50, 75)
    assert equal_starts(5, 7, 20) == (5, 6, 7)
    for starts, last, heavy in [((), 3, ()), ((1, 1), 3, ()), ((1, 5), 3, ()), ((1,), 3, (4,)), ((1,), 3, (2, 2))]:
        with pytest.raises(InputError):
            Bins(starts, last, heavy)
    with pytest.raises(InputError, match="fewer than 19 digits"):
        Bins((0,), 2**62)
