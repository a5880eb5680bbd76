"""A column that gives the target away."""

import pytest
import torch

from feller.core.rng import Rng
from feller.evaluation.tables.target_leakage import strongest_column
from feller.evaluation.tables.utility import task
from tests.evaluation.tables import COUNTS, ORDERED, people

ROWS = people(0, 2_000)


def test_the_answer_follows_the_number() -> None:
    """The answer is right for 90 % of the rows given the number: its area is 0.9, far above that of the coin."""
    found = strongest_column(task(COUNTS, ORDERED, 3), ROWS, Rng(0))
    assert found is not None
    assert found.column == 1
    assert found.score == pytest.approx(0.9, abs=0.03)


def test_a_copy_of_the_target() -> None:
    rows = torch.cat([ROWS, 1 - ROWS[:, 3:]], 1)
    found = strongest_column(task((*COUNTS, 2), (*ORDERED, False), 3), rows, Rng(0))
    assert found is not None
    assert (found.column, found.score) == (4, 1.0)


def test_a_numeric_target() -> None:
    """The number is a fair integer of 0 to 3 plus the coin: the coin explains 0.25 / 1.5 of its variance."""
    keep = torch.tensor([0, 1])
    found = strongest_column(task(COUNTS[:2], ORDERED[:2], 1), ROWS[:, keep], Rng(0))
    assert found is not None
    assert found.column == 0
    assert found.score == pytest.approx(0.25 / 1.5, abs=0.04)


def test_nothing_to_predict_from() -> None:
    assert strongest_column(task(COUNTS[:1], ORDERED[:1], 0), ROWS[:, :1], Rng(0)) is None
    assert strongest_column(task(COUNTS, ORDERED, 3), ROWS[:50], Rng(0)) is None
