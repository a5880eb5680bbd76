"""Bottlenecks of image autoencoders: normal latents with a small KL weight, and quantised latents."""

import abc
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.quantizer import straight_through

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Smallest and largest log variance of a latent."""


class LatentBottleneck(abc.ABC):
    """Base class of configurations of bottlenecks; subclasses are frozen dataclasses of plain values.

    The moments of latents, [b, 2 c, h, w], are their means, then their log variances, which are -inf for latents
    without noise.
    """

    @property
    @abc.abstractmethod
    def latent_channels(self) -> int:
        """Number of channels c of the latents."""

    @property
    @abc.abstractmethod
    def feature_channels(self) -> int:
        """Number of channels of the encoder's features."""

    @abc.abstractmethod
    def moments(self, features: Float[Tensor, "b f rows columns"]) -> Float[Tensor, "b m rows columns"]:
        """Return the moments of the latents."""

    @abc.abstractmethod
    def penalty(self, moments: Float[Tensor, "b m rows columns"], num_values: int) -> Float[Tensor, " b"]:
        """Return the loss of the latents of each image, per pixel value of an image with `num_values` values."""

    @abc.abstractmethod
    def snap(self, latents: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        """Return the admissible latents nearest to the given latents; gradients pass through."""


@dataclass(frozen=True)
class GaussianLatents(LatentBottleneck):
    """Normal latents, whose KL divergence from the standard normal distribution is penalised.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", arXiv 1312.6114, appendix B; with a small
    weight as in Rombach et al. 2022, arXiv 2112.10752, section 3.1.
    """

    channels: int = 4
    """Number of channels."""
    kl_weight: float = 1e-3
    """Weight of the KL divergence in nats against the mean error per pixel value."""

    def __post_init__(self) -> None:
        if self.channels < 1 or not 0 <= self.kl_weight < math.inf:
            raise UsageError("at least 1 channel and a kl_weight of at least 0", self)

    @property
    def latent_channels(self) -> int:
        return self.channels

    @property
    def feature_channels(self) -> int:
        return 2 * self.channels

    def moments(self, features: Float[Tensor, "b f rows columns"]) -> Float[Tensor, "b m rows columns"]:
        mean, log_variance = features.chunk(2, 1)
        return torch.cat([mean, log_variance.clamp(*LOG_VARIANCE_RANGE)], 1)

    def penalty(self, moments: Float[Tensor, "b m rows columns"], num_values: int) -> Float[Tensor, " b"]:
        mean, log_variance = moments.chunk(2, 1)
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / 2
        return self.kl_weight / num_values * kl

    def snap(self, latents: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        return latents


@dataclass(frozen=True)
class QuantizedLatents(LatentBottleneck):
    """Latents of finite scalar quantisation, one channel per entry of a code vector, without noise and penalty."""

    quantizer: FSQ = field(default_factory=lambda: FSQ((16, 16, 16, 16)))
    """Levels of each channel."""

    @property
    def latent_channels(self) -> int:
        return self.quantizer.code_dim

    @property
    def feature_channels(self) -> int:
        return self.quantizer.code_dim

    def moments(self, features: Float[Tensor, "b f rows columns"]) -> Float[Tensor, "b m rows columns"]:
        vectors, _ = self.quantizer.build()(features.flatten(2).mT)
        mean = vectors.mT.reshape(features.shape)
        return torch.cat([mean, torch.full_like(mean, -torch.inf)], 1)

    def penalty(self, moments: Float[Tensor, "b m rows columns"], num_values: int) -> Float[Tensor, " b"]:
        return moments.new_zeros(len(moments))

    def snap(self, latents: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        levels = latents.new_tensor(self.quantizer.levels)[:, None, None]
        half = levels.div(2, rounding_mode="floor")
        nearest = (latents * half).round().clamp(-half, levels - 1 - half) / half
        return straight_through(latents, nearest)
