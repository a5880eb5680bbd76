"""Audits of copies, against brute force, scikit-learn and tables that must or must not raise an alarm."""

import time

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from feller.core.rng import Rng
from feller.evaluation.tables import copy_metrics
from feller.evaluation.tables.copy_metrics import (
    bootstrap_rows,
    copied_fraction,
    dcr_fraction,
    membership_auc,
    nearest_hamming,
)
from tests.evaluation.tables import any_codes

COUNTS = (8,) * 12


def by_hand(rows: torch.Tensor, known: torch.Tensor) -> list[int]:
    return [(known != row).sum(1).min().item() for row in rows]


@pytest.mark.parametrize("counts", [(2, 3, 2), (300, 2, 300), (70_000, 3), (2,) * 300])
def test_nearest_hamming(counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_metrics, "BLOCK", 640)
    rows, known = any_codes(0, 33, counts), any_codes(1, 57, counts)
    known[3] = rows[5]
    found = nearest_hamming(rows, known)
    assert found.tolist() == by_hand(rows, known)
    assert found[5] == 0
    assert nearest_hamming(rows, rows[:1] + 1_000_000).tolist() == [len(counts)] * 33


def test_copied_fraction() -> None:
    known = torch.tensor([[0, 1, 2], [2, 1, 0]])
    assert copied_fraction(torch.tensor([[0, 1, 2], [0, 1, 0], [2, 1, 0], [2, 1, 2]]), known) == 0.5
    assert copied_fraction(known[:1], known[1:]) == 0
    rows, train = any_codes(0, 500, (3, 3, 400)), any_codes(1, 400, (3, 3, 400))
    there = set(map(tuple, train.tolist()))
    assert copied_fraction(rows, train) == np.mean([tuple(row) in there for row in rows.tolist()])


def test_dcr_fraction() -> None:
    """Of four rows one is nearer to the table, one to the other, two are as near to both."""
    train, held_out = torch.tensor([[0, 0, 0]]), torch.tensor([[1, 1, 1]])
    rows = torch.tensor([[0, 0, 1], [1, 1, 0], [0, 1, 2], [2, 2, 2]])
    assert dcr_fraction(rows, train, held_out, Rng(0)) == 0.5
    assert dcr_fraction(rows[:1], train, held_out, Rng(0)) == 1
    assert dcr_fraction(rows[1:], train, held_out, Rng(0)) == pytest.approx(1 / 3)


def test_membership_auc() -> None:
    train, held_out, rows = any_codes(0, 90, (3, 3, 3)), any_codes(1, 90, (3, 3, 3)), any_codes(2, 12, (3, 3, 3))
    score = [-distance for distance in by_hand(train, rows) + by_hand(held_out, rows)]
    expected = roc_auc_score([1] * 90 + [0] * 90, score)
    assert membership_auc(rows, train, held_out, Rng(0)) == pytest.approx(expected, abs=1e-12)
    assert membership_auc(train, train, held_out + 9, Rng(0)) == 1


def test_copies_and_fresh_rows() -> None:
    """Of 8^12 possible rows a copy is at 0, others a few columns away; an error of 0.05 is four deviations or more."""
    train, held_out, fresh = (any_codes(seed, 2_000, COUNTS) for seed in (0, 1, 2))
    again = bootstrap_rows(train, 2_000, Rng(3))
    assert dcr_fraction(again, train, held_out, Rng(4)) == 1
    present = len(again.unique(dim=0)) / 2_000
    assert membership_auc(again, train, held_out, Rng(4)) == pytest.approx(present + (1 - present) / 2, abs=0.03)
    assert dcr_fraction(fresh, train, held_out, Rng(4)) == pytest.approx(0.5, abs=0.05)
    assert membership_auc(fresh, train, held_out, Rng(4)) == pytest.approx(0.5, abs=0.05)


def test_training_table_is_subsampled() -> None:
    """Twenty times as many rows are nearer by chance alone; among equally many they are not."""
    train, held_out, fresh = any_codes(0, 10_000, COUNTS), any_codes(1, 500, COUNTS), any_codes(2, 2_000, COUNTS)
    nearer = nearest_hamming(fresh, train) < nearest_hamming(fresh, held_out)
    assert nearer.mean() > 0.6
    assert dcr_fraction(fresh, train, held_out, Rng(0)) == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_speed() -> None:
    train, held_out, rows = (any_codes(seed, n, (8,) * 14) for seed, n in enumerate((32_561, 16_281, 32_561)))
    start = time.process_time()
    dcr_fraction(rows, train, held_out, Rng(0))
    membership_auc(rows, train, held_out, Rng(0))
    assert time.process_time() - start < 20
