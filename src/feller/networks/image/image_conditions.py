"""Conditions that are images: concatenated to the channels of a network's input."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.pytree import Cond
from feller.data.conditions.images import ImageCondition
from feller.networks.blocks.condition_encoders import ConditionTypes


class ImageConditions(nn.Module):
    """Concatenation of the conditions that are images to the input, each with a mask channel that is 0 for null.

    An image is resized to the sides of the input: averaged where it is larger, interpolated where it is smaller.
    """

    def __init__(self, conditions: ConditionTypes) -> None:
        super().__init__()
        kinds = {name: kind for name, kind in sorted(conditions.items()) if isinstance(kind, ImageCondition)}
        self.null_values: dict[str, int | float] = {name: kind.null for name, kind in kinds.items()}
        self.rest: ConditionTypes = {name: kind for name, kind in conditions.items() if name not in kinds}
        """Types of the other conditions."""
        self.channels = sum(kind.channels + 1 for kind in kinds.values())
        """Number of channels that are added to the input."""

    def forward(self, x_t: Float[Tensor, "b c h w"], cond: Cond) -> tuple[Float[Tensor, "b more h w"], Cond]:
        """Return the input with the images, and the other conditions.

        Raises:
            KeyError: If an image is missing from `cond`.
        """
        if not self.null_values:
            return x_t, cond
        parts = [x_t]
        for name in self.null_values:
            if name not in cond:
                raise KeyError(f"expected the condition {name}, an image; its null value is NaN")
            image = cond[name].to(x_t.dtype)
            is_given = ~image.flatten(1).isnan().any(1)[:, None, None, None]
            image = resize(torch.where(is_given, image, 0.0), (x_t.shape[2], x_t.shape[3]))
            parts += [image, is_given.to(x_t.dtype).expand(-1, 1, *x_t.shape[2:])]
        return torch.cat(parts, 1), {name: value for name, value in cond.items() if name not in self.null_values}


def resize(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c height width"]:
    """Resize images: average along sides that become smaller, interpolate linearly along sides that become larger."""
    if tuple(image.shape[2:]) == size:
        return image
    smaller = (min(size[0], image.shape[2]), min(size[1], image.shape[3]))
    return F.interpolate(F.adaptive_avg_pool2d(image, smaller), size, mode="bilinear", align_corners=False)
