"""Causal transformer: each token is predicted from those before it."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Conditioning
from feller.networks.blocks.relative_positions import rotate, turns
from feller.networks.image.dit import Attend
from feller.networks.sequence.text_dit import REACH, Answer, Frame, LocalBlock, check_sizes, check_text, embedding

BEFORE = REACH - 1
"""Earlier places that the convolution before each attention sees."""


@dataclass(frozen=True)
class Decoder(Architecture):
    """Place i of the answer has seen the tokens before i alone: a law of texts, token after token.

    The blocks are those of `TextTransformer`, which here look back only. Time changes nothing, nor does padding behind
    the end, which no token of the text sees.
    """

    symbols: int
    """Symbols of the answer, and of the text."""
    width: int = 160
    """Features of each token."""
    depth: int = 4
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""

    def __post_init__(self) -> None:
        check_sizes(self, self.symbols, self.width, self.depth, self.heads)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], draws: Rng) -> "CausalTransformer":
        """Make a network with new weights, for texts (n,)."""
        check_text(self, shape)
        with weights_from(draws):
            return CausalTransformer(self, conditions)


@dataclass(frozen=True)
class Cache:
    """What a decoder remembers of the texts that it has read; go on from the newest only, its arrays are shared."""

    keys: Float[Tensor, "depth b heads most size"]
    values: Float[Tensor, "depth b heads most size"]
    near: Float[Tensor, "depth b before width"]
    """The last features, which the convolutions still see."""
    filled: int = 0
    """Places that have been read."""

    def rows(self, which: Int[Tensor, " m"]) -> "Cache":
        """Return that of some of the texts."""
        return replace(self, keys=self.keys[:, which], values=self.values[:, which], near=self.near[:, which])


class CausalTransformer(nn.Module):
    """The network of `Decoder`."""

    def __init__(self, settings: Decoder, conditions: dict[str, int]) -> None:
        super().__init__()
        width, inner = settings.width, -(-settings.width // 4)
        self.heads, self.size = settings.heads, width // settings.heads
        self.conditioning = Conditioning(conditions, inner)
        self.nulls = self.conditioning.nulls
        self.start: int = settings.symbols
        """What is read before the first token."""
        self.enter = embedding(settings.symbols + 1, width)
        self.blocks = nn.ModuleList(LocalBlock(width, settings.heads, inner) for _ in range(settings.depth))
        self.leave = Answer(width, settings.symbols, inner)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, "b n symbols"]:
        """Predict logits of each token from those before it, all at once."""
        n = x_t.shape[1]
        vector = self._vector(x_t.shape[0], given)
        h = self.enter(F.pad(x_t, (1, 0), value=self.start)[:, :n])
        by = turns(0, n, self.size, h)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(rotate(query, by), rotate(key, by), value, is_causal=True)

        for block in self.blocks:
            h = block(h, vector, attend, lambda h: F.pad(h, (0, 0, BEFORE, 0)))
        return self.leave(h, vector)

    def begin(self, b: int, most: int) -> Cache:
        """Return an empty cache for b texts, of which no more than `most` places will be read, the start with them."""
        like, depth = self.enter.weight, len(self.blocks)
        keys, values = like.new_empty(2, depth, b, self.heads, most, self.size).unbind()
        return Cache(keys, values, like.new_zeros(depth, b, BEFORE, like.shape[1]))

    @torch.no_grad()
    def next(self, tokens: Int[Tensor, "b m"], cache: Cache, given: Cond) -> tuple[Float[Tensor, "b symbols"], Cache]:
        """Read on, first of all `start`, and return the logits of the token that follows, with the cache to go on."""
        vector, near = self._vector(len(tokens), given), []
        h = self.enter(tokens)
        by = turns(cache.filled, tokens.shape[1], self.size, h)
        for layer, block in enumerate(self.blocks):
            h = block(h, vector, _remembered(cache, layer, by), _continued(cache.near[layer], near))
        logits = self.leave(h[:, -1:], vector)[:, 0]
        return logits, replace(cache, near=torch.stack(near), filled=cache.filled + tokens.shape[1])

    def _vector(self, b: int | torch.SymInt, given: Cond) -> Float[Tensor, "b inner"]:
        """Return the conditions as a vector; there is no time, so it stands still."""
        return self.conditioning(self.enter.weight.new_zeros(b), given)


def _remembered(cache: Cache, layer: int, by: tuple[Tensor, Tensor]) -> Attend:
    """Return attention that adds keys and values to the cache and sees all that it holds, up to each place itself."""
    first, m = cache.filled, len(by[0])
    keys, values = cache.keys[layer, :, :, : first + m], cache.values[layer, :, :, : first + m]
    seen = None if m == 1 else torch.ones(m, first + m, dtype=torch.bool, device=keys.device).tril(first)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys[:, :, first:], values[:, :, first:] = rotate(key, by), value
        return F.scaled_dot_product_attention(rotate(query, by), keys, values, attn_mask=seen)

    return attend


def _continued(before: Float[Tensor, "b before width"], kept: list[Tensor]) -> Frame:
    """Return what puts the last features in front of new ones, and keeps the last of those for the next call."""

    def frame(h: Tensor) -> Tensor:
        wide = torch.cat([before, h], 1)
        kept.append(wide[:, -BEFORE:])
        return wide

    return frame
