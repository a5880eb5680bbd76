"""Application of insertions, deletions and substitutions to padded sequences."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.spaces.sequences import Sequences


class Edits(NamedTuple):
    """Edits of sequences. Position 0 is the start, position j the j-th token, and gap j follows position j."""

    counts: Int64[Tensor, "b places"]
    """Number of tokens to insert into each gap."""
    inserted: Int64[Tensor, " m"]
    """Token of each gap with a positive count, in order."""
    is_deleted: Bool[Tensor, "b places"]
    is_substituted: Bool[Tensor, "b places"]
    substituted: Int64[Tensor, " k"]
    """Token that replaces each substituted token, in order."""


def apply_edits(
    x: Int64[Tensor, "b l"], edits: Edits, space: Sequences, *, inserts_masks: bool
) -> Int64[Tensor, "b l"]:
    """Return the edited sequences; insertions beyond the maximum length are left out, from the end of the sequence.

    With `inserts_masks`, all inserted tokens are the mask token; otherwise at most one token is inserted per gap.
    """
    pad, length = space.pad_token_id, x.shape[1]
    places = torch.nn.functional.pad(x, (1, 0), value=pad)
    values = places.masked_scatter(edits.is_substituted, edits.substituted)
    is_kept = (places != pad) & ~edits.is_deleted
    room = length - is_kept.sum(1, keepdim=True)
    cumulative = torch.minimum(edits.counts.cumsum(1), room)
    counts = cumulative.diff(dim=1, prepend=torch.zeros_like(room))
    ends = (is_kept + counts).cumsum(1)
    starts = ends - is_kept.long() - counts
    out = torch.full((len(x), length + 1), pad, device=x.device)  # the last column takes what is not written
    if inserts_masks:
        is_used = torch.arange(length + 1, device=x.device) < ends[:, -1:]
        out = out.masked_fill(is_used, space.mask_token_id)
    else:
        inserted = torch.full_like(places, pad).masked_scatter(edits.counts > 0, edits.inserted)
        out.scatter_(1, (starts + is_kept).where(counts > 0, length), inserted)
    return out.scatter(1, starts.where(is_kept, length), values)[:, :length]
