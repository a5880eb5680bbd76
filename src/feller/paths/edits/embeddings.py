"""Posterior of the slots that the tokens of a sequence come from, by counting all embeddings in the data."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional as F


def slot_posterior(
    match: Bool[Tensor, "b l n"], num_tokens: Int64[Tensor, " b"], num_slots: Int64[Tensor, " b"]
) -> tuple[Float64[Tensor, "b l1 n"], Float64[Tensor, "b l n"]]:
    """Return the probability that each slot is missing in each gap, and that each slot holds each token.

    All order-preserving maps from tokens to matching slots have equal probability. The number of maps of the first i
    tokens into the first s slots obeys the recursion of subsequence counts, here of their logarithms.

    Args:
        match: True where token i may come from slot s.
        num_tokens: Number of tokens of each sequence, at most l.
        num_slots: Number of slots of each sequence, at most n.
    """
    length, n = match.shape[1:]
    tokens, slots = (torch.arange(size, device=match.device) for size in (length, n))
    is_used = (slots < num_slots[:, None])[:, None]
    match = match & (tokens < num_tokens[:, None])[:, :, None] & is_used
    log_match = torch.where(match, 0.0, -torch.inf).double()
    column = _log_one_hot(torch.zeros_like(num_tokens), length + 1)
    before = []  # for each slot, [b, l + 1]: maps of the first i tokens into the slots before it
    for s in range(n):
        before.append(column)
        column = torch.logaddexp(column, F.pad(column[:, :-1] + log_match[:, :, s], (1, 0), value=-torch.inf))
    column = _log_one_hot(num_tokens, length + 1)
    after = []  # maps of the tokens after the first i into the slots after it
    for s in range(n - 1, -1, -1):
        after.append(column)
        moved = torch.logaddexp(column, F.pad(column[:, 1:] + log_match[:, :, s], (0, 1), value=-torch.inf))
        column = torch.where(is_used[:, :, s], moved, column)
    prefix, suffix = torch.stack(before, 2), torch.stack(after[::-1], 2)
    missing = prefix + suffix
    held = prefix[:, :-1] + log_match + suffix[:, 1:]
    total = torch.logaddexp(missing.logsumexp(1), held.logsumexp(1))[:, None]
    return ((missing - total).exp() * is_used).nan_to_num(nan=0.0), (held - total).exp().nan_to_num(nan=0.0)


def _log_one_hot(index: Int64[Tensor, " b"], size: int) -> Float64[Tensor, "b size"]:
    return F.one_hot(index, size).double().log()


def one_hot_tokens(x: Int64[Tensor, "b n"], vocab_size: int) -> Float64[Tensor, "b n K"]:
    """Return the one-hot vectors of tokens, and zeros for padding."""
    return F.one_hot(x.clamp(max=vocab_size), vocab_size + 1)[..., :vocab_size].double()
