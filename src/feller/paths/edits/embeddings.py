"""Posterior of the slots that the tokens of a sequence come from, by counting all embeddings in the data."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

MAX_SLOTS = 1000
"""Maximum number of slots, for which the number of maps, at most 2^n, is a finite float64."""


def slot_posterior(
    match: Bool[Tensor, "b l n"], num_tokens: Int64[Tensor, " b"], num_slots: Int64[Tensor, " b"]
) -> tuple[Float64[Tensor, "b l1 n"], Float64[Tensor, "b l n"]]:
    """Return the probability that each slot is missing in each gap, and that each slot holds each token.

    All order-preserving maps from tokens to matching slots have equal probability. The number of maps of the first i
    tokens into the first s slots obeys the recursion of subsequence counts.

    Args:
        match: True where token i may come from slot s.
        num_tokens: Number of tokens of each sequence, at most l.
        num_slots: Number of slots of each sequence, at most n, which is at most `MAX_SLOTS`.
    """
    length, n = match.shape[1:]
    tokens, slots = (torch.arange(size, device=match.device) for size in (length, n))
    is_used = (slots < num_slots[:, None])[:, None]
    weight = (match & (tokens < num_tokens[:, None])[:, :, None] & is_used).double()
    columns = weight.unbind(2)
    count = F.one_hot(torch.zeros_like(num_tokens), length + 1).double()
    before = [count]  # for each slot, [b, l + 1]: maps of the first i tokens into the slots before it
    for column in columns[:-1]:
        count = count + F.pad(count[:, :-1] * column, (1, 0))
        before.append(count)
    count = F.one_hot(num_tokens, length + 1).double()
    after = [count]  # maps of the tokens after the first i into the slots after it
    for column in columns[:0:-1]:
        count = count + F.pad(count[:, 1:] * column, (0, 1))
        after.append(count)
    prefix, suffix = torch.stack(before, 2), torch.stack(after[::-1], 2)
    missing = prefix * suffix * is_used
    held = prefix[:, :-1] * weight * suffix[:, 1:]
    total = (missing.sum(1) + held.sum(1)).clamp(min=1)[:, None]
    return missing / total, held / total


def one_hot_tokens(x: Int64[Tensor, "b n"], vocab_size: int) -> Float64[Tensor, "b n K"]:
    """Return the one-hot vectors of tokens, and zeros for padding."""
    return F.one_hot(x.clamp(max=vocab_size), vocab_size + 1)[..., :vocab_size].double()
