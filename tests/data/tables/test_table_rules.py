"""Rules between columns, against all rows of small tables."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.tables.column import Categorical
from feller.data.tables.constraints import Constraint, Pair, broken, mended, pairs_of, possible

ABC = [Categorical(name, ("0", "1", "2")) for name in "abcd"]


def rule(when: str, among: str, then: str, only: str) -> Constraint:
    return Constraint(when, tuple(among), then, tuple(only))


def test_tables() -> None:
    pairs = pairs_of([rule("b", "0", "a", "1"), rule("a", "2", "b", "12"), rule("c", "01", "b", "2")], ABC)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (1, 2)]
    assert pairs[0].allowed.tolist() == [[False, True, True], [True, True, True], [False, True, True]]
    assert pairs[1].allowed.tolist() == [[False, False, True], [False, False, True], [True, True, True]]


FORESTS = [[(0, 1)], [(0, 1), (1, 2)], [(0, 2), (1, 2), (2, 3)], [(0, 3), (1, 2)], [(1, 3), (0, 3), (2, 3)]]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_possible_codes_and_mending_by_enumeration(data: st.DataObject) -> None:
    edges = data.draw(st.sampled_from(FORESTS))
    tables = st.lists(st.booleans(), min_size=9, max_size=9).map(lambda row: np.array(row).reshape(3, 3))
    pairs = [Pair(a, b, data.draw(tables)) for a, b in edges]
    rows = np.array(list(itertools.product(range(3), repeat=4)))
    right = ~np.any([broken(rows, pair) for pair in pairs], axis=0)
    able = possible(pairs, [3] * 4)
    for j in range(4):
        assert able[j].tolist() == [bool((rows[right, j] == code).any()) for code in range(3)]
    if right.any():
        after = mended(rows, pairs, [3] * 4)
        assert not np.any([broken(after, pair) for pair in pairs])
        assert np.array_equal(after[right], rows[right])


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([rule("x", "0", "a", "1")], "names the column 'x'"),
        ([rule("a", "0", "a", "1")], "joins two columns"),
        ([rule("a", "", "b", "1")], "joins two columns"),
        ([rule("a", "7", "b", "1")], "'a' is never '7'"),
        ([rule("a", "0", "b", "1"), rule("b", "0", "c", "1"), rule("c", "0", "a", "1")], "by way of other columns"),
        ([rule("a", "012", "b", "0"), rule("b", "0", "a", "1"), rule("a", "1", "b", "1")], "no row can keep all rules"),
    ],
)
def test_wrong_rules(rules: list[Constraint], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pairs_of(rules, ABC)
