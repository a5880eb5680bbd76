"""How likely a model finds rows that it has not seen."""

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.data.modality import Dataset
from feller.draws import Draws
from feller.evaluate.comparison import pick
from feller.model import Model
from feller.simulate.decode import log_likelihood

MOST, AT_ONCE = 20_000, 2048
"""Rows that are asked about, and at once."""


def row_likelihood(model: Model, rows: Dataset) -> Float64[Tensor, " n"]:
    """Return log p of each row in nats, exact, with the columns in the order of the table."""
    device = next(model.network.parameters()).device
    tokens = model.description.modality.encode(rows.values).to(device)
    with torch.no_grad():
        parts = [log_likelihood(model.network.eval(), some, {}) for some in tokens.split(AT_ONCE)]
    return torch.cat(parts).cpu()


def surprise(model: Model, held_out: Dataset, draws: Draws) -> dict[str, float | str | None]:
    """Return `nll`, the mean of -log p over held-out rows; None where there are none."""
    if not len(held_out):
        return {"nll": None}
    return {"nll": -row_likelihood(model, pick(held_out, MOST, draws)).mean().item()}
