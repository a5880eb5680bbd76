"""Detection of synthetic rows, coverage, and utility by several learners."""

import pytest
import torch

from feller.core.rng import Rng
from feller.evaluation.tables.copy_metrics import shuffle_columns
from feller.evaluation.tables.detection import detection_auc, detection_metrics
from feller.evaluation.tables.marginal_distance import category_coverage, range_coverage
from feller.evaluation.tables.table_quality import table_quality
from feller.evaluation.tables.utility import task, utility
from tests.evaluation.tables import COUNTS, ORDERED, people

ROWS = people(0, 2_000)


def test_real_rows_are_not_detected() -> None:
    found = detection_metrics(people(1, 1_500), ROWS, COUNTS, ORDERED, Rng(0))
    assert found["detection_auc_low"] <= 0.5 + 0.02
    assert found["detection_auc"] == pytest.approx(0.5, abs=0.05)
    assert found["detection_auc_floor"] == pytest.approx(0.5, abs=0.05)
    assert found["detection_auc_independent"] > 0.6


def test_independent_columns_are_detected_as_well_as_can_be() -> None:
    """The best score is the likelihood ratio: for a coin and an answer that agree in 90 % against 50 % its area is 0.7.

    Of (agree, differ) the real shares are (0.9, 0.1), the shuffled ones (0.5, 0.5): 0.9 * 0.5 + (0.45 + 0.05) / 2.
    """
    coin = torch.randint(2, (6_000,), generator=torch.Generator().manual_seed(0))
    flip = torch.rand(6_000, generator=torch.Generator().manual_seed(1)) < 0.1
    rows = torch.stack([coin, coin ^ flip.long()], 1)
    made = shuffle_columns(rows[:3_000], Rng(0))
    assert detection_auc(made, rows[3_000:], (2, 2), (False, False)) == pytest.approx(0.7, abs=0.02)


def test_a_single_wrong_value_is_detected() -> None:
    made = people(1, 1_000)
    made[:, 2] = 0
    assert detection_auc(made, ROWS[:1_000], COUNTS, ORDERED) > 0.8


def test_too_few_rows_to_detect() -> None:
    found = detection_metrics(people(1, 1_500), ROWS[:90], COUNTS, ORDERED, Rng(0))
    assert found["detection_auc"] is found["detection_auc_floor"] is None
    assert set(found.values()) == {None}


def test_coverage() -> None:
    real = torch.tensor([[0, 1], [1, 2], [2, 6], [3, 10]])
    made = torch.tensor([[0, 3], [0, 5], [9, 20], [1, 4]])
    assert category_coverage(made, real, (False, True)) == pytest.approx(0.5)  # 0 and 1 of four
    assert range_coverage(made, real, (False, True)) == pytest.approx(0.8)  # bins 3 to 10 of 1 to 10
    assert range_coverage(made - 100, real, (True, True)) == 0
    assert category_coverage(made, real, (True, True)) is None
    assert range_coverage(made, real, (False, False)) is None


def test_a_class_that_the_forest_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three answers, the third has one row in 1,000; the forest sees 20 rows of them."""
    monkeypatch.setattr("feller.evaluation.tables.utility.FOREST_ROWS", 20)
    rows = people(0, 1_000)
    rows[0, 3] = 2
    scores = utility(task((*COUNTS[:3], 3), ORDERED, 3), rows, people(1, 500), 1, Rng(0))
    assert scores["forest"]["auc"] is not None
    assert scores["forest"]["auc"] > 0.6


def test_learners_and_references() -> None:
    numbers = table_quality(people(2, 1_500), ROWS, people(1, 1_000), COUNTS, ordered=ORDERED, target=3)
    for learner in ("boosted", "linear", "forest"):
        assert numbers[f"auc_{learner}"] == pytest.approx(numbers[f"auc_{learner}_real"], abs=0.03)
        assert numbers[f"auc_{learner}"] == pytest.approx(0.9, abs=0.03)
        assert numbers[f"auc_{learner}_independent"] < 0.65
    assert numbers["pair_trends_independent"] < numbers["pair_trends"] - 0.02
    assert numbers["category_coverage"] == numbers["range_coverage"] == numbers["category_coverage_floor"] == 1
