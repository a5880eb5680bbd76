"""Target leakage: one column that alone predicts the target almost perfectly."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.tables.utility import PredictionTask, classification, regression

MAX_ROWS = 20_000
"""Maximum number of real rows that are used."""
MIN_ROWS = 100
"""Minimum number of real rows."""


@dataclass(frozen=True)
class Leakage:
    """Column that predicts the target best, with its score on rows that were not used to fit the predictor."""

    column: int
    """Index of the column."""
    score: float
    """Area under the ROC curve for classes, or R² for numbers."""


def strongest_column(task: PredictionTask, rows: Int64[Tensor, "n k"], rng: Rng) -> Leakage | None:
    """Return the column that alone predicts the target best; None if there are too few rows or no other column.

    The predictor of a column is the frequency of each class, or the mean of the target, in the rows with the same code,
    on one half of the rows; it is scored on the other half.

    Args:
        task: Prediction task.
        rows: Codes of real rows.
        rng: Random stream that halves the rows.
    """
    rows = task.with_answer(rows)
    order = torch.randperm(len(rows), generator=rng.stream("halves").shared_generator())[:MAX_ROWS]
    rows = rows[order]
    if len(rows) < MIN_ROWS or task.features.has_no_inputs:
        return None
    half = len(rows) // 2
    truth = task.truth(rows)
    scores = dict[int, float]()
    for j in range(rows.shape[1]):
        if j != task.features.target and (score := _score(task, rows[:, j].numpy(), truth, half)) is not None:
            scores[j] = score
    if not scores:
        return None
    best = max(scores, key=lambda j: scores[j])
    return Leakage(best, scores[best])


def _score(task: PredictionTask, codes: np.ndarray, truth: np.ndarray, half: int) -> float | None:
    size = int(codes.max()) + 1
    counts = np.bincount(codes[:half], minlength=size)
    if task.levels is not None:
        mean = truth[:half].mean()
        sums = np.bincount(codes[:half], weights=truth[:half] - mean, minlength=size)
        return regression((mean + sums / np.maximum(counts, 1))[codes[half:]], truth[half:])["r2"]
    classes = np.unique(truth[:half])
    if len(classes) < 2:
        return None
    frequencies = (
        np.stack(
            [
                np.bincount(codes[:half], weights=truth[:half] == c, minlength=size) + (truth[:half] == c).mean()
                for c in classes
            ],
            1,
        )
        / (counts + 1)[:, None]
    )
    return classification(frequencies[codes[half:]], classes, truth[half:], int(classes[0]))["auc"]
