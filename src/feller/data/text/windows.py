"""One long text as many examples."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

OVERLAP = 4
"""Windows that each symbol is in, where there are not too many."""
MOST = 2**26
"""Symbols of all windows together, about, beyond which they overlap less, and at last leave gaps."""
BLOCK = 32
"""Lengths of a window in one block, at most."""
BLOCKS = 20
"""Blocks that a short text is cut into, at least, as long as they hold two lengths."""


def cut(tokens: Sequence[int], length: int) -> tuple[Int64[Tensor, "n length"], Int64[Tensor, " n"]]:
    """Return windows of one length and the block that each lies in: no symbol is in windows of two blocks.

    There are none if the text is shorter than a window.
    """
    whole = np.asarray(tokens, dtype=np.int64)
    if len(whole) < length:
        return torch.empty(0, length, dtype=torch.long), torch.empty(0, dtype=torch.long)
    stride = max(1, length // OVERLAP, -(-len(whole) * length // MOST))
    span = length * min(BLOCK, max(2, len(whole) // (BLOCKS * length)))
    edges = [*range(0, len(whole) - span + 1, span)] or [0]  # what is left over belongs to the last
    stops = [*edges[1:], len(whole)]
    starts = [
        np.append(np.arange(start, stop - length, stride), stop - length)
        for start, stop in zip(edges, stops, strict=True)
    ]
    blocks = np.repeat(np.arange(len(starts)), [len(part) for part in starts])
    rows = np.lib.stride_tricks.sliding_window_view(whole, length)[np.concatenate(starts)]
    return torch.from_numpy(rows), torch.from_numpy(blocks)
