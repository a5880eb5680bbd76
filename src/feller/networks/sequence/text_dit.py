"""Diffusion transformer for text, with a depthwise convolution before each attention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.blocks.relative_positions import apply_rotary, rotary_cos_sin
from feller.networks.image.dit import AttentionFn, DiTBlock
from feller.networks.network_config import NetworkConfig, seeded_init

KERNEL_SIZE = 7
"""Kernel size of the convolution before each attention, in positions."""
EMBEDDING_STD = 0.3
"""Standard deviation of the initial token embeddings.

With 1, the features of all positions of a fully masked text would be too similar.
"""
PadFn = Callable[[Tensor], Tensor]
"""Padding function of the convolution: [b, n, width] -> [b, n + KERNEL_SIZE - 1, width]."""


@dataclass(frozen=True)
class TextDiT(NetworkConfig):
    """Diffusion transformer with rotary position embeddings and convolutions, for texts of any length.

    `cond["valid"]` [b, n] is False for padding; `cond["known"]` [b, n] is True for observed tokens.
    Source: Peebles and Xie 2023, arXiv 2212.09748.
    """

    takes_any_length: ClassVar[bool] = True
    vocab_size: int
    """Vocabulary size."""
    has_mask: bool = True
    """True if a text may contain a mask token."""
    width: int = 160
    """Number of features per token."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""

    def __post_init__(self) -> None:
        check_sizes(self, self.vocab_size, self.width, self.depth, self.heads)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "TextDiTNetwork":
        check_text(self, shape)
        with seeded_init(rng):
            return TextDiTNetwork(self, conditions)


def check_sizes(config: NetworkConfig, vocab_size: int, width: int, depth: int, heads: int) -> None:
    """Check the sizes of a transformer with rotary position embeddings; `config` is its configuration.

    Raises:
        UsageError: If a size is below 1, or the width is not divisible by twice the number of heads.
    """
    if min(vocab_size, width, depth, heads) < 1:
        raise UsageError("vocab_size, width, depth and heads of at least 1", config)
    if width % (2 * heads):
        raise UsageError(f"a width divisible by twice the number of heads, {2 * heads}", width)


def check_text(config: NetworkConfig, shape: object) -> None:
    """Check that the shape of a state is that of a sequence; the error names the configuration `config`.

    Raises:
        UsageError: If the shape is not (n,).
    """
    if not isinstance(shape, tuple) or len(shape) != 1:
        name = type(config).__name__
        raise UsageError(
            f"{name} expects texts of shape (n,)", found=shape, remedy="Use TokenAdapter for other token arrays"
        )


class TextDiTNetwork(nn.Module):
    """Diffusion transformer for text, configured by `TextDiT`."""

    def __init__(self, config: TextDiT, conditions: ConditionTypes) -> None:
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
        """Return the logits of the data token at each position."""
        vector, valid = self.conditioning(t, cond), cond.get("valid")
        observed_mask = cond.get("known", torch.zeros_like(x_t, dtype=torch.bool))
        h = self.embed(x_t) + observed_mask[:, :, None] * self.observed_embed
        cos_sin, pad = rotary_cos_sin(0, x_t.shape[1], self.head_dim, h), centered_padding(valid)
        attend = rotary_attention(cos_sin, None if valid is None else key_mask(valid))
        for block in self.blocks:
            h = block(h, vector, attend, pad)
        return self.head(h, vector)


class ConvAttentionBlock(nn.Module):
    """Depthwise convolution, then a transformer block; the caller chooses the padding and the attention mask."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, KERNEL_SIZE, groups=width)
        self.block = DiTBlock(width, heads, inner)

    def forward(
        self, h: Float[Tensor, "b n width"], vector: Float[Tensor, "b inner"], attention: AttentionFn, pad: PadFn
    ) -> Float[Tensor, "b n width"]:
        weight, bias = self.conv.weight[:, :, None], self.conv.bias
        # conv2d is faster than conv1d here
        conv_output = F.conv2d(pad(h).mT[:, :, None], weight, bias, groups=len(weight))[:, :, 0].mT
        return self.block(h + conv_output, vector, attention)


class LogitHead(nn.Module):
    """Modulated linear layer from features to logits, initialised to zero."""

    def __init__(self, width: int, vocab_size: int, inner: int) -> None:
        super().__init__()
        self.modulation = zero_init(nn.Linear(inner, 2 * width))
        self.layer = zero_init(nn.Linear(width, vocab_size))

    def forward(self, h: Float[Tensor, "b n width"], vector: Float[Tensor, "b inner"]) -> Float[Tensor, "b n symbols"]:
        """Return the logits at each position, in float32 or higher precision; `vector` modulates the features."""
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        logits = self.layer(modulate(F.layer_norm(h, h.shape[2:]), scale, shift))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def token_embedding(vocab_size: int, width: int) -> nn.Embedding:
    """Return a token embedding layer, initialised with standard deviation `EMBEDDING_STD`."""
    embedding = nn.Embedding(vocab_size, width)
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    return embedding


def rotary_attention(
    cos_sin: tuple[Float[Tensor, "n size"], Float[Tensor, "n size"]], attn_mask: Bool[Tensor, "b 1 1 n"] | None
) -> AttentionFn:
    """Return the attention with rotary position embeddings to the keys in a mask, or to all keys."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            apply_rotary(query, cos_sin), apply_rotary(key, cos_sin), value, attn_mask=attn_mask
        )

    return attend


def centered_padding(valid: Bool[Tensor, "b n"] | None) -> PadFn:
    """Return a symmetric padding function for the convolution, which also sets padding tokens to zero."""
    padding = (0, 0, KERNEL_SIZE // 2, KERNEL_SIZE // 2)
    return lambda h: F.pad(h if valid is None else h * valid[:, :, None], padding)


def key_mask(valid: Bool[Tensor, "b n"]) -> Bool[Tensor, "b 1 1 n"]:
    """Return the attention mask of valid keys; all keys for an empty text, because a softmax over no keys is NaN."""
    return (valid | ~valid.any(1, keepdim=True))[:, None, None]
