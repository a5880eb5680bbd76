"""The rows of which a training told most and least, as pictures."""

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.report.reconstructions import reconstructions_picture
from feller.evaluation.report.wording import brief

SHOWN = 5
"""Of the most exposed rows, and of the least."""


def exposed_picture(data: Dataset, rows: Int64[Tensor, " n"], least: Float[Tensor, " n"]) -> Image.Image | None:
    """Draw the most exposed rows above the least exposed ones, with their bounds; None where rows are no pictures.

    Args:
        data: What was learned from.
        rows: Numbers of those that were watched.
        least: Least mean squared error for each.
    """
    if not isinstance(data.modality, Images):
        return None
    order, shown = least.argsort(), min(SHOWN, len(rows) // 2)
    if not shown:
        return None
    ends = torch.cat([order[:shown], order[-shown:]])
    values, names = data.values[rows[ends]], [brief(float(f"{value:.3g}")) for value in least[ends].tolist()]
    return reconstructions_picture(data.modality, [(values[:shown], names[:shown]), (values[shown:], names[shown:])])
