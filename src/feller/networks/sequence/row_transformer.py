"""Causal transformer over the columns of a table row, in any column order, that generates valid rows only."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.time_conditioning import TransformerBlock
from feller.networks.image.dit import AttentionFn
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.ordered_values import OrderedSmoothing, smooth_embeddings
from feller.networks.sequence.table_grammar import TableGrammar
from feller.spaces.table_tokens import TableTokens

EMBEDDING_STD = 0.3
"""Standard deviation of the initial embeddings."""
ROWS_PER_CALL = 2048
"""Maximum number of rows per network call when rows are generated."""
MIN_MARGINAL = 1e-4
"""Minimum initial probability of a value; the noisy marginal may give probability 0 to a value that occurs."""


@dataclass(frozen=True)
class RowTransformer(NetworkConfig):
    """Autoregressive transformer over table columns in the order `cond["order"]`, in which invalid tokens are masked.

    A newly initialised network models columns as independent, with the marginals of the token space `space`, which maps
    table rows to tokens. All weights belong to linear layers, embeddings, norms and `PlaceHeads`, for which per-example
    gradients are available.
    """

    space: TableTokens
    width: int = 64
    """Number of features per token."""
    depth: int = 2
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads:
            raise UsageError(
                "width, depth and heads of at least 1, and a width divisible by heads",
                f"width {self.width}, depth {self.depth} and heads {self.heads}",
            )

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "RowTransformerNetwork":
        if shape != (len(self.space.vocab_sizes),) or conditions:
            raise UsageError(f"rows of {len(self.space.vocab_sizes)} tokens and no conditions", shape)
        with seeded_init(rng):
            return RowTransformerNetwork(self)


@dataclass(frozen=True)
class RowKVCache:
    """Attention keys and values, [depth, positions, b, heads, size], and the number of positions processed so far."""

    keys: Tensor
    values: Tensor
    length: int = 0


def single_query_attention(keys: Tensor, values: Tensor, position: int) -> AttentionFn:
    """Return attention of one new position to all earlier ones, which writes its key and value into a KV cache.

    On CPU it is several times as fast as `scaled_dot_product_attention`, whose blocks suit many queries.
    """

    def attend(
        query: Float[Tensor, "b heads 1 size"], key: Float[Tensor, "b heads 1 size"], value: Tensor
    ) -> Float[Tensor, "b heads 1 size"]:
        keys[position], values[position] = key[:, :, 0], value[:, :, 0]
        if not position:
            return value
        scores = (keys[: position + 1] * (query[:, :, 0] * query.shape[-1] ** -0.5)).sum(-1)
        return (scores.softmax(0)[..., None] * values[: position + 1]).sum(0)[:, :, None]

    return attend


class RowTransformerNetwork(nn.Module):
    """Autoregressive transformer over the columns of a table row, configured by `RowTransformer`."""

    def __init__(self, config: RowTransformer) -> None:
        super().__init__()
        space, width = config.space, config.width
        self.space, self.rows_per_call = space, ROWS_PER_CALL
        self.null_values: dict[str, int | float] = {}
        self.grammar = TableGrammar(space)
        self.register_buffer("first", space.first_tokens, persistent=False)
        self.token_embed = nn.Embedding(sum(space.vocab_sizes) + 1, width)
        """Embedding of the previous token; each token of each position, and the start, has its own vector."""
        self.position_embed = nn.Embedding(len(space.vocab_sizes), width)
        """Embedding of the position to predict."""
        blocks = [TransformerBlock(width, config.heads) for _ in range(config.depth)]
        self.heads, self.blocks = config.heads, nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head, self.smoothing = PlaceHeads(space, self.grammar.max_tokens, width), OrderedSmoothing(space)
        for table in (self.token_embed, self.position_embed):
            nn.init.normal_(table.weight, std=EMBEDDING_STD)
        smooth_embeddings(self.token_embed.weight, space)
        with torch.no_grad():
            self.head.bias.copy_(self.smoothing.invert(self.head.bias))
            for block in blocks:
                for layer in (block.proj, block.fc2):
                    layer.weight.mul_((2 * config.depth) ** -0.5)

    def forward(
        self, x_t: Int64[Tensor, "b places"], t: Float[Tensor, " b"], cond: Cond
    ) -> Float[Tensor, "b *serialisations places tokens"]:
        """Return the logits at each position given the tokens before it; the logits of invalid tokens are -inf.

        Args:
            x_t: Tokens of complete rows.
            t: Ignored.
            cond: Conditions; `order` is the column order of each row, [b, columns], or several orders per row, [b,
                orders, columns] (default: left to right).
        """
        order = cond.get("order")
        if order is None:
            return self.logits(x_t, None)
        tokens = x_t if order.ndim == 2 else x_t[:, None].expand(-1, order.shape[1], -1)
        return self.logits(tokens, self.space.token_order(order))

    def logits(
        self,
        x: Int64[Tensor, "*b places"],
        order: Int64[Tensor, "*b places"] | None = None,
        context: Float[Tensor, "*b width"] | None = None,
    ) -> Float[Tensor, "*b places tokens"]:
        """Return the logits of all positions of a row, each given the tokens generated before it.

        Args:
            x: Tokens of complete rows.
            order: Positions in the order in which they are generated (default: left to right).
            context: Features on which each row is conditioned; they are added to the features of all positions.
        """
        order = torch.arange(x.shape[-1], device=x.device).expand(x.shape) if order is None else order
        tokens = (x + self.first).gather(-1, order)
        h = self.token_embed(
            F.pad(tokens[..., :-1], (1, 0), value=self.token_embed.num_embeddings - 1)
        ) + self.position_embed(order)
        h = h if context is None else h + context[..., None, :]
        for block in self.blocks:
            h = block(h, None, partial(F.scaled_dot_product_attention, is_causal=True))
        step = order.argsort(-1)
        h = self.norm(h).gather(-2, step[..., None].expand(h.shape))
        return self.smoothing(self.head(h)).masked_fill(~self.grammar.allowed(x, step), -torch.inf)

    def init_cache(self, batch_size: int) -> RowKVCache:
        """Return an empty cache for a batch of rows."""
        shape = (
            len(self.blocks),
            len(self.space.vocab_sizes),
            batch_size,
            self.heads,
            self.token_embed.embedding_dim // self.heads,
        )
        keys, values = self.token_embed.weight.new_empty(2, *shape).unbind()
        return RowKVCache(keys, values)

    @torch.no_grad()
    def decode_step(
        self,
        last: Int64[Tensor, " b"] | None,
        last_place: Int64[Tensor, " b"] | None,
        place: Int64[Tensor, " b"],
        cache: RowKVCache,
        context: Float[Tensor, "b width"] | None = None,
    ) -> tuple[Float[Tensor, "b tokens"], RowKVCache]:
        """Process the previous token of each row; return the logits at position `place` and the new cache.

        The logits of invalid tokens are not masked. `context` is that of `logits`.
        """
        batch_size = len(place)
        if batch_size and (place == place[0]).all():
            place = place[:1]  # without a last token and a context, all rows have the same features as well
        start_tokens = torch.full_like(place, self.token_embed.num_embeddings - 1)
        tokens = start_tokens if last is None or last_place is None else last + self.first[last_place]
        h = (self.token_embed(tokens) + self.position_embed(place))[:, None]
        h = h if context is None else h + context[:, None]
        for layer, block in enumerate(self.blocks):
            h = block(h, None, single_query_attention(cache.keys[layer], cache.values[layer], cache.length))
        h = self.norm(h[:, 0])
        logits = self.smoothing(self.head.at_place(h, place), place)
        return logits.expand(batch_size, -1), RowKVCache(cache.keys, cache.values, cache.length + 1)


class PlaceHeads(nn.Module):
    """Linear output layers, one per position, whose initial biases are the log marginals of its tokens."""

    def __init__(self, space: TableTokens, max_tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(space.vocab_sizes), max_tokens, width))
        self.bias = nn.Parameter(torch.zeros(len(space.vocab_sizes), max_tokens))
        starts = [sum(space.tokens_per_column[:column]) for column in range(len(space.columns))]
        with torch.no_grad():
            for position, marginal, num_tokens in zip(starts, space.value_probs, space.tokens_per_column, strict=False):
                if marginal and num_tokens == 1:
                    self.bias[position, : len(marginal)] = torch.tensor(marginal).clamp(min=MIN_MARGINAL).log()

    def forward(self, h: Float[Tensor, "*b places width"]) -> Float[Tensor, "*b places tokens"]:
        """Return the logits at all positions."""
        return torch.einsum("...pd,pmd->...pm", h, self.weight) + self.bias

    def norm_sq(self, inputs: Tensor, grad_output: Tensor) -> Float[Tensor, " b"]:
        """Return the squared norm of each row's weight gradient, from the layer's inputs and output gradients."""
        x, grad_output = (
            tensor.reshape(len(tensor), -1, *tensor.shape[-2:]).transpose(1, 2) for tensor in (inputs, grad_output)
        )
        if x.shape[2] == 1:
            return (grad_output.square().sum(-1) * (x.square().sum(-1) + 1)).sum((1, 2))
        return ((grad_output @ grad_output.mT) * (x @ x.mT + 1)).sum((1, 2, 3)).clamp(min=0)

    def weighted_sum(self, inputs: Tensor, grad_output: Tensor, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Return the sum over rows of the weight gradients, each multiplied by the row's entry of `factors`.

        `inputs` and `grad_output` are the layer's inputs and output gradients.
        """
        x, grad_output = (tensor.reshape(len(tensor), -1, *tensor.shape[-2:]) for tensor in (inputs, grad_output))
        grad_output = grad_output * factors[:, None, None, None]
        return {"weight": torch.einsum("bapm,bapd->pmd", grad_output, x), "bias": grad_output.sum((0, 1))}

    def at_place(self, h: Float[Tensor, "b width"], place: Int64[Tensor, " #b"]) -> Float[Tensor, "b tokens"]:
        """Return the logits at the position `place` of each row, [b], or of all rows, [1]."""
        if len(place) == 1:
            return F.linear(h, self.weight[place[0]], self.bias[place[0]])
        return torch.einsum("bd,bmd->bm", h, self.weight[place]) + self.bias[place]
