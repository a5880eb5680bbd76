"""Noisy counts as shares."""

import torch
from jaxtyping import Float
from torch import Tensor


def on_simplex(shares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return the nearest numbers of 0 or more that add up to 1.

    Source: Held, Wolfe and Crowder 1974, "Validation of subgradient optimization", section 3.
    """
    falling = shares.sort(descending=True).values
    over = (falling.cumsum(0) - 1) / torch.arange(1, len(shares) + 1, dtype=shares.dtype, device=shares.device)
    last = int((falling > over).nonzero()[-1])
    return (shares - over[last]).clamp(min=0)
