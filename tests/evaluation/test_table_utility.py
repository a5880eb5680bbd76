"""Utility: models trained on one table, tested on another."""

import math
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.evaluation.tables.table_quality import table_quality
from feller.evaluation.tables.utility import (
    LEARNERS,
    FeatureEncoder,
    boosting,
    classification,
    regression,
    task,
    utility,
)
from tests.errors import refuses
from tests.evaluation.tables import COUNTS, ORDERED, any_codes, people

ABOUT = task(COUNTS, ORDERED, 3)


def test_feature_encoder() -> None:
    features = FeatureEncoder((2, 4, 3, 2), (False, True, False, True), 3)
    codes = torch.tensor([[1, 3, 0, 0], [0, 1, 2, 1]])
    assert features.unscaled(codes).toarray().tolist() == [[0, 1, 1, 0, 0, 3], [1, 0, 0, 0, 1, 1]]
    assert features.scaled(codes, codes).toarray()[:, 5].tolist() == [1, -1]
    assert features.scaled(codes[:1], codes[:1]).toarray()[0, 5] == 0
    assert FeatureEncoder((2, 4), (True, True), 1).unscaled(codes[:, :2]).toarray().tolist() == [[1], [0]]
    assert FeatureEncoder((2, 4), (False, True), 1).unscaled(codes[:, :2]).toarray().tolist() == [[0, 1], [1, 0]]
    assert FeatureEncoder((2,), (False,), 0).unscaled(codes[:, :1]).shape == (2, 0)


@pytest.mark.parametrize("kind", LEARNERS)
def test_utility_of_a_known_distribution(kind: str) -> None:
    """One answer in ten is flipped, so the best accuracy is 0.9 (error 0.0067); an area follows from the law."""
    scores = utility(ABOUT, people(0, 2_000), people(1, 2_000), 1, Rng(0))[kind]
    high = people(1, 2_000)[:, 1] >= 3
    best = roc_auc_score(people(1, 2_000)[:, 3], high)
    assert scores["accuracy"] == pytest.approx(0.9, abs=0.03)
    assert scores["auc"] == pytest.approx(best, abs=0.03)
    assert scores["f1"] == pytest.approx(f1_score(people(1, 2_000)[:, 3], high), abs=0.03)


def test_utility_of_noise() -> None:
    scores = utility(ABOUT, any_codes(0, 2_000, COUNTS), people(1, 2_000), 1, Rng(0))
    for kind in scores.values():
        assert kind["auc"] == pytest.approx(0.5, abs=0.25)
    assert scores["linear"]["auc"] < 0.8


def test_missing_xgboost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    assert boosting().startswith("scikit-learn ")
    scores = utility(ABOUT, people(0, 1_000), people(1, 1_000), 1, Rng(0))["boosted"]
    assert scores["accuracy"] == pytest.approx(0.9, abs=0.04)
    numbers = task(COUNTS, ORDERED, 1)
    assert utility(numbers, people(0, 1_000), people(1, 1_000), 0, Rng(0))["boosted"]["r2"] > 0.3


def test_one_class() -> None:
    alike = people(0, 300)
    alike[:, 3] = 1
    nothing = dict.fromkeys(("auc", "accuracy", "f1"))
    assert utility(ABOUT, alike, people(1, 300), 1, Rng(0)) == dict.fromkeys(LEARNERS, nothing)
    tested = utility(ABOUT, people(1, 300), alike, 1, Rng(0))["linear"]
    assert tested["auc"] is None
    assert 0 < tested["accuracy"] < 1


def test_class_missing_in_training() -> None:
    """The third kind is missing among what was learned from: its rows are wrong, and its area is guessing."""
    chances, classes = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]), np.array([0, 2])
    scores = classification(chances, classes, np.array([0, 2, 1, 2]), 1)
    assert scores["accuracy"] == 0.75
    assert scores["auc"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert scores["f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_multiclass_auc_matches_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    chances, truth = draws.dirichlet([1, 1, 1], 200), draws.integers(0, 3, 200)
    expected = roc_auc_score(truth, chances, multi_class="ovr", average="macro")
    assert classification(chances, np.arange(3), truth, 0)["auc"] == pytest.approx(expected, abs=1e-12)


def test_f1_of_the_rarer_class() -> None:
    chances, truth = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]), np.array([0, 1, 0])
    assert classification(chances, np.arange(2), truth, 1)["f1"] == pytest.approx(2 / 3)
    assert classification(chances, np.arange(2), truth, 0)["f1"] == pytest.approx(2 / 3)
    assert classification(chances, np.arange(2), np.array([0, 1, 1]), 1)["f1"] == 1


def test_f1_with_a_synthetic_class() -> None:
    """Real rows have two answers; whoever also learned of a third, which nobody told, tells them no better."""
    truth, plain = np.array([0, 0, 0, 0, 1, 1]), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 2 + [[0.7, 0.3]])
    third = np.hstack([plain, np.full((6, 1), 0.05)])
    alone, other = classification(plain, np.arange(2), truth, 1), classification(third, np.arange(3), truth, 1)
    assert alone == other
    assert alone["f1"] == pytest.approx(0.5)  # of class 1: one found of two, and one told in vain


def test_f1_of_quality_with_a_synthetic_class() -> None:
    """The target has a third word, for all others, which synthetic rows have, and no real row has."""
    train, unseen = people(0, 1_500), people(1, 600)
    synthetic = people(2, 1_500)
    synthetic[:30, 3] = 2
    counts = (*COUNTS[:3], 3)
    numbers = table_quality(synthetic, train, unseen, counts, ordered=(*ORDERED[:3], False), target=3, rng=Rng(0))
    for kind in ("boosted", "linear"):
        assert numbers[f"f1_{kind}"] == pytest.approx(numbers[f"f1_{kind}_real"], abs=0.03)
    train[:2, 3] = 2  # the rarest word of those that were learned is not what real rows are asked for
    again = table_quality(synthetic, train, unseen, counts, ordered=(*ORDERED[:3], False), target=3, rng=Rng(0))
    assert again["f1_linear_real"] > 0.5


def test_regression_scores() -> None:
    scores = regression(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 5.0]))
    assert scores == {"r2": pytest.approx(1 - 2 / 8), "mae": pytest.approx(2 / 3)}
    assert regression(np.ones(2), np.ones(2)) == {"r2": None, "mae": 0.0}


def test_mae_in_units_of_the_column() -> None:
    """The number is 0 to 3 plus a coin: what coin and answer tell of it; units are tens, one level is not known."""
    levels = (0.0, 10.0, 20.0, 30.0, math.nan)
    about, tens = task(COUNTS, ORDERED, 1), task(COUNTS, ORDERED, 1, levels)
    train, test = people(0, 3_000), people(1, 3_000)
    assert (tens.with_answer(test)[:, 1] < 4).all()
    rest = train[train[:, 1] < 4], test[test[:, 1] < 4]
    for kind in ("boosted", "linear"):
        plain, scaled = utility(about, *rest, 0, Rng(0))[kind], utility(tens, train, test, 0, Rng(0))[kind]
        assert scaled["r2"] == pytest.approx(plain["r2"], abs=0.01)
        assert scaled["mae"] == pytest.approx(10 * plain["mae"], rel=0.02)
        assert 0.3 < plain["r2"] < 0.8


def test_task_levels() -> None:
    assert task((2, 3, 3), (True, True, False), 0).levels is None
    assert task((2, 3, 3), (True, True, False), 1).levels == (0.0, 1.0, 2.0)
    assert task((2, 3, 3), (True, True, False), 2).levels is None


def test_invalid_tasks() -> None:
    with refuses(UsageError, found="4"):
        task(COUNTS, ORDERED, 4)
    with refuses(UsageError, found="2"):
        task(COUNTS, ORDERED, 1, (0.0, 1.0))
