"""Transformer of language models: next-token prediction, masked diffusion and block diffusion with the same weights."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import SummedConditioning, zero_init
from feller.networks.blocks.relative_positions import apply_rotary, rotary_at
from feller.networks.image.dit import AttentionFn, cached_attention
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.causal_transformer import ConvKVCache
from feller.networks.sequence.language_attention import (
    CLEAN,
    LOOKAHEAD,
    AttentionPattern,
    BlockAttention,
    ConvFn,
    FullAttention,
    block_conv,
    convolve,
)
from feller.networks.sequence.text_dit import check_sizes, check_text, token_embedding


@dataclass(frozen=True)
class LanguageTransformer(NetworkConfig):
    """Transformer with rotary positions, pre-norms and tied embeddings, for texts of any length.

    The output at the input of token i - 1 predicts token i, for every attention pattern, and the weights do not depend
    on the pattern: a run of one pattern is a start for another. The time is ignored, because the posterior of a masked
    token does not depend on it (Ou et al. 2024, arXiv 2406.03736). `cond["valid"]` [b, n] is False for padding.
    """

    takes_any_length: ClassVar[bool] = True
    vocab_size: int
    """Vocabulary size."""
    attention: AttentionPattern = field(default_factory=FullAttention)
    """Tokens on which a prediction depends: FullAttention(), CausalAttention() or BlockAttention(size)."""
    width: int = 160
    """Number of features per token."""
    depth: int = 4
    """Number of transformer layers."""
    heads: int = 4
    """Number of attention heads."""
    reach: int = 4
    """Positions before and after a token that the convolution before each attention reads; 0 for no convolution."""

    def __post_init__(self) -> None:
        check_sizes(self, self.vocab_size, self.width, self.depth, self.heads)
        check_number("reach", self.reach, ge=0)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "LanguageTransformerNetwork":
        check_text(self, shape)
        if isinstance(self.attention, BlockAttention) and self.attention.size > max(shape[0], 1):
            raise UsageError(
                argument="block_size",
                expected=f"a block of at most {shape[0]} tokens, the length of a text",
                found=str(self.attention.size),
                remedy="Use smaller blocks, or longer texts",
            )
        with seeded_init(rng):
            return LanguageTransformerNetwork(self, conditions)


class LanguageTransformerNetwork(nn.Module):
    """Transformer over tokens, configured by `LanguageTransformer`."""

    def __init__(self, config: LanguageTransformer, conditions: ConditionTypes) -> None:
        super().__init__()
        width = config.width
        self.attention, self.vocab_size = config.attention, config.vocab_size
        self.heads, self.head_dim, self.reach = config.heads, width // config.heads, config.reach
        self.conditioning = SummedConditioning(conditions, width)
        self.null_values = self.conditioning.null_values
        self.bos_token_id: int = config.vocab_size
        """Token id that precedes the first token in `decode_step`; in x_t, it is the mask."""
        self.embed = token_embedding(config.vocab_size + 2, width)  # data, mask, BOS
        self.layers = nn.ModuleList(LanguageLayer(width, config.heads, config.reach) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, bias=False)
        self.project = zero_init(nn.Linear(width, width, bias=False))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b n symbols"]:
        """Return the logits of each token; the mask in x_t has the id `vocab_size`."""
        layout = self.attention.arrange(x_t, cond, self.bos_token_id + 1)
        h, cos_sin = self._embed(layout.tokens, cond), self._rotary(layout.positions)
        for layer in self.layers:
            h = layer(h, cos_sin, layout.attend, layout.convolve)
        return self._logits(h[:, layout.outputs])

    def init_cache(self, batch_size: int, max_length: int) -> ConvKVCache:
        """Return an empty cache for up to `max_length` tokens per sequence, including the BOS token."""
        like, depth = self.embed.weight, len(self.layers)
        keys, values = like.new_empty(2, depth, batch_size, self.heads, max_length, self.head_dim).unbind()
        return ConvKVCache(keys, values, like.new_zeros(depth, batch_size, self.reach, like.shape[1]))

    @torch.no_grad()
    def decode_step(
        self, tokens: Int[Tensor, "b m"], cache: ConvKVCache, cond: Cond
    ) -> tuple[Float[Tensor, "b symbols"], ConvKVCache]:
        """Read the next tokens of each sequence causally; return the logits of the token after them and the new cache.

        The first token of a sequence is `bos_token_id`.
        """
        start, m, before = cache.length, tokens.shape[1], []
        h = self._embed(tokens + (tokens == self.bos_token_id), cond)
        cos_sin = self._rotary(torch.arange(start, start + m, device=h.device))
        attn_mask = None if m == 1 else torch.ones(m, start + m, dtype=torch.bool, device=h.device).tril(start)
        for i, layer in enumerate(self.layers):
            attend = cached_attention(cache.keys[i], cache.values[i], start, attn_mask)
            h = layer(h, cos_sin, attend, _continued(cache.conv_state[i], before))
        return self._logits(h[:, -1:])[:, 0], replace(
            cache, conv_state=torch.stack(before) if before else cache.conv_state, length=start + m
        )

    @torch.no_grad()
    def block_logits(
        self, tokens: Int[Tensor, "b m"], cache: ConvKVCache, cond: Cond
    ) -> Float[Tensor, "b block symbols"]:
        """Return the logits of the tokens of a noisy block, m = block + 1, after the tokens in the cache.

        The first of `tokens` is the last token before the block, which is not in the cache, or `bos_token_id`. The
        cache is not changed.
        """
        start, m = cache.length, tokens.shape[1]
        bos = tokens.new_zeros(m, dtype=torch.bool)
        bos[0] = start == 0
        h = self._embed(tokens + bos, cond)
        cos_sin = self._rotary(torch.arange(start, start + m, device=h.device))
        for i, layer in enumerate(self.layers):
            attend = cached_attention(cache.keys[i], cache.values[i], start)
            before = cache.conv_state[i]
            h = layer(h, cos_sin, attend, lambda x, weight, before=before: block_conv(x, weight, before))
        return self._logits(h[:, :-1])

    def _embed(self, tokens: Int[Tensor, "b m"], cond: Cond) -> Float[Tensor, "b m width"]:
        """Return the token embeddings plus the embedding of the conditions at time 0."""
        given = {name: value for name, value in cond.items() if name not in (CLEAN, LOOKAHEAD)}
        t = self.embed.weight.new_zeros(len(tokens))
        return self.embed(tokens) + self.conditioning(t, given)[:, None]

    def _rotary(self, positions: Int[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        return rotary_at(positions, self.head_dim, self.embed.weight)

    def _logits(self, h: Float[Tensor, "b n width"]) -> Float[Tensor, "b n symbols"]:
        """Return the logits of data tokens, by tied embeddings, in float32 or higher precision."""
        logits = F.linear(self.project(self.norm(h)), self.embed.weight[: self.vocab_size], self.bias)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class LanguageLayer(nn.Module):
    """Transformer layer: depthwise convolution, attention and an MLP, each added to the features."""

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads = heads
        self.conv = nn.Parameter(torch.zeros(width, 2 * reach + 1)) if reach else None
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = zero_init(nn.Linear(width, width, bias=False))
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = zero_init(nn.Linear(4 * width, width))

    def forward(
        self,
        h: Float[Tensor, "b m width"],
        cos_sin: tuple[Float[Tensor, "m size"], Float[Tensor, "m size"]],
        attend: AttentionFn,
        convolve: ConvFn,
    ) -> Float[Tensor, "b m width"]:
        if self.conv is not None:
            h = h + convolve(h, self.conv)
        query, key, value = self.qkv(self.norm_1(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = attend(apply_rotary(query, cos_sin), apply_rotary(key, cos_sin), value)
        h = h + self.proj(y.transpose(1, 2).flatten(2))
        return h + self.fc2(F.gelu(self.fc1(self.norm_2(h)), approximate="tanh"))


def _continued(before: Float[Tensor, "b reach width"], later: list[Tensor]) -> ConvFn:
    """Return a causal convolution after the features `before`; it appends the features for the next one to `later`."""
    reach = before.shape[1]

    def causal(h: Tensor, weight: Tensor) -> Tensor:
        padded = torch.cat([before, h], 1)
        later.append(padded[:, padded.shape[1] - reach :])
        return convolve(padded, weight[:, : reach + 1])

    return causal
