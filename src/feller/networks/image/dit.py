"""Diffusion transformer for images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.image.image_conditions import ImageConditions
from feller.networks.network_config import NetworkConfig, padding_notes, seeded_init
from feller.networks.training_inputs import AUGMENTATION, DROPOUT

AttentionFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function from (queries, keys, values), each [b, heads, n, size], to the attention output of the same shape."""


def cached_attention(keys: Tensor, values: Tensor, start: int, attn_mask: Tensor | None = None) -> AttentionFn:
    """Return attention that writes new keys and values into a KV cache at position `start`, and attends up to them."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        stop = start + key.shape[2]
        keys[:, :, start:stop], values[:, :, start:stop] = key, value
        return F.scaled_dot_product_attention(query, keys[:, :, :stop], values[:, :, :stop], attn_mask=attn_mask)

    return attend


@dataclass(frozen=True)
class DiT(NetworkConfig):
    """Diffusion transformer on image patches; each block is initialised to the identity (adaLN-zero).

    Source: Peebles and Xie 2023, "Scalable Diffusion Models with Transformers", arXiv 2212.09748.
    """

    patch: int = 2
    """Side of a patch in pixels; images whose sides are not multiples of the patch side are padded."""
    width: int = 128
    """Number of features per patch."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""
    augmentation_features: int = 0
    """Number of features of the augmentation that the network is told in training; 0 for none."""

    def __post_init__(self) -> None:
        check_number("augmentation_features", self.augmentation_features, ge=0)
        if min(self.patch, self.width, self.depth, self.heads) < 1:
            raise UsageError("patch, width, depth and heads of at least 1", self)
        if self.width % 4 or self.width % self.heads:
            raise UsageError(f"a width divisible by 4 and by the number of heads, {self.heads}", self.width)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "DiTNetwork":
        if len(shape) != 3:
            raise UsageError("DiT expects images of shape (channels, height, width)", found=shape, remedy="Use MLP")
        with seeded_init(rng):
            return DiTNetwork(self, shape[0], conditions)

    def notes(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        return padding_notes(shape, self.patch) if len(shape) == 3 else ()


class DiTNetwork(nn.Module):
    """Diffusion transformer for images, configured by `DiT`."""

    def __init__(self, config: DiT, channels: int, conditions: ConditionTypes) -> None:
        super().__init__()
        self.patch, self.width = config.patch, config.width
        self.images = ImageConditions(conditions)
        self.training_inputs = {AUGMENTATION: config.augmentation_features, DROPOUT: 0}
        """Number of features of each input in training; see `training_inputs`."""
        self.conditioning = Conditioning(
            self.images.rest, self.width, augmentation_features=config.augmentation_features
        )
        self.null_values = {**self.conditioning.null_values, **self.images.null_values}
        self.condition_noise = self.images.noise
        size = channels * self.patch**2
        self.embed = nn.Linear((channels + self.images.channels) * self.patch**2, self.width)
        self.blocks = nn.ModuleList(DiTBlock(self.width, config.heads) for _ in range(config.depth))
        self.modulation = zero_init(nn.Linear(self.width, 2 * self.width))
        self.head = zero_init(nn.Linear(self.width, size))

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b c h w"]:
        """Predict one value for each pixel and channel."""
        x_t, cond = self.images(x_t, cond)
        vector, p = self.conditioning(t, cond), self.patch
        height, width = x_t.shape[2:]
        x = F.pad(x_t, (0, -width % p, 0, -height % p))
        rows, columns = x.shape[2] // p, x.shape[3] // p
        x = x.unflatten(3, (columns, p)).unflatten(2, (rows, p))  # b c rows p columns p
        h = self.embed(x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        h = h + sincos_positions(rows, columns, self.width, h)
        for block in self.blocks:
            h = block(h, vector)
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        y = self.head(modulate(F.layer_norm(h, h.shape[2:]), scale, shift))
        y = y.unflatten(2, (-1, p, p)).unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)
        return y.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]


class DiTBlock(nn.Module):
    """Transformer block with adaptive layer norm and zero-initialised gates (adaLN-zero).

    Fused attention supports first derivatives only; for second or forward-mode derivatives use
    sdpa_kernel(SDPBackend.MATH).
    """

    def __init__(self, width: int, heads: int, inner: int | None = None, *, seen: int = 1, hidden: int = 4) -> None:
        """Initialise the layers.

        Args:
            width: Features of each position.
            heads: Number of attention heads.
            inner: Size of the modulation vector (default: `width`).
            seen: Number of positions whose features `see` concatenates as input of the MLP.
            hidden: Expansion factor of the MLP.
        """
        super().__init__()
        self.heads = heads
        self.modulation = zero_init(nn.Linear(width if inner is None else inner, 6 * width))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(seen * width, hidden * width)
        self.fc2 = nn.Linear(hidden * width, width)

    def forward(
        self,
        h: Float[Tensor, "b n width"],
        vector: Float[Tensor, "b inner"],
        attention: AttentionFn = F.scaled_dot_product_attention,
        see: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "b n width"]:
        """Apply attention and an MLP with gated residual connections to the features `h`.

        Args:
            h: Features of each patch or token.
            vector: Conditioning vector that gives scales, shifts and gates.
            attention: Attention function, which applies a mask if one is needed.
            see: Function that is applied to the inputs of the MLP; None to leave them unchanged.
        """
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(vector)[:, None].chunk(6, 2)
        y = self.qkv(modulate(F.layer_norm(h, h.shape[2:]), scale, shift))
        qkv = y.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = attention(*qkv).transpose(1, 2).flatten(2)
        h = h + gate * self.proj(y)
        y = modulate(F.layer_norm(h, h.shape[2:]), scale_2, shift_2)
        y = y if see is None else see(y)
        return h + gate_2 * self.fc2(F.gelu(self.fc1(y), approximate="tanh"))


def sincos_positions(rows: int, columns: int, width: int, like: Tensor) -> Float[Tensor, "n width"]:
    """Return 2D sine-cosine position embeddings of a grid of rows x columns patches, [rows * columns, width].

    Wavelengths range from 2 pi to 20,000 pi patches. The result has the dtype and device of `like`.
    """
    exponents = torch.arange(width // 4, dtype=like.dtype, device=like.device) / (width // 4)
    frequencies = 10000**-exponents

    def embed(n: int) -> Tensor:
        angles = torch.arange(n, dtype=like.dtype, device=like.device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)

    row_embed = embed(rows)[:, None].expand(-1, columns, -1)
    column_embed = embed(columns)[None].expand(rows, -1, -1)
    return torch.cat([row_embed, column_embed], 2).flatten(0, 1)
