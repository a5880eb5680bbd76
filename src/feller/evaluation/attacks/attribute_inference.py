"""Attribute inference attack: prediction of one cell of a row from the other cells of the row and the model."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.attacks.attack_scores import SELECTION_PURPOSE
from feller.evaluation.comparison import subsample
from feller.models.model import Model

MAX_ROWS, MAX_CODES = 500, 200
"""Maximum number of member rows, and of other rows; maximum number of categories of an attacked column."""


@dataclass(frozen=True)
class GuessAccuracy:
    """Accuracy of attribute inference on one column."""

    members: float
    """Accuracy on training rows."""
    others: float
    """Accuracy on other rows from the same distribution, which is possible without any leakage about single rows."""


def infer_codes(model: Model, rows: Dataset, column: int, count: int) -> Int64[Tensor, " n"]:
    """Return, for each row, the category index of a column that is most likely given the other columns.

    Args:
        model: Model with exact likelihoods.
        rows: Rows whose other columns are known; the cells of the predicted column are ignored.
        column: Index of the predicted column among the modelled columns.
        count: Number of categories of the column.
    """
    nlls = []
    for code in range(count):
        codes = rows.values.clone()
        codes[:, column] = code
        nlls.append(model.nll(replace(rows, values=codes)).cpu())
    return torch.stack(nlls).argmin(0)


def is_code_inferred(model: Model, rows: Dataset, column: int, count: int) -> Bool[Tensor, " n"]:
    """Return True for each row in which the most likely category of a column, given the others, is the true one.

    Arguments are as for `infer_codes`; `rows` holds the true cells.
    """
    return infer_codes(model, rows, column, count) == rows.values[:, column].cpu()


def infer_columns(
    model: Model, members: Dataset, others: Dataset, counts: tuple[int, ...], rng: Rng
) -> tuple[GuessAccuracy | None, ...]:
    """Compute the accuracy of attribute inference per column; None for columns with more than MAX_CODES categories.

    Args:
        model: Attacked model.
        members: Training rows; at most MAX_ROWS are used.
        others: Rows outside the training set; at most MAX_ROWS are used.
        counts: Number of categories of each column.
        rng: Random streams that choose the rows.
    """
    groups = (members, "members"), (others, "others")
    subsets = [subsample(data, MAX_ROWS, rng.fold_in(name), SELECTION_PURPOSE) for data, name in groups]
    results: list[GuessAccuracy | None] = []
    for column, count in enumerate(counts):
        if count > MAX_CODES:
            results.append(None)
            continue
        accuracies = [is_code_inferred(model, data, column, count).double().mean().item() for data in subsets]
        results.append(GuessAccuracy(*accuracies))
    return tuple(results)
