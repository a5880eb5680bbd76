"""Means and zeros that leave padding out."""

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.pytree import pad_right


def mean_over_entries(entries: Tensor, valid: Tensor | None = None) -> Float[Tensor, " b"]:
    """Average all entries of an example but padding; `valid` [b, n] marks the second axis."""
    if valid is None:
        return entries.mean(tuple(range(1, entries.ndim))) if entries.ndim > 1 else entries
    weight = pad_right(valid, entries).expand(entries.shape).to(entries.dtype)
    total = torch.where(weight > 0, entries, torch.zeros_like(entries))[:, None].flatten(1).sum(1)
    return total / weight[:, None].flatten(1).sum(1).clamp(min=1)


def blank(leaf: Tensor, valid: Tensor) -> Tensor:
    """Put zeros where `valid` [b, n] is False: zero times a padded NaN would be NaN in the backward pass."""
    return torch.where(pad_right(valid, leaf), leaf, torch.zeros((), dtype=leaf.dtype, device=leaf.device))
