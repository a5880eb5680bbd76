"""Variable elimination orders."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.privacy.marginals.elimination import Bucket, eliminate


def test_chain() -> None:
    found = eliminate((2, 3, 4), [(0, 1), (1, 2)])
    assert found.buckets == (Bucket(0, (1,)), Bucket(1, (2,)), Bucket(2, ()))
    assert found.cells == 6 + 12 + 4


def test_loop() -> None:
    found = eliminate((2, 2, 2, 2), [(0, 1), (1, 2), (2, 3), (3, 0)])
    assert sorted(len(bucket.scope) for bucket in found.buckets) == [1, 2, 3, 3]
    assert found.cells == 8 + 8 + 4 + 2


def test_smallest_table_first() -> None:
    found = eliminate((50, 4, 3, 2), [(0, 1), (0, 2), (0, 3)])
    assert [bucket.column for bucket in found.buckets][:2] == [3, 2]


def test_kept_columns() -> None:
    found = eliminate((2, 3, 4, 5), [(0, 1), (1, 2), (2, 3)], keep=(3, 0))
    assert {bucket.column for bucket in found.buckets} == {1, 2}
    assert found.buckets[-1].parents == (3, 0)


def test_subset_of_columns() -> None:
    found = eliminate((2, 3, 4, 5), [(1, 3)], columns=[1, 3])
    assert [bucket.scope for bucket in found.buckets] == [(3, 1), (3,)]


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_running_intersection(data: st.DataObject) -> None:
    """The parents of a bucket lie within the bucket of the last of them, and each clique within one of its own."""
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    columns = st.sets(st.integers(0, len(counts) - 1), min_size=1, max_size=4)
    cliques = [tuple(clique) for clique in data.draw(st.lists(columns, max_size=8))]
    found = eliminate(counts, cliques)
    scopes = {bucket.column: bucket.scope for bucket in found.buckets}
    order = [bucket.column for bucket in found.buckets]
    assert sorted(order) == list(range(len(counts)))
    assert found.cells == sum(math.prod(counts[j] for j in scope) for scope in scopes.values())
    for bucket in found.buckets:
        ranks = [order.index(j) for j in bucket.scope]
        assert ranks == sorted(ranks, reverse=True)
        assert not bucket.parents or {*bucket.parents} <= {*scopes[bucket.parents[-1]]}
    for clique in cliques:
        assert {*clique} <= {*scopes[min(clique, key=order.index)]}


def test_tree_of_200_columns() -> None:
    found = eliminate([3] * 200, [(i, i // 2) for i in range(1, 200)])
    assert max(len(bucket.scope) for bucket in found.buckets) == 2


@pytest.mark.parametrize("counts", [(), (1,), (1, 1)])
def test_no_cliques(counts: tuple[int, ...]) -> None:
    assert eliminate(counts, []).cells == len(counts)
