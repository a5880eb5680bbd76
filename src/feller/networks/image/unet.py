"""Residual U-Net for images."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.blocks.levels_config import LevelsConfig
from feller.networks.image.image_conditions import ImageConditions
from feller.networks.network_config import padding_notes, seeded_init
from feller.networks.training_inputs import AUGMENTATION, DROPOUT, dropout_masks


@dataclass(frozen=True)
class UNet(LevelsConfig):
    """Residual U-Net with optional attention; with a single level it is a plain convolutional network.

    It accepts any image size: odd sides are rounded up when halved, and cropped after upsampling.
    """

    channels: int = 32
    """Number of channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2)
    """Multiplier of `channels` at each level, finest first; each further level halves the sides of the image."""
    blocks: int = 2
    """Number of residual blocks per level on the way down, and again on the way up; the coarsest level has them
    once."""
    attention: tuple[bool, ...] = (False, True)
    """True for each level, finest first, that has attention after its blocks; the last entry also applies to all
    coarser levels."""
    heads: int = 4
    """Number of attention heads."""
    dropout: float = 0.0
    """Probability of dropping a channel of a residual block in training."""
    augmentation_features: int = 0
    """Number of features of the augmentation that the network is told in training; 0 for none."""
    patch: int = 1
    """Side of the square patches of pixels that the network treats as one site with more channels; 1 for pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("patch", self.patch, ge=1)
        check_number("dropout", self.dropout, ge=0, lt=1)
        check_number("augmentation_features", self.augmentation_features, ge=0)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "UNetNetwork":
        if len(shape) != 3:
            raise UsageError("UNet expects images of shape (channels, height, width)", found=shape, remedy="Use MLP")
        with seeded_init(rng):
            return UNetNetwork(self, shape[0], conditions)

    def notes(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        return padding_notes(shape, self.patch * 2 ** (len(self.multipliers) - 1)) if len(shape) == 3 else ()


class UNetNetwork(nn.Module):
    """Residual U-Net for images, configured by `UNet`."""

    def __init__(self, config: UNet, channels: int, conditions: ConditionTypes) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        inner = 4 * config.channels
        self.images = ImageConditions(conditions)
        self.conditioning = Conditioning(self.images.rest, inner, augmentation_features=config.augmentation_features)
        self.null_values = {**self.conditioning.null_values, **self.images.null_values}
        self.condition_noise = self.images.noise

        self.dropout = config.dropout
        levels = [*range(len(widths)), *reversed(range(len(widths) - 1))]  # down, and up again
        self.dropped = [config.blocks * widths[i] for i in levels]
        self.training_inputs = {
            AUGMENTATION: config.augmentation_features,
            DROPOUT: sum(self.dropped) if config.dropout else 0,
        }
        """Number of features of each input in training; see `training_inputs`."""

        def level(i: int) -> UNetLevel:
            return UNetLevel(widths[i], inner, config.blocks, config.heads if config.has_attention(i) else 0)

        coarser = range(1, len(widths))
        self.patch = config.patch
        sites = self.patch**2
        self.conv_in = conv3x3(sites * (channels + self.images.channels), widths[0])
        self.down = nn.ModuleList(level(i - 1) for i in coarser)
        self.downsamplers = nn.ModuleList(conv3x3(widths[i - 1], widths[i], stride=2) for i in coarser)
        self.mid = level(len(widths) - 1)
        self.upsamplers = nn.ModuleList(conv3x3(widths[i], widths[i - 1]) for i in reversed(coarser))
        self.up = nn.ModuleList(level(i - 1) for i in reversed(coarser))
        self.norm = group_norm(widths[0])
        self.conv_out = zero_init(conv3x3(widths[0], sites * channels))

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b c h w"]:
        """Predict one value for each pixel and channel."""
        x_t, cond = self.images(x_t, cond)
        masks = iter(dropout_masks(cond.get(DROPOUT), self.dropout, self.dropped))
        vector = self.conditioning(t, {name: value for name, value in cond.items() if name != DROPOUT})
        height, width = x_t.shape[2:]
        h = self.conv_in(self._patches(x_t))
        skips = []
        for level, downsample in zip(self.down, self.downsamplers, strict=True):
            h = level(h, vector, next(masks))
            skips.append(h)
            h = downsample(h)
        h = self.mid(h, vector, next(masks))
        for upsample, level in zip(self.upsamplers, self.up, strict=True):
            skip = skips.pop()
            upsampled = F.interpolate(h, scale_factor=2.0, mode="nearest")[:, :, : skip.shape[2], : skip.shape[3]]
            # Addition costs half as much as the usual concatenation.
            h = level(skip + upsample(upsampled), vector, next(masks))
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm(h))), self.patch)[:, :, :height, :width]

    def _patches(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """Return the pixels of each patch as channels of one site; incomplete patches repeat the last row or column."""
        missing = (-x.shape[3] % self.patch, -x.shape[2] % self.patch)
        if any(missing):
            x = F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate")
        return F.pixel_unshuffle(x, self.patch)


class UNetLevel(nn.Module):
    """Residual blocks at one resolution, each followed by attention if `heads` is positive."""

    def __init__(self, width: int, inner: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(UNetBlock(width, inner) for _ in range(blocks))
        self.attention = nn.ModuleList(PixelAttention(width, heads) for _ in range(blocks if heads else 0))

    def forward(
        self, x: Float[Tensor, "b c h w"], vector: Float[Tensor, "b inner"], mask: Float[Tensor, "b all"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Apply the blocks; `mask` has the dropout factors of the channels of all blocks."""
        masks = [None] * len(self.blocks) if mask is None else mask.chunk(len(self.blocks), 1)
        for i, block in enumerate(self.blocks):
            x = block(x, vector, masks[i])
            if self.attention:
                x = self.attention[i](x)
        return x


class UNetBlock(nn.Module):
    """Residual block of two convolutions; a vector of size `inner`, if not 0, modulates the features between them."""

    def __init__(self, width: int, inner: int = 0) -> None:
        super().__init__()
        self.modulation = nn.Linear(inner, 2 * width) if inner else None
        self.norms = nn.ModuleList(group_norm(width) for _ in range(2))
        self.conv1 = conv3x3(width, width)
        self.conv2 = zero_init(conv3x3(width, width))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        vector: Float[Tensor, "b inner"] | None = None,
        mask: Float[Tensor, "b c"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Apply the block; `mask` has the dropout factor of each channel."""
        y = self.norms[1](self.conv1(F.silu(self.norms[0](x))))
        if self.modulation is not None:
            y = modulate(y, *self.modulation(vector)[:, :, None, None].chunk(2, 1))
        y = F.silu(y)
        return x + self.conv2(y if mask is None else y * mask[:, :, None, None].to(y.dtype))


class PixelAttention(nn.Module):
    """Self-attention among the pixels of an image.

    Fused attention supports first derivatives only; for second or forward-mode derivatives use
    sdpa_kernel(SDPBackend.MATH).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = zero_init(nn.Linear(width, width))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        pixels = self.norm(x).flatten(2).mT
        qkv = self.qkv(pixels).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
        return x + self.proj(y).mT.reshape(x.shape)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3 x 3 convolution; with stride 1 it keeps the image size."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)


def group_norm(width: int) -> nn.GroupNorm:
    """Return a group norm for `width` channels with at least eight channels per group."""
    return nn.GroupNorm(math.gcd(width, max(1, width // 8)), width)
