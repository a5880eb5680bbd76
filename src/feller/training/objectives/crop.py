"""Long rows are cut at random, all that is said of their entries with them."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feller.core.pytree import tree_map
from feller.core.rng import Draw


def crop(rows: Any, valid: Bool[Tensor, "b n"], longest: int, draw: Draw) -> tuple[Any, Bool[Tensor, "b m"]]:
    """Keep a window of each row, at a uniform place of what is real, and no column that is padding in all.

    Args:
        rows: A tree of tensors [b, n, ...].
        valid: What is real, on the left of each row.
        longest: Entries that are kept, at most.
        draw: Source of the places.

    Returns:
        The rows, and what is real of them, [b, m] with m <= longest.
    """
    many = valid.sum(1)
    width = min(longest, max(int(many.max()), 1) if len(many) else 1)
    first = (draw.uniform((len(many),), torch.float64, valid.device) * ((many - width).clamp(min=0) + 1)).long()
    if width == valid.shape[1]:
        return rows, valid
    index = first[:, None] + torch.arange(width, device=valid.device)
    return tree_map(lambda leaf: _take(leaf, index), rows), _take(valid, index)


def _take(leaf: Tensor, index: Int[Tensor, "b m"]) -> Tensor:
    """Return the entries [b, m, ...] of [b, n, ...]."""
    return leaf[torch.arange(len(leaf), device=leaf.device)[:, None], index]
