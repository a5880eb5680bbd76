"""Divergence of true from predicted edit rates, the loss of edit flows."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.paths.edits.edit_path import EditPath, EditTarget, edit_rates_per_place


def edit_divergence(
    path: EditPath,
    prediction: dict[str, Tensor],
    x_t: Int64[Tensor, "b l"],
    t: Float[Tensor, " b"],
    target: EditTarget,
) -> Float[Tensor, " b"]:
    """Return the generalised KL divergence sum(R log(R / u) - R + u) over all edits, per unit of tau.

    R is the rate of an edit given the data, and u the predicted rate. Integrated over tau, the divergence is an upper
    bound on -log p(x_1) if the source does not depend on the data.

    Args:
        path: Path that relates the network's prediction to rates.
        prediction: Prediction of the network.
        x_t: State, padded.
        t: Time of each example.
        target: Rates of the edits that remain, of `path.sample_with_target`.
    """
    log_rates = path.log_rates(prediction, x_t, t)
    log_u = {
        "insert": log_rates.insert[..., None] + log_rates.insert_token.log_softmax(-1),
        "substitute": log_rates.substitute[..., None] + log_rates.substitute_token.log_softmax(-1),
        "delete": log_rates.delete,
    }
    total = edit_rates_per_place(log_rates, x_t, path.space.pad_token_id).sum(1)
    for name, log_rate in log_u.items():
        rate = target[name].to(log_rate.dtype)
        terms = torch.xlogy(rate, rate) - rate - torch.where(rate > 0, rate * log_rate, 0.0)
        total = total + terms.flatten(1).sum(1)
    return total
