"""Convolutional autoencoder of images with continuous latents: the first stage of latent flows."""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import zero_init
from feller.networks.image.latent_bottlenecks import GaussianLatents, LatentBottleneck
from feller.networks.image.unet import UNetBlock, conv3x3, group_norm
from feller.networks.network_config import NetworkConfig, seeded_init

MIN_WIDTH = 16
"""Minimum number of features per position, at all resolutions between the image and the latents."""


@dataclass(frozen=True)
class ConvAutoencoder(NetworkConfig):
    """Convolutional autoencoder of images; it does not depend on time and conditions.

    Sides that the factor does not divide are padded with their edge pixels at the bottom and right, and cropped again.
    """

    factor: int = 4
    """Number of pixels per latent along each side: a power of 2."""
    width: int = 64
    """Number of features per latent; each doubling of the resolution halves this number."""
    blocks: int = 1
    """Number of residual blocks at each resolution below that of the image, in each of encoder and decoder."""
    bottleneck: LatentBottleneck = field(default_factory=GaussianLatents)
    """Kind of the latents."""

    def __post_init__(self) -> None:
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise UsageError("a factor that is a power of 2, at least 2", self.factor)
        if self.width < MIN_WIDTH or self.blocks < 0:
            raise UsageError(f"width of at least {MIN_WIDTH} and blocks of at least 0", self)

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the channels, height and width of the latents of images of shape (channels, height, width)."""
        _, height, width = shape
        return self.bottleneck.latent_channels, -(-height // self.factor), -(-width // self.factor)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "AutoencoderNetwork":
        """Return a new network for images of shape (channels, height, width); its decoder initially outputs zeros."""
        if not isinstance(shape, tuple) or len(shape) != 3:
            raise UsageError("ConvAutoencoder expects images of shape (channels, height, width)", found=shape)
        channels, height, width = shape
        with seeded_init(rng):
            return AutoencoderNetwork(self, (channels, height, width))


class AutoencoderNetwork(nn.Module):
    """Convolutional autoencoder of images with continuous latents, configured by `ConvAutoencoder`.

    Its buffers hold mean and scale of each channel of the latents of the training data, for standardised latents.
    """

    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: ConvAutoencoder, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels = shape[0]
        self.config, self.shape = config, shape
        self.null_values: dict[str, int] = {}
        self.latent_shape = config.latent_shape(shape)
        """Channels, height and width of the latents."""
        halvings = config.factor.bit_length() - 1
        widths = [max(MIN_WIDTH, config.width >> (halvings - 1 - i)) for i in range(halvings)]
        bottleneck, finest_last = config.bottleneck, list(reversed(widths))
        self.conv_in = nn.Conv2d(channels, widths[0], 4, 2, padding=1)
        self.down = nn.ModuleList(conv3x3(a, b, stride=2) for a, b in pairwise(widths))
        self.encoder_blocks = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        self.to_latent = nn.Sequential(
            group_norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], bottleneck.feature_channels, 1)
        )
        self.from_latent = conv3x3(bottleneck.latent_channels, widths[-1])
        self.decoder_blocks = nn.ModuleList(_blocks(width, config.blocks) for width in finest_last)
        self.up = nn.ModuleList(conv3x3(a, 4 * b) for a, b in pairwise(finest_last))
        self.norm = group_norm(widths[0])
        self.conv_out = zero_init(conv3x3(widths[0], 4 * channels))
        self.register_buffer("latent_mean", torch.zeros(bottleneck.latent_channels))
        self.register_buffer("latent_scale", torch.ones(bottleneck.latent_channels))

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> dict[str, Tensor]:
        """Return a dict with the reconstructed images, `state`, and the loss of the latents, `apart` [b].

        `cond` may contain `noise`, standard normal noise of the latents, [b, c, h, w]; `t` is ignored.
        """
        moments = self.moments(x_t)
        latents = sample_latents(moments, cond.get("noise"))
        return {
            "state": self.decode(latents),
            "apart": self.config.bottleneck.penalty(moments, x_t[0].numel()).to(latents.dtype),
        }

    def moments(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m rows columns"]:
        """Return the means and log variances of the latents of images; see `LatentBottleneck`."""
        _, height, width = self.shape
        h = F.pad(x, (0, -width % self.config.factor, 0, -height % self.config.factor), mode="replicate")
        h = self.encoder_blocks[0](self.conv_in(h))
        for conv, blocks in zip(self.down, list(self.encoder_blocks)[1:], strict=True):
            h = blocks(conv(h))
        return self.config.bottleneck.moments(self.to_latent(h))

    def decode(self, latents: Float[Tensor, "b k rows columns"]) -> Float[Tensor, "b c h w"]:
        """Return the images that are decoded from latents, which are first snapped to admissible latents."""
        h = self.decoder_blocks[0](self.from_latent(self.config.bottleneck.snap(latents)))
        for conv, blocks in zip(self.up, list(self.decoder_blocks)[1:], strict=True):
            h = blocks(F.pixel_shuffle(conv(h), 2))
        _, height, width = self.shape
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm(h))), 2)[:, :, :height, :width]

    def standardise(self, moments: Float[Tensor, "b m rows columns"]) -> Float[Tensor, "b m rows columns"]:
        """Return the moments of the standardised latents."""
        mean, log_variance = moments.chunk(2, 1)
        scale = self.latent_scale[:, None, None]
        return torch.cat([(mean - self.latent_mean[:, None, None]) / scale, log_variance - 2 * scale.log()], 1)

    def decode_standardised(self, latents: Float[Tensor, "b k rows columns"]) -> Float[Tensor, "b c h w"]:
        """Return the images that are decoded from standardised latents."""
        return self.decode(latents * self.latent_scale[:, None, None] + self.latent_mean[:, None, None])

    @torch.no_grad()
    def set_statistics(self, moments: Float[Tensor, "n m rows columns"]) -> None:
        """Set mean and scale of each channel to those of latents with the given moments; a constant one has scale 1."""
        mean, log_variance = (half.transpose(0, 1).flatten(1).double() for half in moments.cpu().chunk(2, 1))
        variance = mean.var(1, correction=0) + log_variance.exp().mean(1)
        self.latent_mean.copy_(mean.mean(1))
        self.latent_scale.copy_(torch.where(variance > 0, variance.sqrt(), 1.0))


def sample_latents(
    moments: Float[Tensor, "b m rows columns"], noise: Float[Tensor, "b k rows columns"] | None
) -> Float[Tensor, "b k rows columns"]:
    """Return latents with the given moments and standard normal noise; their means if the noise is None."""
    mean, log_variance = moments.chunk(2, 1)
    return mean if noise is None else mean + (log_variance / 2).exp() * noise


def _blocks(width: int, number: int) -> nn.Sequential:
    """Return residual blocks of one width."""
    return nn.Sequential(*(UNetBlock(width) for _ in range(number)))
