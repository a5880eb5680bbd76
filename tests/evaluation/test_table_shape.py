"""Shapes of columns and trends of pairs, against scipy, numpy and counts by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from feller.evaluation.tables.marginal_distance import (
    column_shapes,
    correlation_difference,
    correlations,
    inside,
    mean_pair_trend,
    pair_trends,
    valid_share,
)
from tests.evaluation.tables import COUNTS, ORDERED, people

A, B = people(0, 400), people(1, 250)
B[:, 1] = (B[:, 1] + 1).clamp(max=4)


def test_shapes() -> None:
    alike = column_shapes(A, B, ORDERED)
    assert alike[1] == pytest.approx(1 - ks_2samp(A[:, 1].numpy(), B[:, 1].numpy()).statistic, abs=1e-12)
    shares = [np.bincount(table[:, 2].numpy(), minlength=3) / len(table) for table in (A, B)]
    assert alike[2] == pytest.approx(1 - np.abs(shares[0] - shares[1]).sum() / 2, abs=1e-12)
    assert column_shapes(A, A, ORDERED).tolist() == [1] * 4


def test_order_makes_near_values_no_nearer_for_kinds() -> None:
    """All rows at 0 against all at 3: nothing is alike, in either way; half of them moved by one step: one half."""
    low, high = torch.zeros(10, 1, dtype=torch.long), torch.full((10, 1), 3)
    assert column_shapes(low, high, (True,)).tolist() == column_shapes(low, high, (False,)).tolist() == [0]
    spread, turned = torch.tensor([[0], [1], [2]]), torch.tensor([[1], [0], [1]])
    assert column_shapes(spread, turned, (True,))[0] == pytest.approx(2 / 3)
    assert column_shapes(spread, turned, (False,))[0] == pytest.approx(2 / 3)
    apart = torch.tensor([[0], [0], [1], [2]]), torch.tensor([[0], [1], [1], [1]])
    assert column_shapes(*apart, (True,))[0] == pytest.approx(0.75)
    assert column_shapes(*apart, (False,))[0] == pytest.approx(0.5)


def test_correlations() -> None:
    assert correlations(A) == pytest.approx(np.corrcoef(A.numpy().T.astype(float)), abs=1e-12)
    still = torch.cat([A, torch.ones(400, 1, dtype=torch.long)], 1)
    assert (correlations(still)[4] == 0).all()
    assert not np.isnan(correlations(still[:1])).any()


def test_trends() -> None:
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


def test_opposite_trends_have_nothing_in_common() -> None:
    up, down = torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0, 1], [1, 0]])
    assert pair_trends(up, down, (True, True))[0, 1] == pytest.approx(0, abs=1e-12)
    assert correlation_difference(up, down, (True, True)) == pytest.approx(2)


def test_validity() -> None:
    codes = torch.tensor([[0, 4, 0, 0], [1, 5, 0, 0], [-1, 0, 0, 0], [1, 0, 2, 1]])
    assert inside(codes, COUNTS).tolist() == [[True] * 4, [True, False, True, True], [False] + [True] * 3, [True] * 4]
    assert valid_share(codes, COUNTS) == 0.5

    def rules(rows: torch.Tensor) -> torch.Tensor:
        assert inside(rows, COUNTS).all()
        return rows[:, 0] == rows[:, 3]

    assert valid_share(codes, COUNTS, rules) == 0.5
    assert valid_share(codes[1:2], COUNTS, rules) == 0
    assert valid_share(people(0, 50), COUNTS, lambda rows: rows[:, 0] < 0) == 0
