"""Transformer over the rows of a history, whose features condition a transformer over the columns of each row."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.gradient import may_join_examples
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.time_conditioning import TransformerBlock
from feller.networks.image.dit import cached_attention
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.ordered_values import smooth_embeddings
from feller.networks.sequence.row_transformer import EMBEDDING_STD, RowTransformer, RowTransformerNetwork
from feller.spaces.history_tokens import HistoryTokens
from feller.spaces.table_tokens import TableTokens


@dataclass(frozen=True)
class HistoryTransformer(NetworkConfig):
    """Autoregressive model of histories: the attributes of a person, then each row given all rows before it.

    A causal transformer over the rows returns one feature vector per row, on which a `RowTransformer` over the columns
    of the row is conditioned. A newly initialised network models all columns as independent.
    """

    space: HistoryTokens
    width: int = 64
    """Number of features per token and per row."""
    depth: int = 2
    """Number of transformer blocks, over the rows and over the columns of a row."""
    heads: int = 4
    """Number of attention heads."""

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "HistoryTransformerNetwork":
        if shape != (self.space.num_places,) or conditions:
            raise UsageError(f"histories of {self.space.num_places} tokens and no conditions", shape)
        with seeded_init(rng):
            return HistoryTransformerNetwork(self, rng)


@dataclass(frozen=True)
class HistoryKVCache:
    """Attention keys and values, [depth, b, heads, rows, size], and the number of rows processed so far."""

    keys: Tensor
    values: Tensor
    length: int = 0


class HistoryTransformerNetwork(nn.Module):
    """Autoregressive model of histories, configured by `HistoryTransformer`."""

    def __init__(self, config: HistoryTransformer, rng: Rng) -> None:
        super().__init__()
        space, width = config.space, config.width
        self.space, self.depth, self.heads = space, config.depth, config.heads
        self.null_values: dict[str, int | float] = {}

        def row_network(tokens: TableTokens) -> RowTransformerNetwork:
            network = RowTransformer(tokens, width=width, depth=config.depth, heads=config.heads)
            return network.build((len(tokens.vocab_sizes),), {}, rng)

        self.attributes: RowTransformerNetwork = row_network(space.attributes)
        self.rows: RowTransformerNetwork = row_network(space.rows)
        self.attribute_embed, self.row_embed = TokenSum(space.attributes, width), TokenSum(space.rows, width)
        self.index_embed = nn.Embedding(space.max_rows + 1, width)
        """Embedding of the number of rows before a row."""
        self.remaining_embed = nn.Embedding(space.max_rows + 1, width)
        """Embedding of the number of rows that follow."""
        self.blocks = nn.ModuleList(TransformerBlock(width, config.heads) for _ in range(config.depth))
        self.norm, self.context = nn.LayerNorm(width), nn.Linear(width, width)
        for table in (self.index_embed, self.remaining_embed):
            nn.init.normal_(table.weight, std=EMBEDDING_STD)
        self.register_buffer("padding_row", _valid_row(self.rows), persistent=False)
        self.kinds = RowKinds(space, self.padding_row) if space.kinds else None

    def forward(self, x_t: Int64[Tensor, "b places"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, " b"]:
        """Return the log-likelihood of each history in nats.

        Args:
            x_t: Tokens of histories, which may lack rows that are padding in all of them.
            t: Ignored.
            cond: Ignored.
        """
        attributes, rows = self.space.split(x_t)
        valid = self.space.valid_rows(x_t)
        rows = torch.where(valid[..., None], rows, self.padding_row)
        rows = rows if self.kinds is None else self.kinds.filled(rows)
        log_prob = _log_probs(self.attributes.logits(attributes), attributes).sum(-1)
        contexts, before = self._contexts(attributes, rows), F.pad(rows[:, :-1, 0], (1, 0), value=-1)
        remaining = self.space.lengths(attributes)[:, None] - 1 - torch.arange(rows.shape[1], device=rows.device)
        if not may_join_examples():
            return log_prob + (self._rows_log_prob(rows, contexts, before, remaining) * valid).sum(1)
        of_rows = self._rows_log_prob(rows[valid], contexts[valid], before[valid], remaining[valid])
        return log_prob + contexts.new_zeros(valid.shape, dtype=of_rows.dtype).masked_scatter(valid, of_rows).sum(1)

    def _rows_log_prob(
        self,
        rows: Int64[Tensor, "*b row_places"],
        contexts: Float[Tensor, "*b width"],
        before: Int64[Tensor, "*b"],
        remaining: Int64[Tensor, "*b"],
    ) -> Float[Tensor, "*b"]:
        """Return the log-likelihood of each row.

        Args:
            rows: Tokens of rows.
            contexts: Features of the history before each row.
            before: First token of the row before, or -1 at the beginning of a history.
            remaining: Number of rows that follow; negative for rows after the end, whose result has no meaning.
        """
        logits = self.rows.logits(rows, context=contexts)
        if self.kinds is None:
            return _log_probs(logits, rows).sum(-1)
        log_probs = _log_probs(self.kinds.masked(logits, before, remaining), rows)
        return (log_probs * self.kinds.active[rows[..., 0]]).sum(-1)

    def _contexts(
        self, attributes: Int64[Tensor, "b attribute_places"], rows: Int64[Tensor, "b steps row_places"]
    ) -> Float[Tensor, "b steps width"]:
        """Return the features on which each row is conditioned: a function of the attributes and of all rows before."""
        person, earlier = self.attribute_embed(attributes), self.row_embed(rows[:, :-1])
        h = person[:, None] + F.pad(earlier, (0, 0, 1, 0)) + self._positions(attributes, 0, rows.shape[1])
        for block in self.blocks:
            h = block(h, None, partial(F.scaled_dot_product_attention, is_causal=True))
        return self.context(self.norm(h))

    def _positions(self, attributes: Tensor, start: int, stop: int) -> Float[Tensor, "b steps width"]:
        """Return the embeddings of the positions of rows, counted from both ends of the history."""
        index = torch.arange(start, stop, device=attributes.device).expand(len(attributes), -1)
        remaining = (self.space.lengths(attributes)[:, None] - 1 - index).clamp(min=0)
        return self.index_embed(index) + self.remaining_embed(remaining)

    def init_cache(self, batch_size: int) -> HistoryKVCache:
        """Return an empty cache for a batch of histories."""
        width = self.index_embed.embedding_dim
        shape = (self.depth, batch_size, self.heads, self.space.max_rows, width // self.heads)
        keys, values = self.index_embed.weight.new_empty(2, *shape).unbind()
        return HistoryKVCache(keys, values)

    @torch.no_grad()
    def next_context(
        self,
        attributes: Int64[Tensor, "b attribute_places"],
        last_row: Int64[Tensor, "b row_places"] | None,
        cache: HistoryKVCache,
    ) -> tuple[Float[Tensor, "b width"], HistoryKVCache]:
        """Process the previous row of each history; return the features of the next row and the new cache."""
        person, step = self.attribute_embed(attributes), cache.length
        earlier = torch.zeros_like(person) if last_row is None else self.row_embed(last_row)
        h = (person + earlier)[:, None] + self._positions(attributes, step, step + 1)
        for layer, block in enumerate(self.blocks):
            h = block(h, None, cached_attention(cache.keys[layer], cache.values[layer], step))
        return self.context(self.norm(h[:, 0])), HistoryKVCache(cache.keys, cache.values, step + 1)


def _valid_row(network: RowTransformerNetwork) -> Int64[Tensor, " places"]:
    """Return the tokens of a valid row, which stands in for the rows after the end of a history."""
    row = torch.zeros(1, len(network.space.vocab_sizes), dtype=torch.long)
    for place in range(row.shape[1]):
        row[0, place] = network.grammar.allowed(row)[0, place].long().argmax()
    return row[0]


class RowKinds(nn.Module):
    """Masks of the kinds of rows: which kind may follow which, and which tokens of a row have a meaning."""

    def __init__(self, space: HistoryTokens, filler: Int64[Tensor, " places"]) -> None:
        super().__init__()
        self.register_buffer("active", space.active_places, persistent=False)
        self.register_buffer("allowed", space.allowed_kinds, persistent=False)
        self.register_buffer("max_following", space.max_following, persistent=False)
        self.register_buffer("filler", filler.clone(), persistent=False)

    def filled(self, rows: Int64[Tensor, "*b places"]) -> Int64[Tensor, "*b places"]:
        """Return rows with a fixed valid token wherever the kind of the row has no such column."""
        return torch.where(self.active[rows[..., 0]], rows, self.filler)

    def masked(
        self,
        logits: Float[Tensor, "*b places tokens"],
        before: Int64[Tensor, "*b"],
        remaining: Int64[Tensor, "*b"],
    ) -> Float[Tensor, "*b places tokens"]:
        """Mask the kinds that may not follow the row before, whose kind is `before`; see `possible`."""
        allowed = self.possible(before, remaining) | (remaining < 0)[..., None]
        allowed = F.pad(allowed, (0, logits.shape[-1] - allowed.shape[-1]), value=True)
        first = logits[..., :1, :].masked_fill(~allowed[..., None, :], -torch.inf)
        return torch.cat([first, logits[..., 1:, :]], -2)

    def possible(self, before: Int64[Tensor, "*b"], remaining: Int64[Tensor, "*b"]) -> Bool[Tensor, "*b kinds"]:
        """Return the mask of kinds that may follow a kind, or -1 at the beginning, and be followed by enough rows."""
        return self.allowed[before] & (self.max_following >= remaining[..., None])

    def step_logits(
        self,
        logits: Float[Tensor, "m tokens"],
        place: Int64[Tensor, " m"],
        before: Int64[Tensor, " m"],
        remaining: Int64[Tensor, " m"],
        kind: Int64[Tensor, " m"] | None,
    ) -> Float[Tensor, "m tokens"]:
        """Mask the logits of one token of each row as `masked` and `filled` do.

        Args:
            logits: Logits of the next token.
            place: Position of the token in its row.
            before: Kind of the row before, or -1 at the beginning of a history.
            remaining: Number of rows that follow the row.
            kind: Kind of the row, or None for the first token.
        """
        if kind is None:
            allowed = F.pad(self.possible(before, remaining), (0, logits.shape[-1] - self.allowed.shape[-1]))
            return logits.masked_fill(~allowed, -torch.inf)
        only = F.one_hot(self.filler[place], logits.shape[-1]).bool()
        return logits.masked_fill(~(self.active[kind, place][:, None] | only), -torch.inf)


class TokenSum(nn.Module):
    """Sum of the embeddings of the tokens of a row, which have a vector for each token of each position."""

    def __init__(self, space: TableTokens, width: int) -> None:
        super().__init__()
        self.register_buffer("first", space.first_tokens, persistent=False)
        self.embed = nn.Embedding(sum(space.vocab_sizes), width)
        nn.init.normal_(self.embed.weight, std=len(space.vocab_sizes) ** -0.5)
        smooth_embeddings(self.embed.weight, space)

    def forward(self, tokens: Int64[Tensor, "*b places"]) -> Float[Tensor, "*b width"]:
        """Return the features of each row."""
        return self.embed(tokens + self.first).sum(-2)


def _log_probs(
    logits: Float[Tensor, "*b places tokens"], tokens: Int64[Tensor, "*b places"]
) -> Float[Tensor, "*b places"]:
    return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
