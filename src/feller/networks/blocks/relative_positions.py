"""Relative positions in attention: rotary embeddings, ALiBi, and pair biases."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.networks.blocks.conditioning import fourier, zero
from feller.networks.image.dit import Attend

SLOWEST = 10_000
"""Places in which the slowest pair of features turns by one radian."""


def turns(first: int, n: int, size: int, like: Tensor) -> tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]]:
    """Return the cosines and the signed sines by which `rotate` turns places first, first + 1, ... of n.

    Source: Su et al. 2021, "RoFormer: Enhanced transformer with rotary position embedding", arXiv 2104.09864.
    """
    half = size // 2
    speeds = SLOWEST ** -(torch.arange(half, dtype=like.dtype, device=like.device) / half)
    angles = torch.arange(first, first + n, dtype=like.dtype, device=like.device)[:, None] * speeds
    return angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], 1)


def rotate(
    x: Float[Tensor, "b heads n size"], by: tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]]
) -> Float[Tensor, "b heads n size"]:
    """Turn the pairs (i, i + size / 2) of features of each place."""
    cosines, sines = by
    return torch.addcmul(x * cosines, x.roll(x.shape[3] // 2, 3), sines)


class Distance(abc.ABC):
    """A way to tell distances. Implement one method to add one."""

    @abc.abstractmethod
    def attend(
        self, seen: Bool[Tensor, "b n"] | None, like: Float[Tensor, "b n width"], heads: int, tokens: int
    ) -> Attend:
        """Return the attention of all blocks.

        Args:
            seen: Places that may be looked at, tokens and frames; None for all.
            like: The features of the places.
            heads: Heads of the attention.
            tokens: Number of places before the first frame.
        """


@dataclass(frozen=True)
class ALiBi(Distance):
    """Minus slope |i - j| on the score of places i and j; the slopes are 2^(-8 h / heads), h = 1 to heads.

    Longer rows than those of the training are further apart, and nothing else about them is new. Source: Press, Smith
    and Lewis 2021, "Train short, test long", arXiv 2108.12409; in both directions, and with none to and from tokens, by
    Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """

    def attend(
        self, seen: Bool[Tensor, "b n"] | None, like: Float[Tensor, "b n width"], heads: int, tokens: int
    ) -> Attend:
        """Return attention with a bias."""
        bias = slopes(heads, like)[:, None, None] * -_apart(like.shape[1] - tokens, like)
        bias = F.pad(bias, (tokens, 0, tokens, 0))[None]
        if seen is not None:
            bias = torch.where(seen[:, None, None], bias, -torch.inf)
        return lambda query, key, value: F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


@dataclass(frozen=True)
class Rotary(Distance):
    """Rotary positions of the frames; tokens stand where the first frame does."""

    def attend(
        self, seen: Bool[Tensor, "b n"] | None, like: Float[Tensor, "b n width"], heads: int, tokens: int
    ) -> Attend:
        """Return attention among queries and keys that are turned."""
        n, size = like.shape[1] - tokens, like.shape[2] // heads
        cosines, sines = turns(0, n, size, like)
        by = F.pad(cosines, (0, 0, tokens, 0), value=1.0), F.pad(sines, (0, 0, tokens, 0))
        some = None if seen is None else seen[:, None, None]

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(rotate(query, by), rotate(key, by), value, attn_mask=some)

        return attend


def slopes(heads: int, like: Tensor) -> Float[Tensor, " heads"]:
    """Return how fast the score falls with the distance in each head."""
    return torch.arange(1, heads + 1, dtype=like.dtype, device=like.device).mul(-8 / heads).exp2()


def _apart(n: int, like: Tensor) -> Float[Tensor, "n n"]:
    places = torch.arange(n, dtype=like.dtype, device=like.device)
    return (places[:, None] - places).abs()


OCTAVES = 3
"""Frequencies of each difference: waves of angles, or from 1/4 cycle per unit up."""
ENDS = 5
"""Features that say where a place of a chain is."""


class Along(nn.Module):
    """A bias for each distance along a chain, up to a reach. Source: Shaw et al. 2018, arXiv 1803.02155."""

    def __init__(self, heads: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.near = nn.Parameter(_slopes(heads, reach))

    def forward(self, n: int) -> Float[Tensor, "heads n n"]:
        """Return what is added to the attention of n places."""
        place = torch.arange(n, device=self.near.device)
        return self.near[:, (place - place[:, None]).clamp(-self.reach, self.reach) + self.reach]


class Apart(nn.Module):
    """A bias from the differences of a leaf between two sites, by a small network that starts silent."""

    def __init__(self, heads: int, size: int, turn: float | None) -> None:
        super().__init__()
        self.turn = turn
        self.first = nn.Linear(2 * OCTAVES * size, 32)
        self.second = zero(nn.Linear(32, heads))

    def forward(self, x: Float[Tensor, "b n k"]) -> Float[Tensor, "b heads n n"]:
        """Return what is added to the attention."""
        differences = x[:, :, None] - x[:, None]
        if self.turn is not None:
            differences = differences * (4 / self.turn)  # the slowest wave takes 4
        waves = fourier(differences, OCTAVES).flatten(3)
        return self.second(torch.relu(self.first(waves))).permute(0, 3, 1, 2)


def ends(valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b n 5"]:
    """Return how near both ends of a chain are, at two scales each, and how long it is."""
    place = torch.arange(valid.shape[1], dtype=like.dtype, device=like.device).expand(valid.shape)
    left = (valid.sum(1, keepdim=True).to(like.dtype) - 1 - place).clamp(min=0)
    parts = [(-place).exp(), (-place / 8).exp(), (-left).exp(), (-left / 8).exp(), number(valid, like)[:, :, 0]]
    return torch.stack(parts, 2) * valid[:, :, None]


def number(valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b n 1"]:
    """Return how many sites there are, as a feature of each."""
    return (valid.sum(1).to(like.dtype).clamp(min=1).log() / 5)[:, None, None].expand(*valid.shape, 1)


def _slopes(heads: int, reach: int) -> Float[Tensor, "heads distances"]:
    """Return a start for the bias by distance: each head falls off at its own rate, the last hardly.

    Source: Press et al. 2022, "Train short, test long", arXiv 2108.12409.
    """
    slopes = 2.0 ** -torch.arange(0, 2 * heads, 2)
    return -slopes[:, None] * torch.arange(-reach, reach + 1).abs()
