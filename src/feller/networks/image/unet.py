"""Convolutional residual U-Net for images."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.network_config import NetworkConfig, seeded_init


@dataclass(frozen=True)
class UNet(NetworkConfig):
    """Residual blocks at falling, then rising resolution; one level makes a plain convolutional net.

    Works at any size of image: where a level's side is odd, the next has half of it rounded up, and what comes back
    is cropped.
    """

    channels: int = 32
    """Features of each pixel at full resolution."""
    multipliers: tuple[int, ...] = (1, 2)
    """Factors of the channels, one per level, finest first; each level halves the sides."""
    blocks: int = 2
    """Residual blocks of each level on the way down, and again on the way up; the deepest level has them once."""
    attention: tuple[bool, ...] = (False, True)
    """Levels whose blocks are followed by attention, finest first; the last entry holds for all deeper levels."""
    heads: int = 4
    """Heads of the attention."""

    def __post_init__(self) -> None:
        if not self.multipliers or not self.attention:
            raise UsageError("one entry or more in multipliers and attention", self)
        if min(self.channels, self.blocks, self.heads, *self.multipliers) < 1:
            raise UsageError("numbers of 1 or more", self)
        for level, multiplier in enumerate(self.multipliers):
            if self.has_attention(level) and self.channels * multiplier % self.heads:
                raise UsageError(
                    f"heads that divide the channels of level {level}",
                    f"{self.heads} heads for {self.channels * multiplier} channels",
                    "Change heads, channels or multipliers",
                )

    def has_attention(self, level: int) -> bool:
        """Tell whether a level has attention."""
        return self.attention[min(level, len(self.attention) - 1)]

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> "UNetNetwork":
        if len(shape) != 3:
            raise UsageError("UNet expects images of shape (channels, height, width)", found=shape, remedy="Use MLP")
        with seeded_init(rng):
            return UNetNetwork(self, shape[0], conditions)


class UNetNetwork(nn.Module):
    """The network of `UNet`."""

    def __init__(self, config: UNet, channels: int, conditions: dict[str, int]) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        inner = 4 * config.channels
        self.conditioning = Conditioning(conditions, inner)
        self.null_values = self.conditioning.null_values

        def level(i: int) -> UNetLevel:
            return UNetLevel(widths[i], inner, config.blocks, config.heads if config.has_attention(i) else 0)

        deeper = range(1, len(widths))
        self.conv_in = conv3x3(channels, widths[0])
        self.down = nn.ModuleList(level(i - 1) for i in deeper)
        self.downsamplers = nn.ModuleList(conv3x3(widths[i - 1], widths[i], stride=2) for i in deeper)
        self.mid = level(len(widths) - 1)
        self.upsamplers = nn.ModuleList(conv3x3(widths[i], widths[i - 1]) for i in reversed(deeper))
        self.up = nn.ModuleList(level(i - 1) for i in reversed(deeper))
        self.norm = group_norm(widths[0])
        self.conv_out = zero_init(conv3x3(widths[0], channels))

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b c h w"]:
        """Predict one number per pixel and colour."""
        vector = self.conditioning(t, cond)
        h = self.conv_in(x_t)
        skips = []
        for level, coarser in zip(self.down, self.downsamplers, strict=True):
            h = level(h, vector)
            skips.append(h)
            h = coarser(h)
        h = self.mid(h, vector)
        for finer, level in zip(self.upsamplers, self.up, strict=True):
            skip = skips.pop()
            height, width = skip.shape[2:]
            upsampled = F.interpolate(h, scale_factor=2.0, mode="nearest")[:, :, :height, :width]
            h = level(skip + finer(upsampled), vector)  # a sum costs half of the usual concatenation
        return self.conv_out(F.silu(self.norm(h)))


class UNetLevel(nn.Module):
    """The blocks of one resolution, each followed by attention where there are heads."""

    def __init__(self, width: int, inner: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(UNetBlock(width, inner) for _ in range(blocks))
        self.attention = nn.ModuleList(PixelAttention(width, heads) for _ in range(blocks if heads else 0))

    def forward(self, x: Float[Tensor, "b c h w"], vector: Float[Tensor, "b inner"]) -> Float[Tensor, "b c h w"]:
        """Run the blocks."""
        for i, block in enumerate(self.blocks):
            x = block(x, vector)
            if self.attention:
                x = self.attention[i](x)
        return x


class UNetBlock(nn.Module):
    """Two convolutions with a residual connection; a vector of `inner` numbers modulates between them (none if 0)."""

    def __init__(self, width: int, inner: int = 0) -> None:
        super().__init__()
        self.modulation = nn.Linear(inner, 2 * width) if inner else None
        self.norms = nn.ModuleList(group_norm(width) for _ in range(2))
        self.conv1 = conv3x3(width, width)
        self.conv2 = zero_init(conv3x3(width, width))

    def forward(
        self, x: Float[Tensor, "b c h w"], vector: Float[Tensor, "b inner"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Add what the block has to say."""
        y = self.norms[1](self.conv1(F.silu(self.norms[0](x))))
        if self.modulation is not None:
            y = modulate(y, *self.modulation(vector)[:, :, None, None].chunk(2, 1))
        return x + self.conv2(F.silu(y))


class PixelAttention(nn.Module):
    """Attention among the pixels of one image.

    The fused kernels have first derivatives only: take second or forward ones under sdpa_kernel(SDPBackend.MATH).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = zero_init(nn.Linear(width, width))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add what each pixel learns from the others."""
        pixels = self.norm(x).flatten(2).mT
        parts = self.qkv(pixels).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        return x + self.proj(y).mT.reshape(x.shape)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution of 3 x 3 pixels."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)


def group_norm(width: int) -> nn.GroupNorm:
    """Normalise each example by itself, in groups of at least eight channels."""
    return nn.GroupNorm(math.gcd(width, max(1, width // 8)), width)
