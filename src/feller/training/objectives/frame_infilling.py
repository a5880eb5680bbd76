"""Normal noise for few examples of many numbers each."""

import torch
from torch import Tensor

from feller.core.rng import Draws

FULL = 16
"""Numbers that torch makes together: the last of a length that it does not divide would depend on the length."""


def noise_like(x: Tensor, draws: Draws) -> Tensor:
    """Draw from N(0, 1) in the shape of x, [b, n, ...]: each example from an address of its own.

    `Draw` fills whole blocks of 256 examples, which for a batch of 8 sounds would cost as much as the network. How far
    the second axis is padded moves no number here, either.
    """
    rows = [
        torch.randn(
            max(-(-row.numel() // FULL), 1) * FULL,
            generator=torch.Generator(x.device).manual_seed(draws.named("noise", draws.first + i).seed),
            dtype=x.dtype,
            device=x.device,
        )[: row.numel()].view(row.shape)
        for i, row in enumerate(x)
    ]
    return torch.stack(rows) if rows else torch.empty_like(x)
