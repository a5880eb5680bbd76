"""Causal transformer for rows of symbols in which several samples may lie one after the other."""

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
"""Standard deviations of new weights, and of new embeddings of positions."""
TRUNCATION = 3
"""Standard deviations beyond which no new weight lies."""
QKVAttentionFn = Callable[[Tensor], Tensor]
"""Queries, keys and values, [3, b, heads, n, size] -> what each place gets, [b, heads, n, size]."""
HEAD_DIM = 32
"""Features of a head, and features for each block, where one number says the size."""


@dataclass(frozen=True)
class GPT(NetworkConfig):
    """Place i of the answer has seen the symbols up to i, itself included, and tells of the one at place i + 1.

    No biases, no dropout, no weights in the norms, which stand before each part; learned absolute positions; the answer
    shares its weights with the embedding. A new network therefore does not answer zero, as others do: what its blocks
    add is zero, and what is left is likest to repeat. Time changes nothing.

    `given["sample"]` [b, n] numbers the samples that lie in one row: none sees another. `given["position"]` [b, n]
    says where in its sample each place is. Both may be absent: then a row is one sample. Source: Yu et al. 2023,
    "Scaling autoregressive multi-modal models", arXiv 2309.02591, section 4.
    """

    vocabulary: DocumentVocabulary
    """What is read, and what is answered."""
    width: int = 128
    """Features of each place."""
    depth: int = 4
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""
    context: int = 512
    """Places of a sample, at most."""
    patch_positions: bool = True
    """Whether each code also says which square of its picture it fills; the paper's network knows only places of the
    sample. Without it, it learns later to find what one picture shows again in the next."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.context) < 1:
            raise UsageError("numbers of 1 or more", self)
        if self.width % self.heads:
            raise UsageError(f"a width that the {self.heads} heads divide", self.width)

    @classmethod
    def from_size(cls, vocabulary: DocumentVocabulary, size: int, context: int = 512) -> "GPT":
        """Return one whose size one number says: so many blocks and heads, and 32 features for each.

        The blocks have 12,288 dial^3 weights: 0.3, 0.8 and 2.7 million at 3, 4 and 6. The embeddings come on top of
        that, 32 dial for each symbol, each place and each square.
        """
        return cls(vocabulary, HEAD_DIM * size, size, size, context)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> "GPTNetwork":
        check_text(self, shape)
        if conditions:
            raise UsageError("GPT sees no conditions", found=", ".join(conditions), remedy="Write them into the rows")
        with seeded_init(rng):
            return GPTNetwork(self)


@dataclass(frozen=True)
class KVCache:
    """What a decoder remembers of the rows that it has read; go on from the newest only, its arrays are shared."""

    key_values: Float[Tensor, "depth 2 held heads most size"]
    """Keys, then values. Copying them costs as much as some steps, so rows that have left are held for a while."""
    left_padding: Int[Tensor, " held"]
    """Places on the left of each row that are padding, and that the others do not see; all, where it has left."""
    padding_range: tuple[int, int]
    """The fewest and the most of them."""
    active_rows: Int[Tensor, " b"] | None = None
    """Which of the rows that are held go on; None where all do."""
    length: int = 0
    """Places that have been read."""
    tokens: Int[Tensor, "held most"] | None = None
    """These symbols; None where nothing asks for them again."""
    patch_position: Int[Tensor, " held"] | None = None
    """Which square each row has come to; None before the first."""

    def select(self, index: Int[Tensor, " m"]) -> "KVCache":
        """Return that of some of the rows."""
        slots, held = index if self.active_rows is None else self.active_rows[index], len(self.left_padding)
        if 4 * len(slots) > 3 * held and (slots.diff() > 0).all():
            skip = torch.full_like(self.left_padding, self.key_values.shape[4]).index_copy(
                0, slots, self.left_padding[slots]
            )
            return replace(self, left_padding=skip, padding_range=_min_and_max(skip), active_rows=slots)
        skip, memory = self.left_padding[slots], self.key_values[:, :, slots]
        read, square = (None if some is None else some[slots] for some in (self.tokens, self.patch_position))
        return replace(
            self,
            key_values=memory,
            left_padding=skip,
            padding_range=_min_and_max(skip),
            active_rows=None,
            tokens=read,
            patch_position=square,
        )

    def attention_mask(self, m: int) -> Bool[Tensor, "held 1 m places"] | None:
        """Return what each of the next m places sees; None where that is all."""
        if m == 1 and self.padding_range == (0, 0):
            return None
        places = torch.arange(self.length + m, device=self.left_padding.device)
        new = places[self.length :, None]
        real = (places >= self.left_padding[:, None])[:, None] | (
            places == new
        )  # padding sees itself: a mean of none is none
        return (real & (places <= new))[:, None]

    def positions(self, m: int) -> Int[Tensor, "held m"]:
        """Return where in its sample each of the next m places is."""
        places = torch.arange(self.length, self.length + m, device=self.left_padding.device)
        return (places - self.left_padding[:, None]).clamp(min=0)


class GPTNetwork(nn.Module):
    """The network of `GPT`."""

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
        """Return at each place the logits of the next symbol, from those up to this place.

        Raises:
            UsageError: If a row is longer than the context, and nothing says where its samples begin.
        """
        n, sample = x_t.shape[1], cond.get("sample")
        position = cond.get("position")
        if position is None:
            self._check(n)
            position = torch.arange(n, device=x_t.device).expand(x_t.shape)
        attn_mask = None if sample is None else _sample_causal_mask(sample)

        def attend(parts: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(*parts, attn_mask=attn_mask, is_causal=attn_mask is None)

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
            max_length: Places of each that will be read, at most, the padding with them.
            left_padding: Places on the left of each row that hold padding, the symbol of that; by default none.
        """
        like, depth = self.token_embed.weight, len(self.blocks)
        memory = like.new_empty(depth, 2, batch_size, self.heads, max_length, self.head_dim)
        left_padding = (
            torch.zeros(batch_size, dtype=torch.long, device=like.device) if left_padding is None else left_padding
        )
        read = None if self.patch_positions is None else left_padding.new_zeros(batch_size, max_length)
        return KVCache(memory, left_padding, _min_and_max(left_padding), tokens=read)

    @torch.no_grad()
    def decode_step(self, tokens: Int[Tensor, "b m"], cache: KVCache) -> tuple[Float[Tensor, "b count"], KVCache]:
        """Read on, and return the logits of the symbol that follows, with the cache to go on.

        Raises:
            UsageError: If more is read than the context holds.
        """
        m, slots, square = tokens.shape[1], cache.active_rows, cache.patch_position
        self._check(cache.length + m - cache.padding_range[0])
        if slots is not None:
            tokens = torch.full_like(cache.left_padding[:, None].expand(-1, m), self.vocabulary.pad).index_copy(
                0, slots, tokens
            )
        padded = cache.padding_range != (0, 0)
        where = (
            self.position_embed(cache.positions(m))
            if padded
            else self.position_embed.weight[cache.length : cache.length + m]
        )
        h, attn_mask = self.token_embed(tokens) + where, cache.attention_mask(m)
        if self.patch_positions is not None and cache.tokens is not None:
            cache.tokens[:, cache.length : cache.length + m] = tokens
            squares = self.patch_positions.advance(tokens, square)
            if squares is None:
                squares = self.patch_positions.positions(cache.tokens[:, : cache.length + m])[:, cache.length :]
            h, square = h + self.patch_positions(squares), squares[:, -1]
        for layer, block in enumerate(self.blocks):
            h = block(h, _cached_attention(cache, layer, m, attn_mask))
        last = h[:, -1:] if slots is None else h[slots, -1:]
        return self._logits(last)[:, 0], replace(cache, length=cache.length + m, patch_position=square)

    def _check(self, n: int) -> None:
        if n > self.context:
            raise UsageError(f"rows of at most {self.context} symbols, the context", n, "Shorten them")

    def _logits(self, h: Float[Tensor, "b n width"]) -> Float[Tensor, "b n count"]:
        """Return logits in float32 at least; padding is never the answer."""
        logits = F.linear(F.layer_norm(h, h.shape[2:]), self.token_embed.weight[: self.vocabulary.num_outputs])
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class PatchPositions(nn.Module):
    """Which square of its picture each code fills, the first is 1; all else is 0, and gets nothing.

    What fills a hole is counted on from the hole, what fills earlier ones of its picture with it, and so is the
    `<infill>` in front, where the first code of a fill is told. What stands behind a hole is counted as if it were
    empty, since nobody knows yet how much it hides. The hole itself has the number of the code before it.
    """

    def __init__(self, vocabulary: DocumentVocabulary, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embed = nn.Embedding(vocabulary.picture + 1, width, padding_idx=0)
        _init_trunc_normal(self.embed.weight, WEIGHT_STD)
        with torch.no_grad():
            self.embed.weight[0] = 0

    def forward(self, positions: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Return what is added to the embeddings of codes."""
        return self.embed(positions)

    def advance(self, tokens: Int[Tensor, "b m"], last: Int[Tensor, " b"] | None) -> Int[Tensor, "b m"] | None:
        """Count one symbol on from the square before; None where all has to be read: many symbols, or an `<infill>`."""
        if tokens.shape[1] != 1 or last is None or (tokens == self.vocabulary.infill).any():
            return None
        code = self.vocabulary.is_code(tokens)
        return (last[:, None] + code).clamp_(max=self.vocabulary.picture).mul_(code | (tokens == self.vocabulary.mask))

    def positions(self, tokens: Int[Tensor, "b n"], sample: Int[Tensor, "b n"] | None = None) -> Int[Tensor, "b n"]:
        """Count the codes of a picture up to each place, from the symbols up to there in its sample."""
        code, hole, fill = (
            self.vocabulary.is_code(tokens),
            tokens == self.vocabulary.mask,
            tokens == self.vocabulary.infill,
        )
        begins = tokens == self.vocabulary.eos
        if sample is not None:
            begins = begins | F.pad(sample[:, 1:] != sample[:, :-1], (1, 0))
        total, holes, fills = code.cumsum(1), hole.cumsum(1), fill.cumsum(1)
        squares = total - torch.maximum(
            _count_at_latest(total, ~(code | hole)), _count_at_latest(total - code.long(), begins)
        )
        rank = fills - _count_at_latest(
            fills - fill.long(), begins
        )  # of the hole of its document that is filled; 0 before any
        which = rank + _count_at_latest(holes - hole.long(), begins)
        fills_one = (code | fill) & (rank > 0) & (which <= holes)
        which = which.clamp(max=tokens.shape[1])
        first = 1 + _count_at_latest(
            holes - hole.long(), begins | (tokens == self.vocabulary.break_token)
        )  # hole of the same segment
        since = _scatter_by_number(total, which * fill).gather(
            1, _scatter_by_number(first, holes * hole).gather(1, which)
        )
        counted = _scatter_by_number(squares, holes * hole).gather(1, which) + total - since
        return torch.where(fills_one, counted, squares).clamp(max=self.vocabulary.picture)


def _count_at_latest(count: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return what a growing count was at the latest mark; 0 before the first."""
    return torch.where(mask, count, 0).cummax(1).values


def _scatter_by_number(values: Int[Tensor, "b n"], numbers: Int[Tensor, "b n"]) -> Int[Tensor, "b n1"]:
    """Put values where their numbers say, from 1; 0 is nowhere, and holds 0."""
    scattered = values.new_zeros(len(values), values.shape[1] + 1)
    return scattered.scatter(1, numbers, values * (numbers > 0))


class GPTBlock(nn.Module):
    """Attention, then two layers for each place by itself; at first it adds nothing."""

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
        """Add what the block has to say; `attention` decides who sees whom."""
        y = self.qkv(F.layer_norm(h, h.shape[2:]))
        y = attention(y.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4))
        h = h + self.proj(y.transpose(1, 2).flatten(2))
        return h + self.fc2(F.gelu(self.fc1(F.layer_norm(h, h.shape[2:])), approximate="tanh"))


def _init_trunc_normal(weight: Tensor, std: float) -> None:
    """Draw new weights from a normal law that is cut."""
    nn.init.trunc_normal_(weight, std=std, a=-TRUNCATION * std, b=TRUNCATION * std)


def _min_and_max(skip: Int[Tensor, " b"]) -> tuple[int, int]:
    """Return the least and the largest; 0 where there are none."""
    return (int(skip.min()), int(skip.max())) if len(skip) else (0, 0)


def _sample_causal_mask(sample: Int[Tensor, "b n"]) -> Bool[Tensor, "b 1 n n"]:
    """Return who sees whom: each place itself and those before it in its sample."""
    n = sample.shape[1]
    before = torch.ones(n, n, dtype=torch.bool, device=sample.device).tril()
    return ((sample[:, :, None] == sample[:, None]) & before)[:, None]


def _cached_attention(cache: KVCache, layer: int, m: int, attn_mask: Tensor | None) -> QKVAttentionFn:
    """Return attention that adds keys and values to the cache, and sees what it may of all that the cache holds."""
    first = cache.length
    memory = cache.key_values[layer, :, :, :, : first + m]
    keys, values = memory.unbind()

    def attend(parts: Tensor) -> Tensor:
        memory[:, :, :, first:] = parts[1:]
        return F.scaled_dot_product_attention(parts[0], keys, values, attn_mask=attn_mask)

    return attend
