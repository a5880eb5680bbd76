"""How attention among frames knows how far apart they are; tokens before them are at no distance from any."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from feller.networks.blocks.relative_positions import rotate, turns
from feller.networks.image.dit import Attend


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
