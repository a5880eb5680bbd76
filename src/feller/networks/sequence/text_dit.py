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
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.blocks.relative_positions import apply_rotary, rotary_cos_sin
from feller.networks.image.dit import AttentionFn, DiTBlock
from feller.networks.network_config import NetworkConfig, seeded_init

KERNEL_SIZE = 7
"""Places that the convolution before each attention sees."""
EMBEDDING_STD = 0.3
"""Standard deviation of a new embedding: at 1, texts that are all mask differ too little from place to place."""
PadFn = Callable[[Tensor], Tensor]
"""Features [b, n, width] -> those and the REACH - 1 around or before them, [b, n + REACH - 1, width]."""


@dataclass(frozen=True)
class TextDiT(NetworkConfig):
    """Attention with rotary positions and a convolution before it; texts of any length, padded or not.

    `given["valid"]` [b, n] tells the text from its padding, which nothing looks at; `given["known"]` [b, n] the tokens
    that are kept. Source: Peebles and Xie 2023, arXiv 2212.09748.
    """

    vocab_size: int
    """Symbols of the answer."""
    has_mask: bool = True
    """A text may hold one more symbol, the mask."""
    width: int = 160
    """Features of each token."""
    depth: int = 4
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""

    def __post_init__(self) -> None:
        check_sizes(self, self.vocab_size, self.width, self.depth, self.heads)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> "TextDiTNetwork":
        check_text(self, shape)
        with seeded_init(rng):
            return TextDiTNetwork(self, conditions)


def check_sizes(config: NetworkConfig, vocab_size: int, width: int, depth: int, heads: int) -> None:
    """Refuse sizes of which no transformer with rotary positions can be made."""
    if min(vocab_size, width, depth, heads) < 1:
        raise UsageError("numbers of 1 or more", config)
    if width % (2 * heads):
        raise UsageError(f"a width that twice the {heads} heads divides", width)


def check_text(config: NetworkConfig, shape: object) -> None:
    """Refuse states that are no sequence."""
    if not isinstance(shape, tuple) or len(shape) != 1:
        name = type(config).__name__
        raise UsageError(
            f"{name} expects texts of shape (n,)", found=shape, remedy="Use TokenAdapter for other arrays of tokens"
        )


class TextDiTNetwork(nn.Module):
    """The network of `TextDiT`."""

    def __init__(self, config: TextDiT, conditions: dict[str, int]) -> None:
        super().__init__()
        width, inner = config.width, -(-config.width // 4)
        self.head_dim = width // config.heads
        self.conditioning = Conditioning(conditions, inner)
        self.null_values = self.conditioning.null_values
        self.embed = token_embedding(config.vocab_size + config.has_mask, width)
        self.observed_embed = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(ConvAttentionBlock(width, config.heads, inner) for _ in range(config.depth))
        self.head = LogitHead(width, config.vocab_size, inner)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b n symbols"]:
        """Predict logits of each token of the data."""
        vector, valid = self.conditioning(t, cond), cond.get("valid")
        observed_mask = cond.get("known", torch.zeros_like(x_t, dtype=torch.bool))
        h = self.embed(x_t) + observed_mask[:, :, None] * self.observed_embed
        cos_sin, around = rotary_cos_sin(0, x_t.shape[1], self.head_dim, h), _centered_padding(valid)
        attn_mask = None if valid is None else _key_mask(valid)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(
                apply_rotary(query, cos_sin), apply_rotary(key, cos_sin), value, attn_mask=attn_mask
            )

        for block in self.blocks:
            h = block(h, vector, attend, around)
        return self.head(h, vector)


class ConvAttentionBlock(nn.Module):
    """A depthwise convolution, then a block of attention; where both look is the caller's to say."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, KERNEL_SIZE, groups=width)
        self.block = DiTBlock(width, heads, inner)

    def forward(
        self, h: Float[Tensor, "b n width"], vector: Float[Tensor, "b inner"], attention: AttentionFn, pad: PadFn
    ) -> Float[Tensor, "b n width"]:
        """Add what the neighbours, then what all say."""
        weight, bias = self.conv.weight[:, :, None], self.conv.bias
        # torch's convolution in two dimensions is faster than its own in one
        near = F.conv2d(pad(h).mT[:, :, None], weight, bias, groups=len(weight))[:, :, 0].mT
        return self.block(h + near, vector, attention)


class LogitHead(nn.Module):
    """A modulated layer from features to logits, which are zero at first."""

    def __init__(self, width: int, vocab_size: int, inner: int) -> None:
        super().__init__()
        self.modulation = zero_init(nn.Linear(inner, 2 * width))
        self.layer = zero_init(nn.Linear(width, vocab_size))

    def forward(self, h: Float[Tensor, "b n width"], vector: Float[Tensor, "b inner"]) -> Float[Tensor, "b n symbols"]:
        """Return logits in float32 at least."""
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        logits = self.layer(modulate(F.layer_norm(h, h.shape[2:]), scale, shift))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def token_embedding(vocab_size: int, width: int) -> nn.Embedding:
    """Return a table of features for each symbol."""
    table = nn.Embedding(vocab_size, width)
    nn.init.normal_(table.weight, std=EMBEDDING_STD)
    return table


def _centered_padding(valid: Bool[Tensor, "b n"] | None) -> PadFn:
    """Return what sees half of the neighbours on each side, and zeros for padding."""
    sides = (0, 0, KERNEL_SIZE // 2, KERNEL_SIZE // 2)
    return lambda h: F.pad(h if valid is None else h * valid[:, :, None], sides)


def _key_mask(valid: Bool[Tensor, "b n"]) -> Bool[Tensor, "b 1 1 n"]:
    """Return the places that attention sees: the text, or all where there is none, since a mean of none is none."""
    return (valid | ~valid.any(1, keepdim=True))[:, None, None]
