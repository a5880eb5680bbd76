"""Conditions that are images: concatenated to the channels of a network's input."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.conditions.image_condition import ImageCondition
from feller.networks.blocks.condition_encoders import ConditionTypes

SAMPLING_NOISE = 0.2
"""Level of the noise of images in sampling, as a fraction of the maximum level in training."""


class ImageConditions(nn.Module):
    """Concatenation of the conditions that are images to the input, each with a mask channel that is 0 for null.

    An image is resized to the sides of the input: averaged where it is larger, interpolated where it is smaller. An
    image with noise in training also has a channel with the standard deviation of the noise. Source: conditioning
    augmentation, Ho et al. 2021, "Cascaded Diffusion Models for High Fidelity Image Generation", arXiv 2106.15282,
    section 4.2.
    """

    def __init__(self, conditions: ConditionTypes) -> None:
        super().__init__()
        kinds = {name: kind for name, kind in sorted(conditions.items()) if isinstance(kind, ImageCondition)}
        self.null_values: dict[str, int | float] = {name: kind.null for name, kind in kinds.items()}
        self.rest: ConditionTypes = {name: kind for name, kind in conditions.items() if name not in kinds}
        """Types of the other conditions."""
        self.noise: dict[str, float] = {name: kind.noise for name, kind in kinds.items() if kind.noise}
        """Maximum standard deviation of the noise that training adds to an image, by name."""
        for i, name in enumerate(self.noise):  # names of buffers cannot have dots
            self.register_buffer(f"pattern_{i}", torch.randn(kinds[name].shape))
        self.channels = sum(kind.channels + 1 + (kind.noise > 0) for kind in kinds.values())
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
            if name in self.noise:
                image = self._with_level(name, image)
            is_given = ~image.flatten(1).isnan().any(1)[:, None, None, None]
            image = resize(torch.where(is_given, image, 0.0), (x_t.shape[2], x_t.shape[3]))
            parts += [image, is_given.to(x_t.dtype).expand(-1, 1, *x_t.shape[2:])]
        return torch.cat(parts, 1), {name: value for name, value in cond.items() if name not in self.null_values}

    def _with_level(self, name: str, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b more h w"]:
        """Return an image with noise, and its level as last channel; an image that has them is returned unchanged.

        In sampling, all images get the same fixed draw of the noise, so that the network stays deterministic.
        """
        pattern = getattr(self, f"pattern_{[*self.noise].index(name)}")
        if image.shape[1] > len(pattern):
            return image
        level = SAMPLING_NOISE * self.noise[name]
        noisy = image + level * pattern.to(image.dtype)
        return torch.cat([noisy, torch.full_like(noisy[:, :1], level)], 1)


def add_noise(cond: Cond, noise: Mapping[str, float], rng: Rng) -> Cond:
    """Return conditions in which the images named in `noise` have Gaussian noise, and its level as last channel.

    The level, a standard deviation, is uniform from 0 to that in `noise`, independent for each example.
    """
    noisy = {}
    for name in noise.keys() & cond.keys():
        image, stream = cond[name], rng.stream(f"noise {name}")
        level = noise[name] * stream.uniform((len(image), 1, 1, 1), device=image.device).to(image.dtype)
        values = image + level * stream.normal(image.shape, device=image.device).to(image.dtype)
        noisy[name] = torch.cat([values, level.expand_as(values[:, :1])], 1)
    return {**cond, **noisy}


def resize(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c height width"]:
    """Resize images: average along sides that become smaller, interpolate linearly along sides that become larger."""
    if tuple(image.shape[2:]) == size:
        return image
    smaller = (min(size[0], image.shape[2]), min(size[1], image.shape[3]))
    return F.interpolate(F.adaptive_avg_pool2d(image, smaller), size, mode="bilinear", align_corners=False)
