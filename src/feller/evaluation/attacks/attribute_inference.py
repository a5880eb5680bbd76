"""What a cell holds, guessed by somebody who knows all others of its row and has the model."""

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
"""Rows of each kind that are guessed about, and codes of a column beyond which it is left out."""


@dataclass(frozen=True)
class GuessAccuracy:
    """How often a column is guessed right."""

    members: float
    """Of rows that were learned from."""
    others: float
    """Of others of the same law: what the model knows of people in general, and no row's own."""


def infer_codes(model: Model, rows: Dataset, column: int, count: int) -> Int64[Tensor, " n"]:
    """Return the code of a column that the model finds likeliest beside the others of each row.

    Args:
        model: Whose code lengths are exact.
        rows: What is known, but for the column.
        column: Its place among those that are modelled.
        count: Its codes.
    """
    lengths = []
    for code in range(count):
        codes = rows.values.clone()
        codes[:, column] = code
        lengths.append(model.nll(replace(rows, values=codes)).cpu())
    return torch.stack(lengths).argmin(0)


def is_code_inferred(model: Model, rows: Dataset, column: int, count: int) -> Bool[Tensor, " n"]:
    """Tell in which rows the likeliest code of a column is the true one."""
    return infer_codes(model, rows, column, count) == rows.values[:, column].cpu()


def infer_columns(
    model: Model, members: Dataset, others: Dataset, counts: tuple[int, ...], rng: Rng
) -> tuple[GuessAccuracy | None, ...]:
    """Guess each column of rows of both kinds, MOST_ROWS of each; None for columns of more than MOST_CODES codes.

    Args:
        model: That is attacked.
        members: Rows that it was learned from.
        others: Rows that it was not.
        counts: Codes of each column.
        rng: Chooses the rows.
    """
    parts = (members, "members"), (others, "others")
    some = [subsample(data, MAX_ROWS, rng.fold_in(name), SELECTION_PURPOSE) for data, name in parts]
    found: list[GuessAccuracy | None] = []
    for column, count in enumerate(counts):
        if count > MAX_CODES:
            found.append(None)
            continue
        right = [is_code_inferred(model, data, column, count).double().mean().item() for data in some]
        found.append(GuessAccuracy(*right))
    return tuple(found)
