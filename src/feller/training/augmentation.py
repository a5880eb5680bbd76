"""Augmentation of images in training, of which the network is told so that samples do not show it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import leaves, num_examples, tree_map
from feller.core.rng import Rng

NUM_FEATURES = 3
"""Number of features that describe an augmentation: whether the image is mirrored, and its shift down and right in
eighths of its sides."""


@dataclass(frozen=True)
class Augmentation:
    """Random mirroring and crops of images; the network is told them as a condition that is zero in sampling.

    Image conditions get the same transformation. Source: Karras et al. 2022, arXiv 2206.00364, appendix F.2.
    """

    flip: float = 0.0
    """Probability that an image is mirrored left to right."""
    crop: float = 0.0
    """Probability that an image is shifted and filled by reflection, as in a random crop of a padded image."""
    max_shift: float = 0.125
    """Maximum shift of a crop, as a fraction of the side."""

    def __post_init__(self) -> None:
        for name in ("flip", "crop"):
            check_number(name, getattr(self, name), ge=0, le=1)
        check_number("max_shift", self.max_shift, ge=0, le=1)

    @property
    def is_on(self) -> bool:
        """True if some images are changed."""
        return self.flip > 0 or self.crop > 0

    def __call__(self, batch: dict[str, Any], rng: Rng) -> tuple[dict[str, Any], Float[Tensor, "b 3"]]:
        """Transform each image of a batch, [b, channels, height, width]; also return the features of the augmentation.

        Entries of the batch and of its conditions with four axes are images. Shifts are whole pixels of each of them.

        Raises:
            UsageError: If there are no images.
        """
        images = [leaf for leaf in leaves(batch) if _is_image(leaf)]
        if not images:
            raise UsageError(argument="augmentation", expected="images", found="data without images")
        heights, widths = ({image.shape[axis] for image in images} for axis in (2, 3))
        n, device = num_examples(batch["x_1"]), next(leaves(batch["x_1"])).device
        u = rng.stream("augmentation").uniform((n, 4), torch.float64, device)
        is_flipped, is_cropped = u[:, 0] < self.flip, u[:, 1] < self.crop
        down, right = (
            torch.where(is_cropped, self._shift(sides, u[:, 2 + i]), 0.0) for i, sides in enumerate((heights, widths))
        )

        def transform(leaf: Any) -> Any:
            return warp(leaf, down, right, is_flipped) if _is_image(leaf) else leaf

        features = torch.stack([is_flipped.double(), 8 * down, 8 * right], 1).float()
        return tree_map(transform, batch), features

    def _shift(self, sides: set[int], u: Tensor) -> Tensor:
        """Return random shifts as fractions of a side, which are whole pixels for images with each of the sides."""
        parts = math.gcd(*sides)
        most = math.floor(self.max_shift * parts)
        return ((u * (2 * most + 1)).floor() - most) / parts


def _is_image(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim == 4


def warp(
    image: Shaped[Tensor, "b c h w"],
    down: Float[Tensor, " b"],
    right: Float[Tensor, " b"],
    is_flipped: Shaped[Tensor, " b"],
) -> Shaped[Tensor, "b c h w"]:
    """Shift images by fractions of their sides, filled by reflection, then mirror some left to right."""
    height, width = image.shape[2:]
    rows, columns = _sources(height, down), _sources(width, right)
    columns = torch.where(is_flipped[:, None], columns.flip(1), columns)
    image = image.take_along_dim(rows[:, None, :, None], 2)
    return image.take_along_dim(columns[:, None, None, :], 3)


def _sources(side: int, shift: Float[Tensor, " b"]) -> Int[Tensor, "b side"]:
    """Return the pixel that each pixel of a shifted side shows; beyond an edge, the side is mirrored at the edge."""
    places = (torch.arange(side, device=shift.device) - (shift * side).round().long()[:, None]) % (2 * side)
    return torch.minimum(places, 2 * side - 1 - places)
