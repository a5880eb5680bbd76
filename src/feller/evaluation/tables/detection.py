"""Detection of synthetic rows: area under the ROC curve of a classifier of synthetic against real rows."""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.attacks.attack_scores import roc_auc
from feller.evaluation.intervals import auc_interval
from feller.evaluation.tables.copy_metrics import shuffle_columns
from feller.evaluation.tables.utility import FeatureEncoder, PredictionTask, boosted_predictor

MAX_ROWS, MIN_ROWS = 3_000, 50
"""Maximum and minimum number of rows of each kind."""


def detection_auc(
    first: Int64[Tensor, "n k"], second: Int64[Tensor, "n k"], counts: tuple[int, ...], is_ordered: tuple[bool, ...]
) -> float:
    """Return the area under the ROC curve of boosted trees that tell two tables of equal size apart; 0.5 is guessing.

    The trees are trained on one half of the rows of both tables and tested on the other, and the other way around.
    """
    task = PredictionTask(FeatureEncoder((*counts, 2), (*is_ordered, False), len(counts)), 2)
    labelled = [
        torch.cat([table, torch.full((len(table), 1), label, dtype=table.dtype, device=table.device)], 1)
        for label, table in enumerate((second, first))
    ]
    areas = []
    for fold in (0, 1):
        train, test = (torch.cat([table[part::2] for table in labelled]) for part in (fold, 1 - fold))
        scores, truth = boosted_predictor(task, train)(test)[:, 1], test[:, -1].cpu().numpy()
        areas.append(roc_auc(scores[truth == 1], scores[truth == 0]))
    return float(np.mean(areas))


def detection_metrics(
    synthetic: Int64[Tensor, "n k"],
    real: Int64[Tensor, "m k"],
    counts: tuple[int, ...],
    is_ordered: tuple[bool, ...],
    rng: Rng,
) -> dict[str, float | str | None]:
    """Return the detection of synthetic rows, with its interval, and that of real rows and of independent columns.

    All are told from the same half of the real rows, by as many rows; the other half is the real reference.
    """
    size = min(len(synthetic), len(real) // 2, MAX_ROWS)
    names = ("detection_auc", "detection_auc_floor", "detection_auc_independent")
    if size < MIN_ROWS:
        return dict.fromkeys((*names, "detection_auc_low", "detection_auc_high"))
    order = torch.randperm(len(real), generator=rng.stream("halves").shared_generator())
    first, second = real[order[:size]], real[order[size : 2 * size]]
    made = synthetic[torch.randperm(len(synthetic), generator=rng.stream("made").shared_generator())[:size]]
    tables = (made, first, shuffle_columns(first, rng))
    areas = [detection_auc(table, second, counts, is_ordered) for table in tables]
    low, high = auc_interval(areas[0], size, size)
    return {**dict(zip(names, areas, strict=True)), "detection_auc_low": low, "detection_auc_high": high}
