"""Transformer over patches of grids of one, two or three dimensions with channels last."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.grid.unet_nd import CONVOLUTIONS, grid_inputs, inside_mask, keep_inside
from feller.networks.image.dit import DiTBlock
from feller.networks.network_config import NetworkConfig, seeded_init


@dataclass(frozen=True)
class PatchTransformer(NetworkConfig):
    """Transformer over patches for states [*sides, channels] with one to three sides, with adaLN-zero blocks.

    Sides need not be divisible by the patch side: they are padded. `cond["valid"]` and `cond["known"]` have the meaning
    that they have for `UNetND`: neither padding after the end of an example nor the value of a missing entry affects
    the prediction.
    Source: Peebles and Xie 2023, "Scalable Diffusion Models with Transformers", arXiv 2212.09748.
    """

    reads_observed: ClassVar[bool] = True

    patch: int = 4
    """Side of a patch in entries, at most the side of the grid."""
    width: int = 128
    """Number of features per patch."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""

    def __post_init__(self) -> None:
        if min(self.patch, self.width, self.depth, self.heads) < 1:
            raise UsageError("patch, width, depth and heads of at least 1", self)
        if self.width % 2 or self.width % self.heads:
            raise UsageError(f"an even width that is divisible by the number of heads, {self.heads}", self.width)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "PatchTransformerNetwork":
        if isinstance(shape, dict) or not 2 <= len(shape) <= 1 + len(CONVOLUTIONS):
            raise UsageError(
                "PatchTransformer expects states of shape (*sides, channels) with 1 to 3 sides",
                found=shape,
                remedy="Use MLP",
            )
        with seeded_init(rng):
            return PatchTransformerNetwork(self, shape, conditions)


class PatchTransformerNetwork(nn.Module):
    """Transformer over patches of grids, configured by `PatchTransformer`."""

    def __init__(self, config: PatchTransformer, shape: tuple[int, ...], conditions: ConditionTypes) -> None:
        super().__init__()
        *sides, channels = shape
        self.patches = tuple(min(config.patch, side) for side in sides)
        self.conditioning = Conditioning(conditions, config.width)
        self.null_values = self.conditioning.null_values
        size = math.prod(self.patches)
        # Inputs, see `grid_inputs`; the ones inside the grid tell where it ends.
        self.embed = nn.Linear((3 * channels + 1) * size, config.width)
        self.blocks = nn.ModuleList(DiTBlock(config.width, config.heads) for _ in range(config.depth))
        self.modulation = zero_init(nn.Linear(config.width, 2 * config.width))
        self.head = zero_init(nn.Linear(config.width, channels * size))

    def forward(
        self, x_t: Float[Tensor, " b *sides c"], t: Float[Tensor, " b"], cond: Cond
    ) -> Float[Tensor, " b *sides c"]:
        """Predict one value for each entry; predictions of padding are 0."""
        vector = self.conditioning(t, cond)
        inside = inside_mask(cond["valid"], x_t) if "valid" in cond else None
        x = grid_inputs(x_t, cond)
        x = x if inside is None else torch.where(inside.movedim(1, -1), x, 0)  # padding may be NaN
        tokens, counts = patchify(x, self.patches)
        h = self.embed(tokens)
        h = h + grid_positions(counts, h)
        attention = F.scaled_dot_product_attention
        if inside is not None:
            exists = patchify(inside.movedim(1, -1), self.patches)[0].any(2)
            attention = functools.partial(attention, attn_mask=exists[:, None, None])
        for block in self.blocks:
            h = block(h, vector, attention)
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        y = self.head(modulate(F.layer_norm(h, h.shape[2:]), scale, shift))
        out = unpatchify(y, self.patches, counts)
        out = out[(slice(None), *(slice(side) for side in x_t.shape[1:-1]))]
        return keep_inside(out.movedim(-1, 1), inside).movedim(1, -1)


def patchify(x: Tensor, patches: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Cut a grid [b, *sides, c] into patches, [b, n, prod(patches) c]; also return the number of patches per side.

    Sides are padded with zeros to multiples of the patch sides.
    """
    rank = len(patches)
    padding = [
        size for side, p in zip(reversed(x.shape[1:-1]), reversed(patches), strict=True) for size in (0, -side % p)
    ]
    x = F.pad(x, (0, 0, *padding))
    counts = [side // p for side, p in zip(x.shape[1:-1], patches, strict=True)]
    for axis in reversed(range(rank)):
        x = x.unflatten(1 + axis, (counts[axis], patches[axis]))
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1]
    return x.permute(order).flatten(1 + rank).flatten(1, rank), counts


def unpatchify(tokens: Tensor, patches: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Join patches, [b, n, prod(patches) c], into a grid [b, *sides, c]; the inverse of `patchify`."""
    rank = len(patches)
    x = tokens.unflatten(2, (*patches, -1)).unflatten(1, tuple(counts))
    order = [0, *(1 + axis + part * rank for axis in range(rank) for part in range(2)), 2 * rank + 1]
    x = x.permute(order)
    for axis in range(rank):
        x = x.flatten(1 + axis, 2 + axis)
    return x


def grid_positions(counts: Sequence[int], like: Float[Tensor, "b n width"]) -> Float[Tensor, "n width"]:
    """Return sine-cosine embeddings of the positions in a grid of patches; each side has an equal part of the features.

    Wavelengths range from 2 pi to 20,000 pi patches. Features beyond a multiple of twice the number of sides are zero.
    """
    size = max(1, like.shape[2] // (2 * len(counts)))
    frequencies = 10000 ** -(torch.arange(size, dtype=like.dtype, device=like.device) / size)
    parts = []
    for axis, count in enumerate(counts):
        angles = torch.arange(count, dtype=like.dtype, device=like.device)[:, None] * frequencies
        part = torch.cat([angles.sin(), angles.cos()], 1)
        part = part.reshape(*(count if i == axis else 1 for i in range(len(counts))), -1)
        parts.append(part.expand(*counts, -1))
    positions = torch.cat(parts, -1).flatten(0, -2)[:, : like.shape[2]]
    return F.pad(positions, (0, like.shape[2] - positions.shape[1]))
