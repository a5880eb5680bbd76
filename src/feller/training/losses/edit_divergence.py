"""Divergence of true from predicted edit rates, the loss of edit flows."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.paths.edits.edit_path import EditPath, EditTarget, edit_rates_per_place


def edit_divergence(
    path: EditPath,
    prediction: dict[str, Tensor],
    x_t: Int64[Tensor, "b l"],
    t: Float[Tensor, " b"],
    target: EditTarget,
) -> Float[Tensor, " b"]:
    """Return the generalised KL divergence sum(R log(R / u) - R + u) over all edits, per unit of tau.

    R is the rate of an edit given source and data, and u the predicted rate. An edit inserts a token into a gap, or
    substitutes or deletes the token at a position: the rates R of slots that make the same edit add. Integrated over
    tau, the divergence is an upper bound on -log p(x_1) for sources that do not depend on the data.

    Args:
        path: Path that relates the network's prediction to rates.
        prediction: Prediction of the network.
        x_t: State, padded.
        t: Time of each example.
        target: Remaining edits, of `path.sample_with_target`.
    """
    log_rates = path.log_rates(prediction, x_t, t)
    position, token = target["position"], target["token"]
    dtype = log_rates.insert.dtype
    insert, substitute, delete = (target[name].to(dtype) for name in ("insert", "substitute", "delete"))
    inserted = torch.where(insert > 0, token, 0)
    log_u = (
        (insert, _at(log_rates.insert, position) + _log_prob_at(log_rates.insert_token, position, inserted)),
        (substitute, _at(log_rates.substitute, position) + _log_prob_at(log_rates.substitute_token, position, token)),
        (delete, _at(log_rates.delete, position)),
    )
    expected_log = sum(torch.where(rate > 0, rate * value, 0.0).sum(1) for rate, value in log_u)
    inserts = _sum_of_equal(insert, position * log_rates.insert_token.shape[-1] + inserted)
    constant = sum((torch.xlogy(rate, rate) - rate).sum(1) for rate in (inserts, substitute, delete))
    total = edit_rates_per_place(log_rates, x_t, path.space.pad_token_id).sum(1)
    return total + constant - expected_log


def _at(values: Float[Tensor, "b places"], position: Int64[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    return values.gather(1, position)


def _log_prob_at(
    logits: Float[Tensor, "b places V"], position: Int64[Tensor, "b n"], token: Int64[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    """Return the log probability of a token at a position, for each slot."""
    rows = torch.arange(len(logits), device=logits.device)[:, None]
    return -F.cross_entropy(logits[rows, position].movedim(-1, 1), token, reduction="none")


def _sum_of_equal(rate: Float[Tensor, "b n"], key: Int64[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return the sums of the rates with equal keys in a row, in any order; other entries are 0."""
    order = key.argsort(1)
    is_new = key.gather(1, order).diff(dim=1, prepend=torch.full_like(key[:, :1], -1)) != 0
    return torch.zeros_like(rate).scatter_add(1, is_new.long().cumsum(1) - 1, rate.gather(1, order))
