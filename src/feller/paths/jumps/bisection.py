"""Inverses of distribution functions without a closed form."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor


def invert(
    function: Callable[[Tensor], Tensor],
    goal: Float64[Tensor, "..."],
    low: Float64[Tensor, "..."],
    high: Float64[Tensor, "..."],
) -> Float64[Tensor, "..."]:
    """Return where an increasing function reaches a goal, to 2^-34 of the interval."""
    low, high = low.expand(goal.shape), high.expand(goal.shape)
    for _ in range(34):
        middle = (low + high) / 2
        below = function(middle) < goal
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
