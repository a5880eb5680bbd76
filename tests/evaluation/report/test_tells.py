"""The page of a network that tells of data: its numbers beside one answer for all, and pictures of told and true."""

import numpy as np
import torch

from feller.data.modality import Target
from feller.evaluation.regressor import errors
from feller.evaluation.report.metrics import leading, measure, tells
from feller.evaluation.report.prediction_plots import classes_against, numbers_against
from feller.evaluation.report.verdict import verdict

F64 = torch.float64
ONE, TWO = Target(("y",), (0.0,), (1.0,)), Target(("a", "b_c"), (0.0, 1.0), (1.0, 1.0))
TOLD = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64)
TRUE = torch.tensor([[1.5, 2.0], [2.0, 8.0]], dtype=F64)


def test_one_number() -> None:
    numbers = errors(ONE, TOLD[:, :1], TRUE[:, :1])
    assert tells(numbers)
    assert leading(numbers) == ["mae", "r2"]
    assert measure("mae", numbers).floor == "mae_constant"
    assert verdict(numbers) == "The mean absolute error is 0.750; telling always the mean would make it 1.75."


def test_several_numbers_keep_their_names() -> None:
    numbers = errors(TWO, TOLD, TRUE)
    assert leading(numbers) == ["mae_a", "r2_a", "mae_b_c", "r2_b_c"]
    assert measure("mae_b_c", numbers).label == "mean absolute error, b_c"
    assert measure("mae_b_c", numbers).floor == "mae_constant_b_c"
    assert measure("r2_a", numbers).is_share
    assert verdict(numbers).startswith("The mean absolute error, a is 0.750")


def test_classes_are_not_taken_for_samples() -> None:
    classes = Target(("label",), classes=("x", "y"))
    numbers = errors(classes, TOLD, torch.tensor([[1.0], [0.0]], dtype=F64))
    assert leading(numbers) == ["accuracy", "auc"]
    assert measure("accuracy", numbers).label == "told right"
    assert "of the examples are told right" in verdict(numbers)
    assert measure("accuracy", {"accuracy": 0.5}).label == "read as asked"
    assert not tells({"accuracy": 0.5, "judge_accuracy": 0.9})


def test_pictures() -> None:
    picture = numbers_against(TOLD.numpy(), TRUE.numpy(), ("a", "$b_c"))
    assert picture.size == (800, 400)
    told = np.array([0, 1, 1, 1])
    table = np.asarray(classes_against(told, np.array([0, 1, 1, 0]), ("x", "y")).convert("L")).astype(float)
    dark = (table < 100).mean(1)  # the second class is always told right: its row holds the darkest field
    assert dark[len(dark) // 2 :].sum() > dark[: len(dark) // 2].sum()
