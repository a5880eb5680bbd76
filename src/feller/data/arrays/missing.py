"""Interpolation of missing entries, so that networks see numbers near the data where the loss is masked."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def fill_missing(x: Float[Tensor, " n steps *rest"]) -> Float[Tensor, " n steps *rest"]:
    """Replace NaN by linear interpolation along the first axis of each example; at the ends by the nearest value.

    Entries without a value anywhere along the axis become 0.
    """
    missing = x.isnan()
    return interpolate(x, ~missing) if bool(missing.any()) else x


def interpolate(
    x: Float[Tensor, " n steps *rest"], present: Bool[Tensor, " n steps *rest"]
) -> Float[Tensor, " n steps *rest"]:
    """Replace the entries that are not present, as `fill_missing` does; without control flow that depends on values."""
    missing, count = ~present, x.shape[1]
    index = torch.arange(count, device=x.device).reshape(1, count, *(1,) * (x.ndim - 2)).expand(x.shape)
    before = torch.where(missing, -1, index).cummax(1).values
    after = torch.where(missing, count, index).flip(1).cummin(1).values.flip(1)
    has_before, has_after = before >= 0, after < count
    zeroed = torch.where(missing, 0, x)
    left = zeroed.gather(1, before.clamp(min=0))
    right = zeroed.gather(1, after.clamp(max=count - 1))
    left, right = torch.where(has_before, left, right), torch.where(has_after, right, left)
    weight = (index - before) / (after - before).clamp(min=1)
    between = torch.where(has_before & has_after, left + weight * (right - left), left)
    return torch.where(missing, torch.where(has_before | has_after, between, 0), x)
