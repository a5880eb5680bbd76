"""Diffusion transformer for text: every place sees all others, and first of all its neighbours."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Conditioning, modulate, zero
from feller.networks.blocks.relative_positions import rotate, turns
from feller.networks.image.dit import Attend, Block

REACH = 7
"""Places that the convolution before each attention sees."""
SPREAD = 0.3
"""Standard deviation of a new embedding: at 1, texts that are all mask differ too little from place to place."""
Frame = Callable[[Tensor], Tensor]
"""Features [b, n, width] -> those and the REACH - 1 around or before them, [b, n + REACH - 1, width]."""


@dataclass(frozen=True)
class TextTransformer(Architecture):
    """Attention with rotary positions and a convolution before it; texts of any length, padded or not.

    `given["valid"]` [b, n] tells the text from its padding, which nothing looks at; `given["known"]` [b, n] the tokens
    that are kept. Source: Peebles and Xie 2023, arXiv 2212.09748.
    """

    symbols: int
    """Symbols of the answer."""
    masked: bool = True
    """A text may hold one more symbol, the mask."""
    width: int = 160
    """Features of each token."""
    depth: int = 4
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""

    def __post_init__(self) -> None:
        check_sizes(self, self.symbols, self.width, self.depth, self.heads)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], draws: Rng) -> "DiffusionTextTransformer":
        """Make a network with new weights, for texts (n,)."""
        check_text(self, shape)
        with weights_from(draws):
            return DiffusionTextTransformer(self, conditions)


def check_sizes(settings: Architecture, symbols: int, width: int, depth: int, heads: int) -> None:
    """Refuse sizes of which no transformer with rotary positions can be made."""
    if min(symbols, width, depth, heads) < 1:
        raise UsageError("numbers of 1 or more", settings)
    if width % (2 * heads):
        raise UsageError(f"a width that twice the {heads} heads divides", width)


def check_text(settings: Architecture, shape: object) -> None:
    """Refuse states that are no sequence."""
    if not isinstance(shape, tuple) or len(shape) != 1:
        name = type(settings).__name__
        raise UsageError(
            f"{name} expects texts of shape (n,)", found=shape, remedy="Use Embedded for other arrays of tokens"
        )


class DiffusionTextTransformer(nn.Module):
    """The network of `TextTransformer`."""

    def __init__(self, settings: TextTransformer, conditions: dict[str, int]) -> None:
        super().__init__()
        width, inner = settings.width, -(-settings.width // 4)
        self.size = width // settings.heads
        self.conditioning = Conditioning(conditions, inner)
        self.nulls = self.conditioning.nulls
        self.enter = embedding(settings.symbols + settings.masked, width)
        self.known = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(LocalBlock(width, settings.heads, inner) for _ in range(settings.depth))
        self.leave = Answer(width, settings.symbols, inner)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, "b n symbols"]:
        """Predict logits of each token of the data."""
        vector, valid = self.conditioning(t, given), given.get("valid")
        known = given.get("known", torch.zeros_like(x_t, dtype=torch.bool))
        h = self.enter(x_t) + known[:, :, None] * self.known
        by, around = turns(0, x_t.shape[1], self.size, h), _around(valid)
        seen = None if valid is None else _seen(valid)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(rotate(query, by), rotate(key, by), value, attn_mask=seen)

        for block in self.blocks:
            h = block(h, vector, attend, around)
        return self.leave(h, vector)


class LocalBlock(nn.Module):
    """A depthwise convolution, then a block of attention; where both look is the caller's to say."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, REACH, groups=width)
        self.block = Block(width, heads, inner)

    def forward(
        self, h: Float[Tensor, "b n width"], vector: Float[Tensor, "b inner"], attend: Attend, frame: Frame
    ) -> Float[Tensor, "b n width"]:
        """Add what the neighbours, then what all say."""
        weight, bias = self.near.weight[:, :, None], self.near.bias
        # torch's convolution in two dimensions is faster than its own in one
        near = F.conv2d(frame(h).mT[:, :, None], weight, bias, groups=len(weight))[:, :, 0].mT
        return self.block(h + near, vector, attend)


class Answer(nn.Module):
    """A modulated layer from features to logits, which are zero at first."""

    def __init__(self, width: int, symbols: int, inner: int) -> None:
        super().__init__()
        self.modulation = zero(nn.Linear(inner, 2 * width))
        self.layer = zero(nn.Linear(width, symbols))

    def forward(self, h: Float[Tensor, "b n width"], vector: Float[Tensor, "b inner"]) -> Float[Tensor, "b n symbols"]:
        """Return logits in float32 at least."""
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        logits = self.layer(modulate(F.layer_norm(h, h.shape[2:]), scale, shift))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def embedding(symbols: int, width: int) -> nn.Embedding:
    """Return a table of features for each symbol."""
    table = nn.Embedding(symbols, width)
    nn.init.normal_(table.weight, std=SPREAD)
    return table


def _around(valid: Bool[Tensor, "b n"] | None) -> Frame:
    """Return what sees half of the neighbours on each side, and zeros for padding."""
    sides = (0, 0, REACH // 2, REACH // 2)
    return lambda h: F.pad(h if valid is None else h * valid[:, :, None], sides)


def _seen(valid: Bool[Tensor, "b n"]) -> Bool[Tensor, "b 1 1 n"]:
    """Return the places that attention sees: the text, or all where there is none, since a mean of none is none."""
    return (valid | ~valid.any(1, keepdim=True))[:, None, None]
