"""Residual U-Net for grids of one, two or three dimensions with channels last, such as series, fields and volumes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, append_dims
from feller.core.rng import Rng
from feller.data.arrays.missing import interpolate
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.blocks.levels_config import LevelsConfig
from feller.networks.network_config import seeded_init

CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d


@dataclass(frozen=True)
class UNetND(LevelsConfig):
    """Residual U-Net for states [*sides, channels] with one, two or three sides, such as the steps of a series.

    Sides need not be divisible by two: they are rounded up when halved, and cropped after upsampling. `cond["valid"]`
    [b, *sides] or [b, *sides, channels] marks the entries that exist. An example ends after the last step along its
    first side with a valid entry, and padding after the end does not affect the prediction; nor does the value of a
    missing entry before the end. `cond["known"]` [b, *sides, channels] is the observed mask.
    """

    reads_observed: ClassVar[bool] = True
    channels: int = 32
    """Number of features at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 2)
    """Multiplier of `channels` at each level, finest first; each further level halves the sides."""
    blocks: int = 1
    """Number of residual blocks per level on the way down, and again on the way up; the coarsest level has them
    once."""
    attention: tuple[bool, ...] = (False, False, True)
    """True for each level, finest first, that has attention after its blocks; the last entry also applies to all
    coarser levels."""
    heads: int = 4
    """Number of attention heads."""

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "UNetNDNetwork":
        if isinstance(shape, dict) or not 2 <= len(shape) <= 1 + len(CONVOLUTIONS):
            raise UsageError(
                "UNetND expects states of shape (*sides, channels) with 1 to 3 sides", found=shape, remedy="Use MLP"
            )
        with seeded_init(rng):
            return UNetNDNetwork(self, len(shape) - 1, shape[-1], conditions)


class UNetNDNetwork(nn.Module):
    """Residual U-Net for grids, configured by `UNetND`."""

    def __init__(self, config: UNetND, rank: int, channels: int, conditions: ConditionTypes) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        inner = 4 * config.channels
        self.conditioning = Conditioning(conditions, inner)
        self.null_values = self.conditioning.null_values

        def level(i: int) -> GridLevel:
            return GridLevel(rank, widths[i], inner, config.blocks, config.heads if config.has_attention(i) else 0)

        coarser = range(1, len(widths))
        # Inputs, see `grid_inputs`; the ones inside the grid, with zero padding, tell where it ends.
        self.conv_in = grid_conv(rank, 3 * channels + 1, widths[0])
        self.down = nn.ModuleList(level(i - 1) for i in coarser)
        self.downsamplers = nn.ModuleList(grid_conv(rank, widths[i - 1], widths[i], stride=2) for i in coarser)
        self.mid = level(len(widths) - 1)
        self.upsamplers = nn.ModuleList(grid_conv(rank, widths[i], widths[i - 1]) for i in reversed(coarser))
        self.up = nn.ModuleList(level(i - 1) for i in reversed(coarser))
        self.norm = GridNorm(widths[0])
        self.conv_out = zero_init(grid_conv(rank, widths[0], channels))

    def forward(
        self, x_t: Float[Tensor, " b *sides c"], t: Float[Tensor, " b"], cond: Cond
    ) -> Float[Tensor, " b *sides c"]:
        """Predict one value for each entry; predictions of padding are 0."""
        vector = self.conditioning(t, cond)
        inside = inside_mask(cond["valid"], x_t) if "valid" in cond else None
        h = grid_inputs(x_t, cond).movedim(-1, 1).contiguous()
        h = h if inside is None else torch.where(inside, h, 0)  # padding may be NaN
        h = keep_inside(self.conv_in(h), inside)
        skips, masks = [], [inside]
        for level, downsample in zip(self.down, self.downsamplers, strict=True):
            h = level(h, vector, masks[-1])
            skips.append(h)
            masks.append(halved(masks[-1]))
            h = keep_inside(downsample(h), masks[-1])
        h = self.mid(h, vector, masks.pop())
        for upsample, level in zip(self.upsamplers, self.up, strict=True):
            skip, mask = skips.pop(), masks.pop()
            upsampled = keep_inside(doubled(h, skip.shape[2:]), mask)
            h = level(skip + keep_inside(upsample(upsampled), mask), vector, mask)
        out = self.conv_out(keep_inside(F.silu(self.norm(h, inside)), inside))
        return keep_inside(out, inside).movedim(1, -1)


class GridLevel(nn.Module):
    """Residual blocks at one resolution, each followed by attention if `heads` is positive."""

    def __init__(self, rank: int, width: int, inner: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(GridBlock(rank, width, inner) for _ in range(blocks))
        self.attention = nn.ModuleList(GridAttention(width, heads) for _ in range(blocks if heads else 0))

    def forward(
        self, x: Float[Tensor, " b c *sides"], vector: Float[Tensor, " b inner"], inside: Tensor | None
    ) -> Float[Tensor, " b c *sides"]:
        for i, block in enumerate(self.blocks):
            x = block(x, vector, inside)
            if self.attention:
                x = self.attention[i](x, inside)
        return x


class GridBlock(nn.Module):
    """Residual block of two convolutions; the conditioning vector modulates the features between them."""

    def __init__(self, rank: int, width: int, inner: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(inner, 2 * width)
        self.norms = nn.ModuleList(GridNorm(width) for _ in range(2))
        self.conv1 = grid_conv(rank, width, width)
        self.conv2 = zero_init(grid_conv(rank, width, width))

    def forward(
        self, x: Float[Tensor, " b c *sides"], vector: Float[Tensor, " b inner"], inside: Tensor | None
    ) -> Float[Tensor, " b c *sides"]:
        y = keep_inside(F.silu(self.norms[0](x, inside)), inside)
        y = self.norms[1](keep_inside(self.conv1(y), inside), inside)
        scale, shift = (append_dims(part, y) for part in self.modulation(vector).chunk(2, 1))
        y = keep_inside(F.silu(modulate(y, scale, shift)), inside)
        return x + keep_inside(self.conv2(y), inside)


class GridAttention(nn.Module):
    """Self-attention among the sites of a grid; sites outside of an example are ignored."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GridNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = zero_init(nn.Linear(width, width))

    def forward(self, x: Float[Tensor, " b c *sides"], inside: Tensor | None) -> Float[Tensor, " b c *sides"]:
        sites = self.norm(x, inside).flatten(2).mT
        qkv = self.qkv(sites).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if inside is None else inside.flatten(2)[:, :, None]
        y = F.scaled_dot_product_attention(*qkv, attn_mask=mask).transpose(1, 2).flatten(2)
        return x + keep_inside(self.proj(y).mT.reshape(x.shape), inside)


class GridNorm(nn.Module):
    """Group norm, with groups of eight channels or more, over the sites inside of each example.

    Ghost clipping does not support it, so private training computes per-example gradients by vmap.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups, self.eps = math.gcd(width, max(1, width // 8)), 1e-5
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, " b c *sides"], inside: Tensor | None) -> Float[Tensor, " b c *sides"]:
        if inside is None:
            return F.group_norm(x.contiguous(), self.groups, self.weight, self.bias, self.eps)
        grouped = x.unflatten(1, (self.groups, -1)).flatten(2).to(torch.promote_types(x.dtype, torch.float32))
        count = inside.flatten(1).sum(1)[:, None] * (x.shape[1] // self.groups)
        mean = grouped.sum(2) / count  # x is zero outside
        variance = (grouped.square().sum(2) / count - mean.square()).clamp(min=0)
        scale = (variance + self.eps).rsqrt()
        scale, mean = (part.repeat_interleave(x.shape[1] // self.groups, 1) for part in (scale, mean))
        scale = scale * self.weight
        return x * append_dims(scale, x) + append_dims(self.bias - mean * scale, x)


def grid_conv(rank: int, in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """Return a convolution with a kernel of 3 in each of `rank` dimensions; with stride 1 it keeps the sides."""
    return CONVOLUTIONS[rank - 1](in_channels, out_channels, 3, stride, padding=1)


def grid_inputs(x_t: Float[Tensor, " b *sides c"], cond: Cond) -> Float[Tensor, " b *sides inputs"]:
    """Return the inputs of a network on grids: x_t, the role of each entry, the interpolated observations, and ones.

    The role is 1 for observed entries (`cond["known"]`), -1 for missing entries (not `cond["valid"]`), and 0 for
    entries to generate. Missing entries of x_t are set to 0, because they carry no data: in training they are filled,
    and a network that took them for data would generate series as smooth as the filled ones. The observations are
    interpolated along the first side, and 0 if nothing is observed.
    """
    role = interpolated = torch.zeros_like(x_t)
    if "known" in cond:
        known = append_dims(cond["known"], x_t).expand(x_t.shape)
        role, interpolated = known.to(x_t.dtype), interpolate(x_t, known)
    if "valid" in cond:
        missing = ~append_dims(cond["valid"], x_t).expand(x_t.shape)
        role, x_t = torch.where(missing, -1, role), torch.where(missing, 0, x_t)
    return torch.cat([x_t, role, interpolated, torch.ones_like(x_t[..., :1])], -1)


def inside_mask(valid: Bool[Tensor, " b *masked"], x: Float[Tensor, " b *sides c"]) -> Bool[Tensor, " b 1 *sides"]:
    """Return True for the steps along the first side up to the last one with a valid entry, and for the first step."""
    steps = valid[:, :, None].flatten(2).any(2)
    left = steps.flip(1).cumsum(1).flip(1)  # number of valid steps from here to the end
    is_first = torch.arange(steps.shape[1], device=steps.device) == 0
    mask = (left > 0) | is_first
    return append_dims(mask, x[..., 0])[:, None].expand(-1, 1, *x.shape[1:-1])


def keep_inside(x: Float[Tensor, " b c *sides"], inside: Tensor | None) -> Float[Tensor, " b c *sides"]:
    """Set finite features outside of each example to zero; `inside` is a mask [b, 1, *sides], or None for all."""
    return x if inside is None else x * inside


def halved(inside: Tensor | None) -> Tensor | None:
    """Return the mask at half the resolution: a coarse site exists if the finer site at its centre does."""
    return None if inside is None else inside[(..., *(slice(None, None, 2),) * (inside.ndim - 2))]


def doubled(x: Float[Tensor, " b c *sides"], sides: Sequence[int]) -> Float[Tensor, " b c *larger"]:
    """Repeat each site twice along each side, and crop to `sides`."""
    for axis, side in enumerate(sides, 2):
        x = x.repeat_interleave(2, axis).narrow(axis, 0, side)
    return x
