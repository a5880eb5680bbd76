"""Decoder-only transformer, as in CM3Leon, for rows that pack several documents."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.blocks.conditioning import zero_init
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.text_dit import check_text

WEIGHT_STD, POSITION_STD = 0.006, 0.0002
"""Standard deviations of initial weights and position embeddings."""
TRUNCATION = 3
"""Truncation of the normal distribution of initial weights, in standard deviations."""
QKVAttentionFn = Callable[[Tensor], Tensor]
"""Attention function from stacked (queries, keys, values), [3, b, heads, n, size], to the output, [b, heads, n,
size]."""
HEAD_DIM = 32
"""Number of features per attention head in `GPT.from_size`."""


@dataclass(frozen=True)
class GPT(NetworkConfig):
    """Decoder-only transformer, in which the logits at position i predict token i + 1 from the tokens up to i.

    It has no biases and no dropout, but pre-norms without weights, learned absolute positions and tied embeddings.
    Unlike for other networks, the initial output is not zero: blocks initially add zero, so the tied head favours
    repeating the input. The time is ignored.

    `cond["sample"]` [b, n] is the number of the sample in a row to which a token belongs; samples in a row do not
    attend to each other. `cond["position"]` [b, n] is the position of a token within its sample. By default a row is a
    single sample. Source: Yu et al. 2023, "Scaling autoregressive multi-modal models", arXiv 2309.02591, section 4.
    """

    vocabulary: DocumentVocabulary
    """Vocabulary of inputs and outputs."""
    width: int = 128
    """Number of features per position."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""
    context: int = 512
    """Context length: maximum number of tokens in a sample."""
    patch_positions: bool = True
    """True to add an embedding of each image code's index within its image, which the network in the paper lacks.
    Without this embedding, the network learns more slowly to copy content from one image to the next."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.context) < 1:
            raise UsageError("width, depth, heads and context of at least 1", self)
        if self.width % self.heads:
            raise UsageError(f"a width divisible by the number of heads, {self.heads}", self.width)

    @classmethod
    def from_size(cls, vocabulary: DocumentVocabulary, size: int, context: int = 512) -> "GPT":
        """Return a network configuration with `size` blocks, `size` attention heads and 32 features per head.

        The blocks have 12,288 * size^3 parameters: 0.3, 0.8 and 2.7 million at sizes 3, 4 and 6. Embeddings add 32 *
        size parameters for each token of the vocabulary, each position and each patch position.
        """
        return cls(vocabulary, HEAD_DIM * size, size, size, context)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> "GPTNetwork":
        check_text(self, shape)
        if conditions:
            raise UsageError(
                "GPT has no conditions", found=", ".join(conditions), remedy="Write the conditions into the token rows"
            )
        with seeded_init(rng):
            return GPTNetwork(self)


@dataclass(frozen=True)
class KVCache:
    """KV cache of a `GPTNetwork`; updates are in place, so only the most recently returned cache is valid."""

    key_values: Float[Tensor, "depth 2 held heads most size"]
    """Keys and values. Copying them is costly, so finished rows remain in the cache until a quarter of its rows is
    unused."""
    left_padding: Int[Tensor, " held"]
    """Number of masked padding positions at the start of each row; the full length for a finished row."""
    padding_range: tuple[int, int]
    """Minimum and maximum of `left_padding` over the rows."""
    active_rows: Int[Tensor, " b"] | None = None
    """Indices of the unfinished rows; None if all rows are unfinished."""
    length: int = 0
    """Number of positions per row processed so far."""
    tokens: Int[Tensor, "held most"] | None = None
    """Tokens processed so far; None if the network has no patch positions."""
    patch_position: Int[Tensor, " held"] | None = None
    """Patch position of each row's last token; None before the first token."""

    def select(self, index: Int[Tensor, " m"]) -> "KVCache":
        """Return the cache of the unfinished rows with the indices `index`, in this order."""
        rows, num_held = index if self.active_rows is None else self.active_rows[index], len(self.left_padding)
        if 4 * len(rows) > 3 * num_held and (rows.diff() > 0).all():
            left_padding = torch.full_like(self.left_padding, self.key_values.shape[4]).index_copy(
                0, rows, self.left_padding[rows]
            )
            return replace(self, left_padding=left_padding, padding_range=_min_and_max(left_padding), active_rows=rows)
        left_padding, key_values = self.left_padding[rows], self.key_values[:, :, rows]
        tokens, patch_position = (
            None if tensor is None else tensor[rows] for tensor in (self.tokens, self.patch_position)
        )
        return replace(
            self,
            key_values=key_values,
            left_padding=left_padding,
            padding_range=_min_and_max(left_padding),
            active_rows=None,
            tokens=tokens,
            patch_position=patch_position,
        )

    def attention_mask(self, m: int) -> Bool[Tensor, "held 1 m places"] | None:
        """Return the attention mask for the next m positions; None if no position is masked."""
        if m == 1 and self.padding_range == (0, 0):
            return None
        positions = torch.arange(self.length + m, device=self.left_padding.device)
        new_positions = positions[self.length :, None]
        # padding attends to itself, since a softmax over no keys is NaN
        valid = (positions >= self.left_padding[:, None])[:, None] | (positions == new_positions)
        return (valid & (positions <= new_positions))[:, None]

    def positions(self, m: int) -> Int[Tensor, "held m"]:
        """Return the positions of the next m tokens within their samples."""
        indices = torch.arange(self.length, self.length + m, device=self.left_padding.device)
        return (indices - self.left_padding[:, None]).clamp(min=0)


class GPTNetwork(nn.Module):
    """Decoder-only transformer over document tokens, configured by `GPT`."""

    def __init__(self, config: GPT) -> None:
        super().__init__()
        width = config.width
        self.vocabulary, self.context = config.vocabulary, config.context
        self.heads, self.head_dim = config.heads, width // config.heads
        self.null_values: dict[str, int | float] = {}
        self.token_embed = nn.Embedding(self.vocabulary.num_inputs, width)
        self.position_embed = nn.Embedding(self.context, width)
        self.blocks = nn.ModuleList(GPTBlock(width, config.heads) for _ in range(config.depth))
        _init_trunc_normal(self.token_embed.weight, WEIGHT_STD)
        _init_trunc_normal(self.position_embed.weight, POSITION_STD)
        self.patch_positions: PatchPositions | None = None
        if config.patch_positions:
            self.patch_positions = PatchPositions(self.vocabulary, width)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b n count"]:
        """Return the logits of the next token at each position, given all tokens up to this position.

        Raises:
            UsageError: If a row is longer than the context length and `cond` has no `position`.
        """
        n, sample = x_t.shape[1], cond.get("sample")
        position = cond.get("position")
        if position is None:
            self._check(n)
            position = torch.arange(n, device=x_t.device).expand(x_t.shape)
        attn_mask = None if sample is None else _sample_causal_mask(sample)

        def attend(qkv: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(*qkv, attn_mask=attn_mask, is_causal=attn_mask is None)

        h = self.token_embed(x_t) + self.position_embed(position)
        if self.patch_positions is not None:
            h = h + self.patch_positions(self.patch_positions.positions(x_t, sample))
        for block in self.blocks:
            h = block(h, attend)
        return self._logits(h)

    def init_cache(self, batch_size: int, max_length: int, left_padding: Int[Tensor, " b"] | None = None) -> KVCache:
        """Return an empty cache.

        Args:
            batch_size: Number of rows.
            max_length: Maximum number of positions per row, including padding.
            left_padding: Number of padding tokens at the start of each row (default: none).
        """
        like, depth = self.token_embed.weight, len(self.blocks)
        key_values = like.new_empty(depth, 2, batch_size, self.heads, max_length, self.head_dim)
        left_padding = (
            torch.zeros(batch_size, dtype=torch.long, device=like.device) if left_padding is None else left_padding
        )
        tokens = None if self.patch_positions is None else left_padding.new_zeros(batch_size, max_length)
        return KVCache(key_values, left_padding, _min_and_max(left_padding), tokens=tokens)

    @torch.no_grad()
    def decode_step(self, tokens: Int[Tensor, "b m"], cache: KVCache) -> tuple[Float[Tensor, "b count"], KVCache]:
        """Process the next tokens of each row; return the logits of the token after them and the new cache.

        Raises:
            UsageError: If the rows become longer than the context length.
        """
        m, rows, patch_position = tokens.shape[1], cache.active_rows, cache.patch_position
        self._check(cache.length + m - cache.padding_range[0])
        if rows is not None:
            tokens = torch.full_like(cache.left_padding[:, None].expand(-1, m), self.vocabulary.pad).index_copy(
                0, rows, tokens
            )
        has_padding = cache.padding_range != (0, 0)
        position_embed = (
            self.position_embed(cache.positions(m))
            if has_padding
            else self.position_embed.weight[cache.length : cache.length + m]
        )
        h, attn_mask = self.token_embed(tokens) + position_embed, cache.attention_mask(m)
        if self.patch_positions is not None and cache.tokens is not None:
            cache.tokens[:, cache.length : cache.length + m] = tokens
            patch_positions = self.patch_positions.advance(tokens, patch_position)
            if patch_positions is None:
                patch_positions = self.patch_positions.positions(cache.tokens[:, : cache.length + m])[:, cache.length :]
            h, patch_position = h + self.patch_positions(patch_positions), patch_positions[:, -1]
        for layer, block in enumerate(self.blocks):
            h = block(h, _cached_attention(cache, layer, m, attn_mask))
        h_last = h[:, -1:] if rows is None else h[rows, -1:]
        return self._logits(h_last)[:, 0], replace(cache, length=cache.length + m, patch_position=patch_position)

    def _check(self, n: int) -> None:
        if n > self.context:
            raise UsageError(f"rows of at most {self.context} tokens (the context)", n, "Shorten the rows")

    def _logits(self, h: Float[Tensor, "b n width"]) -> Float[Tensor, "b n count"]:
        """Return logits, in float32 or higher precision, of all tokens that can be predicted."""
        logits = F.linear(F.layer_norm(h, h.shape[2:]), self.token_embed.weight[: self.vocabulary.num_outputs])
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class PatchPositions(nn.Module):
    """Embedding of each image code's 1-based index within its image; other tokens have index 0 and embedding 0.

    A `<mask>` token stands for a hole: codes that are left out of the image and written later in the row, after an
    `<infill>` token. The `<mask>` has the index of the code before it. The `<infill>` token and the codes that fill the
    hole continue from this index. Codes after a `<mask>` are counted as if the hole were empty, because its length is
    unknown.
    """

    def __init__(self, vocabulary: DocumentVocabulary, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embed = nn.Embedding(vocabulary.picture + 1, width, padding_idx=0)
        _init_trunc_normal(self.embed.weight, WEIGHT_STD)
        with torch.no_grad():
            self.embed.weight[0] = 0

    def forward(self, positions: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Return the embeddings of patch positions."""
        return self.embed(positions)

    def advance(self, tokens: Int[Tensor, "b m"], last: Int[Tensor, " b"] | None) -> Int[Tensor, "b m"] | None:
        """Return the patch position of one new token per row, given that of the token before it (`last`).

        Return None for several tokens per row or an `<infill>` token, which require `positions`.
        """
        if tokens.shape[1] != 1 or last is None or (tokens == self.vocabulary.infill).any():
            return None
        is_code = self.vocabulary.is_code(tokens)
        position = (last[:, None] + is_code).clamp_(max=self.vocabulary.picture)
        return position.mul_(is_code | (tokens == self.vocabulary.mask))

    def positions(self, tokens: Int[Tensor, "b n"], sample: Int[Tensor, "b n"] | None = None) -> Int[Tensor, "b n"]:
        """Return the 1-based index of each image code within its image, from the tokens of its sample up to it.

        `sample` is the number of the sample to which each token belongs; None if a row is a single sample.
        """
        is_code, is_mask, is_infill = (
            self.vocabulary.is_code(tokens),
            tokens == self.vocabulary.mask,
            tokens == self.vocabulary.infill,
        )
        is_start = tokens == self.vocabulary.eos
        if sample is not None:
            is_start = is_start | F.pad(sample[:, 1:] != sample[:, :-1], (1, 0))
        code_count, hole_count, infill_count = is_code.cumsum(1), is_mask.cumsum(1), is_infill.cumsum(1)
        patch_index = code_count - torch.maximum(
            _count_at_latest(code_count, ~(is_code | is_mask)), _count_at_latest(code_count - is_code.long(), is_start)
        )
        # 1-based index of the document's hole that is being filled; 0 before any `<infill>`
        rank = infill_count - _count_at_latest(infill_count - is_infill.long(), is_start)
        hole_index = rank + _count_at_latest(hole_count - is_mask.long(), is_start)
        is_fill = (is_code | is_infill) & (rank > 0) & (hole_index <= hole_count)
        hole_index = hole_index.clamp(max=tokens.shape[1])
        # first hole of the same segment
        first_hole = 1 + _count_at_latest(
            hole_count - is_mask.long(), is_start | (tokens == self.vocabulary.break_token)
        )
        count_at_infill = _scatter_by_number(code_count, hole_index * is_infill).gather(
            1, _scatter_by_number(first_hole, hole_count * is_mask).gather(1, hole_index)
        )
        fill_positions = (
            _scatter_by_number(patch_index, hole_count * is_mask).gather(1, hole_index) + code_count - count_at_infill
        )
        return torch.where(is_fill, fill_positions, patch_index).clamp(max=self.vocabulary.picture)


def _count_at_latest(count: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return, at each position, the value of `count` at the last position so far where `mask` is True; 0 before.

    `count` must not decrease.
    """
    return torch.where(mask, count, 0).cummax(1).values


def _scatter_by_number(values: Int[Tensor, "b n"], index: Int[Tensor, "b n"]) -> Int[Tensor, "b n1"]:
    """Return an array whose entry k is the value with index k; index 0 means that the value is dropped."""
    scattered = values.new_zeros(len(values), values.shape[1] + 1)
    return scattered.scatter(1, index, values * (index > 0))


class GPTBlock(nn.Module):
    """Pre-norm transformer block without biases; initialised to the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = zero_init(nn.Linear(width, width, bias=False))
        self.fc1 = nn.Linear(width, 4 * width, bias=False)
        self.fc2 = zero_init(nn.Linear(4 * width, width, bias=False))
        _init_trunc_normal(self.qkv.weight, WEIGHT_STD)
        _init_trunc_normal(self.fc1.weight, WEIGHT_STD)

    def forward(self, h: Float[Tensor, "b n width"], attention: QKVAttentionFn) -> Float[Tensor, "b n width"]:
        """Apply attention and an MLP with residual connections; `attention` applies the mask."""
        y = self.qkv(F.layer_norm(h, h.shape[2:]))
        y = attention(y.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4))
        h = h + self.proj(y.transpose(1, 2).flatten(2))
        return h + self.fc2(F.gelu(self.fc1(F.layer_norm(h, h.shape[2:])), approximate="tanh"))


def _init_trunc_normal(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-TRUNCATION * std, b=TRUNCATION * std)


def _min_and_max(values: Int[Tensor, " b"]) -> tuple[int, int]:
    """Return the smallest and largest entry; (0, 0) for an empty tensor."""
    return (int(values.min()), int(values.max())) if len(values) else (0, 0)


def _sample_causal_mask(sample: Int[Tensor, "b n"]) -> Bool[Tensor, "b 1 n n"]:
    """Return the causal attention mask of packed rows, in which tokens attend to their own sample only.

    In the paper, samples attend to each other.
    """
    n = sample.shape[1]
    causal_mask = torch.ones(n, n, dtype=torch.bool, device=sample.device).tril()
    return ((sample[:, :, None] == sample[:, None]) & causal_mask)[:, None]


def _cached_attention(cache: KVCache, layer: int, m: int, attn_mask: Tensor | None) -> QKVAttentionFn:
    """Return attention that appends keys and values to the cache and applies the mask."""
    start = cache.length
    key_values = cache.key_values[layer, :, :, :, : start + m]
    keys, values = key_values.unbind()

    def attend(qkv: Tensor) -> Tensor:
        key_values[:, :, :, start:] = qkv[1:]
        return F.scaled_dot_product_attention(qkv[0], keys, values, attn_mask=attn_mask)

    return attend
