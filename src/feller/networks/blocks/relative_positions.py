"""Rotary positions: attention that knows how far places are apart, at any length."""

import torch
from jaxtyping import Float
from torch import Tensor

SLOWEST = 10_000
"""Places in which the slowest pair of features turns by one radian."""


def turns(first: int, n: int, size: int, like: Tensor) -> tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]]:
    """Return the cosines and the signed sines by which `rotate` turns places first, first + 1, ... of n.

    Source: Su et al. 2021, "RoFormer: Enhanced transformer with rotary position embedding", arXiv 2104.09864.
    """
    half = size // 2
    speeds = SLOWEST ** -(torch.arange(half, dtype=like.dtype, device=like.device) / half)
    angles = torch.arange(first, first + n, dtype=like.dtype, device=like.device)[:, None] * speeds
    return angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], 1)


def rotate(
    x: Float[Tensor, "b heads n size"], by: tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]]
) -> Float[Tensor, "b heads n size"]:
    """Turn the pairs (i, i + size / 2) of features of each place."""
    cosines, sines = by
    return torch.addcmul(x * cosines, x.roll(x.shape[3] // 2, 3), sines)
