"""Marginals, shapes of columns and trends of pairs, against scipy, numpy and counts by hand."""

import itertools
import math
import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from feller.core.rng import Rng
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table, table_dataset
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import detect_schema
from feller.evaluation.report.table_figures import numbers_grid
from feller.evaluation.report.verdict import judge_numbers
from feller.evaluation.tables.cell_metrics import number_columns
from feller.evaluation.tables.copy_metrics import bootstrap_rows, shuffle_columns, subsample_rows
from feller.evaluation.tables.marginal_distance import (
    MAX_COLUMN_SETS,
    PAIRS,
    column_sets,
    column_shapes,
    correlation_difference,
    correlations,
    is_valid_code,
    k_marginal_score,
    mean_pair_trend,
    pair_errors,
    pair_trends,
    score_pairs,
    total_variations,
    valid_fraction,
)
from tests.evaluation.tables import COUNTS, ORDERED, any_codes, people


def by_hand(a: list[list[int]], b: list[list[int]], columns: tuple[int, ...]) -> float:
    of_a, of_b = (Counter(tuple(row[j] for j in columns) for row in table) for table in (a, b))
    return sum(abs(of_a[cell] / len(a) - of_b[cell] / len(b)) for cell in of_a.keys() | of_b.keys()) / 2


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.sampled_from([1, 2, 7, 300, 10**9]), min_size=1, max_size=5),
    rows=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 3),
)
def test_total_variations(counts: list[int], rows: tuple[int, int], size: int) -> None:
    a, b = (any_codes(seed, n, tuple(counts)) for seed, n in enumerate(rows))
    sets = column_sets(len(counts), size, Rng(0))
    assert sets == list(itertools.combinations(range(len(counts)), size))
    found = total_variations([a, b], [(0, 1), (1, 1)], sets)
    assert found[0] == pytest.approx([by_hand(a.tolist(), b.tolist(), one) for one in sets], abs=1e-12)
    assert (found[1] == 0).all()


def test_one_changed_row() -> None:
    """One of four rows has another second code: a quarter of the rows would have to change."""
    a = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    b = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 0]])
    assert total_variations([a, b], [(0, 1)], [(0,), (1,), (0, 1)]).tolist() == [[0, 0.25, 0.25]]
    assert pair_errors(a, b).tolist() == [[0, 0.25], [0.25, 0.25]]
    assert k_marginal_score(a, b, Rng(0)) == 750
    assert k_marginal_score(a[:, :1], b[:, :1], Rng(0)) is None


def test_order_of_column_sets() -> None:
    a, b = people(0, 200), people(1, 200)
    sets = [(2, 3), (0, 1, 2, 3), (0,), (0, 1), (3,), (0, 1, 2)]
    expected = [by_hand(a.tolist(), b.tolist(), one) for one in sets]
    assert total_variations([a, b], [(0, 1)], sets)[0] == pytest.approx(expected, abs=1e-12)


def test_bootstrap_distance() -> None:
    """E TV = sum sqrt(2 p (1 - p) / (pi n)) / 2 up to 1/n; 400 tables miss it by 4 % once in 10,000."""
    train = people(0, 2000)
    tables = [bootstrap_rows(train, 1000, Rng(seed)) for seed in range(400)]
    shares = train[:, 1].bincount().double() / 2000
    expected = (2 * shares * (1 - shares) / (math.pi * 1000)).sqrt().sum().item() / 2
    apart = [total_variations([table, train], [(0, 1)], [(1,)]).item() for table in tables]
    assert np.mean(apart) == pytest.approx(expected, rel=0.04)


def test_shuffled_columns_keep_marginals() -> None:
    """The answer is 1 with 0.9 or 0.1 by the number; apart from it, pairs are off by their covariance."""
    train = people(0, 20_000)
    shuffled = shuffle_columns(train, Rng(0))
    apart = total_variations([shuffled, train], [(0, 1)], [(0,), (1,), (3,), (1, 3), (2, 3)])[0]
    assert (apart[:3] == 0).all()
    number, answer = (train[:, j].bincount().double() / 20_000 for j in (1, 3))
    joint = (train[:, 1] * 2 + train[:, 3]).bincount(minlength=10).double().view(5, 2) / 20_000
    expected = (joint - number[:, None] * answer).abs().sum().item() / 2
    assert apart[3] == pytest.approx(expected, abs=0.02)
    assert expected > 0.3
    assert apart[4] < 0.02


def test_subsample_rows() -> None:
    train = torch.arange(50)[:, None]
    assert subsample_rows(train, 50, Rng(0)) is train
    assert len(subsample_rows(train, 20, Rng(0)).unique()) == 20
    assert torch.equal(subsample_rows(train, 20, Rng(0)), subsample_rows(train, 20, Rng(0)))


def test_column_sets_are_limited() -> None:
    assert len(column_sets(40, 3, Rng(0))) == math.comb(40, 3) <= MAX_COLUMN_SETS
    many = column_sets(60, 3, Rng(0))
    assert len(set(many)) == len(many) == MAX_COLUMN_SETS
    assert many == sorted(many)
    assert all(0 <= a < b < c < 60 for a, b, c in many)
    assert len(score_pairs(29, Rng(0))) == math.comb(29, 2)
    assert len(set(score_pairs(30, Rng(0)))) == PAIRS
    assert column_sets(2, 3, Rng(0)) == []


def test_speed_of_triples() -> None:
    """14 columns with 170 codes and 32,561 rows."""
    counts = (15, 9, 20, 16, 7, 15, 6, 5, 2, 11, 8, 12, 41, 2)
    a, b = (any_codes(seed, 32_561, counts) for seed in (0, 1))
    start = time.process_time()
    apart = total_variations([a, b], [(0, 1)], column_sets(14, 3, Rng(0)))
    assert time.process_time() - start < 2
    assert apart.shape == (1, 364)


A, B = people(0, 400), people(1, 250)
B[:, 1] = (B[:, 1] + 1).clamp(max=4)


def test_column_shapes() -> None:
    alike = column_shapes(A, B, ORDERED)
    assert alike[1] == pytest.approx(1 - ks_2samp(A[:, 1].numpy(), B[:, 1].numpy()).statistic, abs=1e-12)
    shares = [np.bincount(table[:, 2].numpy(), minlength=3) / len(table) for table in (A, B)]
    assert alike[2] == pytest.approx(1 - np.abs(shares[0] - shares[1]).sum() / 2, abs=1e-12)
    assert column_shapes(A, A, ORDERED).tolist() == [1] * 4


def test_correlations() -> None:
    assert correlations(A) == pytest.approx(np.corrcoef(A.numpy().T.astype(float)), abs=1e-12)
    still = torch.cat([A, torch.ones(400, 1, dtype=torch.long)], 1)
    assert (correlations(still)[4] == 0).all()
    assert not np.isnan(correlations(still[:1])).any()


def test_pair_trends() -> None:
    ordered = (False, True, False, True)
    trends = pair_trends(A, B, ordered)
    of_a, of_b = (np.corrcoef(table[:, [1, 3]].numpy().T.astype(float))[0, 1] for table in (A, B))
    assert trends[1, 3] == pytest.approx(1 - abs(of_a - of_b) / 2, abs=1e-12)
    assert correlation_difference(A, B, ordered) == pytest.approx(abs(of_a - of_b), abs=1e-12)
    joint = [np.bincount((table[:, 0] * 5 + table[:, 1]).numpy(), minlength=10) / len(table) for table in (A, B)]
    assert trends[0, 1] == trends[1, 0] == pytest.approx(1 - np.abs(joint[0] - joint[1]).sum() / 2, abs=1e-12)
    assert mean_pair_trend(trends) == pytest.approx(np.mean([trends[i, j] for i in range(4) for j in range(i)]))
    assert mean_pair_trend(trends[:1, :1]) is None
    assert correlation_difference(A, B, ORDERED) is None


def test_valid_codes() -> None:
    codes = torch.tensor([[0, 4, 0, 0], [1, 5, 0, 0], [-1, 0, 0, 0], [1, 0, 2, 1]])
    assert is_valid_code(codes, COUNTS).tolist() == [
        [True] * 4,
        [True, False, True, True],
        [False] + [True] * 3,
        [True] * 4,
    ]
    assert valid_fraction(codes, COUNTS) == 0.5

    def rules(rows: torch.Tensor) -> torch.Tensor:
        assert is_valid_code(rows, COUNTS).all()
        return rows[:, 0] == rows[:, 3]

    assert valid_fraction(codes, COUNTS, rules) == 0.5
    assert valid_fraction(codes[1:2], COUNTS, rules) == 0
    assert valid_fraction(people(0, 50), COUNTS, lambda rows: rows[:, 0] < 0) == 0


NUMBERS = np.random.default_rng(0).lognormal(10.5, 0.7, 1500).round()
NUMBERS[:2] = 600_000, 420_000


def table(values: np.ndarray) -> RawTable:
    cells = np.array([[f"{value:.0f}", "x" if value > 30_000 else "y"] for value in values], dtype=object)
    return RawTable(cells, columns=("income", "kind"))


def drawn(schema: Schema) -> RawTable:
    """Return rows with the bins of the real ones, in which numbers are drawn evenly."""
    data = table_dataset(table(NUMBERS), schema)
    assert isinstance(data.modality, Table)
    return data.modality.cells(data.values)


def test_mean_lost_by_bins() -> None:
    wide = Schema(
        (Numerical("income", 0.0, 750_000.0, (20_000.0, 40_000.0, 80_000.0)), Categorical("kind", ("x", "y")))
    )
    (found,) = number_columns(drawn(wide), table(NUMBERS), wide)
    assert found.real.mean == pytest.approx(NUMBERS.mean())
    assert found.real.quantiles == pytest.approx(np.quantile(NUMBERS, (0.05, 0.5, 0.95)))
    assert found.is_far_off
    (row,) = numbers_grid([found]).rows
    assert row[0], row[-1] == ("income", "far off")
    assert row[2] == found.real.mean
    assert len(judge_numbers({"tv2": 0.01, "tv2_floor": 0.01, "numbers_off": "income"}).cautions) == 1


def test_bootstrap_is_not_far_off() -> None:
    """The means of two tables drawn from one law differ by four standard errors once in 16,000 times."""
    schema = Schema((Numerical("income", 0.0, 750_000.0), Categorical("kind", ("x", "y"))))
    again = np.random.default_rng(1).choice(NUMBERS, 300)
    assert not number_columns(table(again), table(NUMBERS), schema)[0].is_far_off


def test_detected_schema_of_a_tail() -> None:
    """Numbers that are drawn evenly within the bins of the draft have the mean and the deviation of the real ones."""
    schema = detect_schema(table(NUMBERS))
    column = schema.modelled[0]
    assert isinstance(column, Numerical)
    assert column.high / column.edges[-1] < 2.5
    (found,) = number_columns(drawn(schema), table(NUMBERS), schema)
    assert found.synthetic.mean == pytest.approx(found.real.mean, rel=0.05)
    assert found.synthetic.deviation == pytest.approx(found.real.deviation, rel=0.2)
    assert not found.is_far_off


def test_detected_number_of_bins() -> None:
    """61 numbers have a bin each where there are 50 rows for each, and else about equal shares."""
    for n, least, most in ((1500, 15, 21), (5000, 61, 61)):
        heights = np.random.default_rng(0).integers(145, 196, n)
        cells = np.array([[f"{one / 100:.2f}", "xy"[one % 2]] for one in heights], dtype=object)
        column = detect_schema(RawTable(cells, columns=("height", "kind"))).modelled[0]
        assert least <= column.num_codes <= most
