"""Causal transformer, which predicts each token from the tokens before it."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning
from feller.networks.blocks.relative_positions import apply_rotary, rotary_cos_sin
from feller.networks.image.dit import AttentionFn, cached_attention
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.text_dit import (
    KERNEL_SIZE,
    ConvAttentionBlock,
    LogitHead,
    PadFn,
    check_sizes,
    check_text,
    token_embedding,
)

CONV_CONTEXT = KERNEL_SIZE - 1
"""Number of previous positions in the causal convolution before each attention layer."""


@dataclass(frozen=True)
class CausalTransformer(NetworkConfig):
    """Autoregressive transformer, in which the logits at position i depend only on the tokens before i.

    The blocks are those of `TextDiT`, made causal. The time, and padding after the end of a text, do not affect the
    logits.
    """

    takes_any_length: ClassVar[bool] = True
    vocab_size: int
    """Vocabulary size."""
    width: int = 160
    """Number of features per token."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""

    def __post_init__(self) -> None:
        check_sizes(self, self.vocab_size, self.width, self.depth, self.heads)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "CausalTransformerNetwork":
        check_text(self, shape)
        with seeded_init(rng):
            return CausalTransformerNetwork(self, conditions)


@dataclass(frozen=True)
class ConvKVCache:
    """KV cache with convolution state; updates are in place, so only the most recently returned cache is valid."""

    keys: Float[Tensor, "depth b heads most size"]
    values: Float[Tensor, "depth b heads most size"]
    conv_state: Float[Tensor, "depth b before width"]
    """Features of the last positions in each layer, which are the left context of the convolutions."""
    length: int = 0
    """Number of positions per sequence processed so far."""

    def select(self, index: Int[Tensor, " m"]) -> "ConvKVCache":
        """Return the cache of the sequences with the indices `index`, in this order."""
        return replace(
            self, keys=self.keys[:, index], values=self.values[:, index], conv_state=self.conv_state[:, index]
        )


class CausalTransformerNetwork(nn.Module):
    """Causal transformer over tokens, configured by `CausalTransformer`."""

    def __init__(self, config: CausalTransformer, conditions: ConditionTypes) -> None:
        super().__init__()
        width, inner = config.width, -(-config.width // 4)
        self.heads, self.head_dim = config.heads, width // config.heads
        self.conditioning = Conditioning(conditions, inner)
        self.null_values = self.conditioning.null_values
        self.bos_token_id: int = config.vocab_size
        """Token id that precedes the first token (beginning of sequence)."""
        self.embed = token_embedding(config.vocab_size + 1, width)
        self.blocks = nn.ModuleList(ConvAttentionBlock(width, config.heads, inner) for _ in range(config.depth))
        self.head = LogitHead(width, config.vocab_size, inner)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b n symbols"]:
        """Return the logits of each token given the tokens before it."""
        n = x_t.shape[1]
        vector = self._condition_vector(x_t.shape[0], cond)
        h = self.embed(F.pad(x_t, (1, 0), value=self.bos_token_id)[:, :n])
        cos_sin = rotary_cos_sin(0, n, self.head_dim, h)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(
                apply_rotary(query, cos_sin), apply_rotary(key, cos_sin), value, is_causal=True
            )

        for block in self.blocks:
            h = block(h, vector, attend, lambda h: F.pad(h, (0, 0, CONV_CONTEXT, 0)))
        return self.head(h, vector)

    def init_cache(self, batch_size: int, max_length: int) -> ConvKVCache:
        """Return an empty cache for up to `max_length` positions per sequence, including the BOS token."""
        like, depth = self.embed.weight, len(self.blocks)
        keys, values = like.new_empty(2, depth, batch_size, self.heads, max_length, self.head_dim).unbind()
        return ConvKVCache(keys, values, like.new_zeros(depth, batch_size, CONV_CONTEXT, like.shape[1]))

    @torch.no_grad()
    def decode_step(
        self, tokens: Int[Tensor, "b m"], cache: ConvKVCache, cond: Cond
    ) -> tuple[Float[Tensor, "b symbols"], ConvKVCache]:
        """Process the next tokens of each sequence; return the logits of the token after them and the new cache.

        The first token of a sequence is `bos_token_id`.
        """
        vector, states = self._condition_vector(len(tokens), cond), []
        h = self.embed(tokens)
        start, m = cache.length, tokens.shape[1]
        cos_sin = rotary_cos_sin(start, m, self.head_dim, h)
        attn_mask = None if m == 1 else torch.ones(m, start + m, dtype=torch.bool, device=h.device).tril(start)
        for layer, block in enumerate(self.blocks):
            cached = cached_attention(cache.keys[layer], cache.values[layer], start, attn_mask)

            def attend(query: Tensor, key: Tensor, value: Tensor, cached: AttentionFn = cached) -> Tensor:
                return cached(apply_rotary(query, cos_sin), apply_rotary(key, cos_sin), value)

            h = block(h, vector, attend, _continue_conv(cache.conv_state[layer], states))
        logits = self.head(h[:, -1:], vector)[:, 0]
        return logits, replace(cache, conv_state=torch.stack(states), length=start + m)

    def _condition_vector(self, b: int | torch.SymInt, cond: Cond) -> Float[Tensor, "b inner"]:
        """Return the embedding of the conditions at time 0."""
        return self.conditioning(self.embed.weight.new_zeros(b), cond)


def _continue_conv(conv_state: Float[Tensor, "b before width"], conv_states: list[Tensor]) -> PadFn:
    """Return a padding function for a causal convolution over new tokens: the inputs before them replace the padding.

    It appends the inputs that the next tokens need to `conv_states`.
    """

    def pad(h: Tensor) -> Tensor:
        padded = torch.cat([conv_state, h], 1)
        conv_states.append(padded[:, -CONV_CONTEXT:])
        return padded

    return pad
