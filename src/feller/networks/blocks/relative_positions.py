"""Encoding of relative positions in attention: rotary embeddings, ALiBi and pair biases."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from feller.networks.blocks.conditioning import fourier_features, zero_init
from feller.networks.image.dit import AttentionFn

ROTARY_BASE = 10_000
"""Base of the rotary frequencies, ROTARY_BASE^(-i / half) radians per position, where half is half the head size."""


def rotary_cos_sin(
    first: int, n: int, size: int, like: Tensor
) -> tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]]:
    """Return the cosines and signed sines of rotary embeddings for n positions that start at `first`.

    The first half of the sines is negated, as `apply_rotary` requires.

    Source: Su et al. 2021, "RoFormer: Enhanced transformer with rotary position embedding", arXiv 2104.09864.

    Args:
        first: Index of the first position.
        n: Number of positions.
        size: Number of features per attention head, even.
        like: Tensor whose dtype and device the results have.
    """
    return rotary_at(torch.arange(first, first + n, dtype=like.dtype, device=like.device), size, like)


def rotary_at(
    positions: Shaped[Tensor, " n"], size: int, like: Tensor
) -> tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]]:
    """Return the cosines and signed sines of rotary embeddings at given positions, as `rotary_cos_sin` does."""
    half = size // 2
    frequencies = ROTARY_BASE ** -(torch.arange(half, dtype=like.dtype, device=like.device) / half)
    angles = positions.to(like)[:, None] * frequencies
    return angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], 1)


def apply_rotary(
    x: Float[Tensor, "b heads n size"], cos_sin: tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]]
) -> Float[Tensor, "b heads n size"]:
    """Return queries or keys x whose feature pairs (i, i + size / 2) are rotated by the angle of their position.

    `cos_sin` is the result of `rotary_cos_sin` for the same positions.
    """
    cosines, sines = cos_sin
    return torch.addcmul(x * cosines, x.roll(x.shape[3] // 2, 3), sines)


class PositionEncoding(abc.ABC):
    """Base class of relative position encodings in attention. Subclasses implement `make_attention`."""

    @abc.abstractmethod
    def make_attention(
        self, key_mask: Bool[Tensor, "b n"] | None, like: Float[Tensor, "b n width"], heads: int, num_prefix_tokens: int
    ) -> AttentionFn:
        """Return the function that computes attention in all blocks, with the position encoding and the mask.

        Args:
            key_mask: Mask of the positions (prefix tokens, then frames) that can be attended to; None to allow all
                positions.
            like: Features of all positions, of which only shape, dtype and device are used.
            heads: Number of attention heads.
            num_prefix_tokens: Number of tokens before the first frame.
        """


@dataclass(frozen=True)
class ALiBi(PositionEncoding):
    """Attention bias -slope |i - j| between positions i and j, with slope 2^(-8 h / heads) for head h = 1, ..., heads.

    The bias extrapolates to longer sequences than in training. It is bidirectional, and zero for prefix tokens. Source:
    Press, Smith and Lewis 2021, "Train short, test long", arXiv 2108.12409; Le et al. 2023, "Voicebox", arXiv
    2306.15687.
    """

    def make_attention(
        self, key_mask: Bool[Tensor, "b n"] | None, like: Float[Tensor, "b n width"], heads: int, num_prefix_tokens: int
    ) -> AttentionFn:
        bias = alibi_slopes(heads, like)[:, None, None] * -_pairwise_distance(like.shape[1] - num_prefix_tokens, like)
        bias = F.pad(bias, (num_prefix_tokens, 0, num_prefix_tokens, 0))[None]  # the time token must have zero bias
        if key_mask is not None:
            bias = torch.where(key_mask[:, None, None], bias, -torch.inf)
        return lambda query, key, value: F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


@dataclass(frozen=True)
class Rotary(PositionEncoding):
    """Rotary position embeddings of the frames; prefix tokens have position 0."""

    def make_attention(
        self, key_mask: Bool[Tensor, "b n"] | None, like: Float[Tensor, "b n width"], heads: int, num_prefix_tokens: int
    ) -> AttentionFn:
        n, size = like.shape[1] - num_prefix_tokens, like.shape[2] // heads
        cosines, sines = rotary_cos_sin(0, n, size, like)
        cos_sin = F.pad(cosines, (0, 0, num_prefix_tokens, 0), value=1.0), F.pad(sines, (0, 0, num_prefix_tokens, 0))
        attn_mask = None if key_mask is None else key_mask[:, None, None]

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(
                apply_rotary(query, cos_sin), apply_rotary(key, cos_sin), value, attn_mask=attn_mask
            )

        return attend


def alibi_slopes(heads: int, like: Tensor) -> Float[Tensor, " heads"]:
    """Return the ALiBi slope of each head, with the dtype and device of `like`."""
    return torch.arange(1, heads + 1, dtype=like.dtype, device=like.device).mul(-8 / heads).exp2()


def _pairwise_distance(n: int, like: Tensor) -> Float[Tensor, "n n"]:
    positions = torch.arange(n, dtype=like.dtype, device=like.device)
    return (positions[:, None] - positions).abs()


PAIR_OCTAVES = 3
"""Number of octaves of the Fourier features of each pairwise difference."""
CHAIN_END_FEATURES = 5
"""Number of features that describe the position in a chain."""


class RelativeBias(nn.Module):
    """Learned attention bias of each head for each relative position, clipped to [-max_distance, max_distance].

    Source: Shaw et al. 2018, arXiv 1803.02155.
    """

    def __init__(self, heads: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.bias = nn.Parameter(_initial_bias(heads, max_distance))

    def forward(self, n: int) -> Float[Tensor, "heads n n"]:
        """Return the attention bias for n positions."""
        index = torch.arange(n, device=self.bias.device)
        return self.bias[:, (index - index[:, None]).clamp(-self.max_distance, self.max_distance) + self.max_distance]


class PairBias(nn.Module):
    """Learned attention bias: an MLP of the differences x_i - x_j between the vectors at positions i and j.

    The bias is initially zero.
    """

    def __init__(self, heads: int, size: int, period: float | None) -> None:
        super().__init__()
        self.period = period
        self.fc1 = nn.Linear(2 * PAIR_OCTAVES * size, 32)
        self.fc2 = zero_init(nn.Linear(32, heads))

    def forward(self, x: Float[Tensor, "b n k"]) -> Float[Tensor, "b heads n n"]:
        """Return the attention bias of each head for all pairs of positions, given the vector x at each position."""
        differences = x[:, :, None] - x[:, None]
        if self.period is not None:
            differences = differences * (4 / self.period)  # the slowest Fourier feature has period 4
        features = fourier_features(differences, PAIR_OCTAVES).flatten(3)
        return self.fc2(torch.relu(self.fc1(features))).permute(0, 3, 1, 2)


def chain_end_features(valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b n 5"]:
    """Return features of each position in a chain; they are zero for padding.

    For the distance d to each of the two ends, in positions, the features are exp(-d) and exp(-d / 8). The last feature
    is the result of `size_feature`.

    Args:
        valid: True for positions of the chain, False for the padding after it.
        like: Tensor whose dtype and device the features have.
    """
    position = torch.arange(valid.shape[1], dtype=like.dtype, device=like.device).expand(valid.shape)
    positions_left = (valid.sum(1, keepdim=True).to(like.dtype) - 1 - position).clamp(min=0)
    features = [
        (-position).exp(),
        (-position / 8).exp(),
        (-positions_left).exp(),
        (-positions_left / 8).exp(),
        size_feature(valid, like)[:, :, 0],
    ]
    return torch.stack(features, 2) * valid[:, :, None]


def size_feature(valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b n 1"]:
    """Return log(number of valid sites) / 5 as a feature of each site, in the dtype of `like`."""
    return (valid.sum(1).to(like.dtype).clamp(min=1).log() / 5)[:, None, None].expand(*valid.shape, 1)


def _initial_bias(heads: int, max_distance: int) -> Float[Tensor, "heads distances"]:
    """Return the initial bias per head and distance, as in ALiBi with slopes from 1 to 4^(1 - heads).

    Source: Press, Smith and Lewis 2021, "Train short, test long", arXiv 2108.12409.
    """
    slopes = 2.0 ** -torch.arange(0, 2 * heads, 2)
    return -slopes[:, None] * torch.arange(-max_distance, max_distance + 1).abs()
