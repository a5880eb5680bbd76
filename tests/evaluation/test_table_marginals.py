"""Total variation of marginals, against counts by hand and expectations."""

import itertools
import math
import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.rng import Draws
from feller.evaluation.tables.copying import drawn_again, some, unrelated
from feller.evaluation.tables.marginal_distance import (
    MOST,
    PAIRS,
    column_sets,
    k_marginal_score,
    pair_errors,
    score_pairs,
    variations,
)
from tests.evaluation.tables import any_codes, people


def by_hand(a: list[list[int]], b: list[list[int]], columns: tuple[int, ...]) -> float:
    of_a, of_b = (Counter(tuple(row[j] for j in columns) for row in table) for table in (a, b))
    return sum(abs(of_a[cell] / len(a) - of_b[cell] / len(b)) for cell in of_a.keys() | of_b.keys()) / 2


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.sampled_from([1, 2, 7, 300, 10**9]), min_size=1, max_size=5),
    rows=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 3),
)
def test_any_tables_by_hand(counts: list[int], rows: tuple[int, int], size: int) -> None:
    a, b = (any_codes(seed, n, tuple(counts)) for seed, n in enumerate(rows))
    sets = column_sets(len(counts), size, Draws(0))
    assert sets == list(itertools.combinations(range(len(counts)), size))
    found = variations([a, b], [(0, 1), (1, 1)], sets)
    assert found[0] == pytest.approx([by_hand(a.tolist(), b.tolist(), one) for one in sets], abs=1e-12)
    assert (found[1] == 0).all()


def test_one_difference() -> None:
    """One of four rows has another second code: a quarter of the rows would have to change."""
    a = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    b = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 0]])
    assert variations([a, b], [(0, 1)], [(0,), (1,), (0, 1)]).tolist() == [[0, 0.25, 0.25]]
    assert pair_errors(a, b).tolist() == [[0, 0.25], [0.25, 0.25]]
    assert k_marginal_score(a, b, Draws(0)) == 750
    assert k_marginal_score(a[:, :1], b[:, :1], Draws(0)) is None


def test_more_columns_are_never_nearer() -> None:
    a, b = people(0, 500), people(1, 300)
    found = {}
    for size in (2, 3):
        sets = column_sets(4, size, Draws(0))
        found |= dict(zip(sets, variations([a, b], [(0, 1)], sets)[0], strict=True))
    for three in itertools.combinations(range(4), 3):
        assert found[three] >= max(found[two] for two in itertools.combinations(three, 2)) - 1e-12


def test_order_of_sets_does_not_matter() -> None:
    a, b = people(0, 200), people(1, 200)
    sets = [(2, 3), (0, 1, 2, 3), (0,), (0, 1), (3,), (0, 1, 2)]
    expected = [by_hand(a.tolist(), b.tolist(), one) for one in sets]
    assert variations([a, b], [(0, 1)], sets)[0] == pytest.approx(expected, abs=1e-12)


def test_rows_drawn_again_are_as_far_as_chance_leaves_them() -> None:
    """E TV = sum sqrt(2 p (1 - p) / (pi n)) / 2 up to 1/n; 400 tables miss it by 4 % once in 10,000."""
    train = people(0, 2000)
    tables = [drawn_again(train, 1000, Draws(seed)) for seed in range(400)]
    shares = train[:, 1].bincount().double() / 2000
    expected = (2 * shares * (1 - shares) / (math.pi * 1000)).sqrt().sum().item() / 2
    apart = [variations([table, train], [(0, 1)], [(1,)]).item() for table in tables]
    assert np.mean(apart) == pytest.approx(expected, rel=0.04)


def test_unrelated_columns_keep_shares_alone() -> None:
    """The answer is 1 with 0.9 or 0.1 by the number; apart from it, pairs are off by their covariance."""
    train = people(0, 20_000)
    shuffled = unrelated(train, Draws(0))
    apart = variations([shuffled, train], [(0, 1)], [(0,), (1,), (3,), (1, 3), (2, 3)])[0]
    assert (apart[:3] == 0).all()
    number, answer = (train[:, j].bincount().double() / 20_000 for j in (1, 3))
    joint = (train[:, 1] * 2 + train[:, 3]).bincount(minlength=10).double().view(5, 2) / 20_000
    expected = (joint - number[:, None] * answer).abs().sum().item() / 2
    assert apart[3] == pytest.approx(expected, abs=0.02)
    assert expected > 0.3
    assert apart[4] < 0.02


def test_some_rows_are_rows() -> None:
    train = torch.arange(50)[:, None]
    assert some(train, 50, Draws(0)) is train
    assert len(some(train, 20, Draws(0)).unique()) == 20
    assert torch.equal(some(train, 20, Draws(0)), some(train, 20, Draws(0)))


def test_sets_of_many_columns_are_chosen() -> None:
    assert len(column_sets(40, 3, Draws(0))) == math.comb(40, 3) <= MOST
    many = column_sets(60, 3, Draws(0))
    assert len(set(many)) == len(many) == MOST
    assert many == sorted(many)
    assert all(0 <= a < b < c < 60 for a, b, c in many)
    assert len(score_pairs(29, Draws(0))) == math.comb(29, 2)
    assert len(set(score_pairs(30, Draws(0)))) == PAIRS
    assert column_sets(2, 3, Draws(0)) == []


def test_triples_of_a_real_table_take_a_moment() -> None:
    """14 columns with 170 codes and 32,561 rows."""
    counts = (15, 9, 20, 16, 7, 15, 6, 5, 2, 11, 8, 12, 41, 2)
    a, b = (any_codes(seed, 32_561, counts) for seed in (0, 1))
    start = time.process_time()
    apart = variations([a, b], [(0, 1)], column_sets(14, 3, Draws(0)))
    assert time.process_time() - start < 2
    assert apart.shape == (1, 364)
