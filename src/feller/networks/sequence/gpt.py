"""Decoder-only transformer, as in CM3Leon, for rows that pack several documents."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import zero_init
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.patch_positions import CollapsedHoles, HolePositions, PatchPositions
from feller.networks.sequence.text_dit import check_text

WEIGHT_STD, POSITION_STD = 0.006, 0.0002
"""Standard deviations of initial weights and position embeddings."""
TRUNCATION = 3
"""Truncation of the normal distribution of initial weights, in standard deviations."""
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
    hole_positions: HolePositions = CollapsedHoles()  # noqa: RUF009 - frozen
    """Convention for the patch positions of codes after a hole of an image. `PlannedHoles` suits filling of holes of
    known sizes, as in inpainting; the default is that of the first release."""

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

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "GPTNetwork":
        check_text(self, shape)
        if conditions:
            raise UsageError(
                "GPT has no conditions", found=", ".join(conditions), remedy="Write the conditions into the token rows"
            )
        with seeded_init(rng):
            return GPTNetwork(self)


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

    def forward(
        self, h: Float[Tensor, "b n width"], attn_mask: Tensor | None = None, key_values: Tensor | None = None
    ) -> Float[Tensor, "b n width"]:
        """Apply attention and an MLP, both with residual connections.

        Args:
            h: Features.
            attn_mask: Attention mask. By default attention is causal; with `key_values`, to all positions.
            key_values: For decoding: keys and values of all positions so far, [2, b, heads, positions, size], to which
                those of h, the last n positions, are written.
        """
        qkv = self.qkv(F.layer_norm(h, h.shape[2:])).unflatten(2, (3, self.heads, -1))
        query, key, value = qkv = qkv.permute(2, 0, 3, 1, 4)  # each [b, heads, n, size]
        if key_values is not None:
            key_values[:, :, :, -h.shape[1] :] = qkv[1:]
            key, value = key_values
        is_causal = attn_mask is None and key_values is None
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, is_causal=is_causal)
        h = h + self.proj(y.transpose(1, 2).flatten(2))
        return h + self.fc2(F.gelu(self.fc1(F.layer_norm(h, h.shape[2:])), approximate="tanh"))


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
    hole_sizes: Int[Tensor, "held most"] | None = None
    """Number of codes that each `<mask>` hides; None if they are unknown."""
    patch_position: Int[Tensor, " held"] | None = None
    """Patch position of each row's last token; None before the first token."""

    def select(self, index: Int[Tensor, " m"]) -> "KVCache":
        """Return the cache of the unfinished rows with the indices `index`, in this order."""
        rows = index if self.active_rows is None else self.active_rows[index]
        if 4 * len(rows) > 3 * len(self.left_padding) and (rows.diff() > 0).all():
            # finished rows stay, and are masked as if they were all padding
            all_padding = torch.full_like(self.left_padding, self.key_values.shape[4])
            left_padding = all_padding.index_copy(0, rows, self.left_padding[rows])
            return replace(self, left_padding=left_padding, padding_range=_min_and_max(left_padding), active_rows=rows)
        left_padding = self.left_padding[rows]
        return replace(
            self,
            key_values=self.key_values[:, :, rows],
            left_padding=left_padding,
            padding_range=_min_and_max(left_padding),
            active_rows=None,
            tokens=None if self.tokens is None else self.tokens[rows],
            hole_sizes=None if self.hole_sizes is None else self.hole_sizes[rows],
            patch_position=None if self.patch_position is None else self.patch_position[rows],
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
            self.patch_positions = PatchPositions(self.vocabulary, width, WEIGHT_STD, config.hole_positions)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b n count"]:
        """Return the logits of the next token at each position, given all tokens up to this position.

        Raises:
            UsageError: If a row is longer than the context length and `cond` has no `position`.
        """
        sample, position = cond.get("sample"), cond.get("position")
        if position is None:
            self._check_length(x_t.shape[1])
            position = torch.arange(x_t.shape[1], device=x_t.device).expand(x_t.shape)
        attn_mask = None if sample is None else _sample_causal_mask(sample)
        h = self.token_embed(x_t) + self.position_embed(position)
        if self.patch_positions is not None:
            h = h + self.patch_positions(self.patch_positions.positions(x_t, sample))
        for block in self.blocks:
            h = block(h, attn_mask)
        return self._logits(h)

    def init_cache(
        self,
        batch_size: int,
        max_length: int,
        left_padding: Int[Tensor, " b"] | None = None,
        hole_sizes: Int[Tensor, "b m"] | None = None,
    ) -> KVCache:
        """Return an empty cache.

        Args:
            batch_size: Number of rows.
            max_length: Maximum number of positions per row, including padding.
            left_padding: Number of padding tokens at the start of each row (default: none).
            hole_sizes: Number of codes that each `<mask>` of the prompt hides, 0 at its other tokens; None for prompts
                without holes in images.
        """
        like, depth = self.token_embed.weight, len(self.blocks)
        key_values = like.new_empty(depth, 2, batch_size, self.heads, max_length, self.head_dim)
        left_padding = (
            torch.zeros(batch_size, dtype=torch.long, device=like.device) if left_padding is None else left_padding
        )
        tokens = None if self.patch_positions is None else left_padding.new_zeros(batch_size, max_length)
        if hole_sizes is not None:
            hole_sizes = F.pad(hole_sizes.to(like.device), (0, max_length - hole_sizes.shape[1]))
        return KVCache(key_values, left_padding, _min_and_max(left_padding), tokens=tokens, hole_sizes=hole_sizes)

    @torch.no_grad()
    def decode_step(self, tokens: Int[Tensor, "b m"], cache: KVCache) -> tuple[Float[Tensor, "b count"], KVCache]:
        """Process the next tokens of each row; return the logits of the token after them and the new cache.

        Raises:
            UsageError: If the rows become longer than the context length.
        """
        start, end, rows = cache.length, cache.length + tokens.shape[1], cache.active_rows
        self._check_length(end - cache.padding_range[0])
        if rows is not None:  # the cache still holds finished rows, which get padding
            held = torch.full_like(cache.left_padding[:, None].expand(-1, end - start), self.vocabulary.pad)
            tokens = held.index_copy(0, rows, tokens)
        if cache.padding_range == (0, 0):  # a slice is faster than a lookup
            position_embed = self.position_embed.weight[start:end]
        else:
            position_embed = self.position_embed(cache.positions(end - start))
        h = self.token_embed(tokens) + position_embed
        patch_position = cache.patch_position
        if self.patch_positions is not None and cache.tokens is not None:
            cache.tokens[:, start:end] = tokens
            patch_positions = self.patch_positions.advance(tokens, patch_position)
            if patch_positions is None:
                hole_sizes = None if cache.hole_sizes is None else cache.hole_sizes[:, :end]
                patch_positions = self.patch_positions.positions(cache.tokens[:, :end], hole_sizes=hole_sizes)[
                    :, start:
                ]
            h, patch_position = h + self.patch_positions(patch_positions), patch_positions[:, -1]
        attn_mask = cache.attention_mask(end - start)
        for block, key_values in zip(self.blocks, cache.key_values, strict=True):
            h = block(h, attn_mask, key_values[:, :, :, :end])
        h_last = h[:, -1:] if rows is None else h[rows, -1:]
        return self._logits(h_last)[:, 0], replace(cache, length=end, patch_position=patch_position)

    def _check_length(self, n: int) -> None:
        if n > self.context:
            raise UsageError(f"rows of at most {self.context} tokens (the context)", n, "Shorten the rows")

    def _logits(self, h: Float[Tensor, "b n width"]) -> Float[Tensor, "b n count"]:
        """Return logits, in float32 or higher precision, of all tokens that can be predicted."""
        logits = F.linear(F.layer_norm(h, h.shape[2:]), self.token_embed.weight[: self.vocabulary.num_outputs])
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


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
