"""Causal transformer over the columns of a table, in any order, which admits rows that the table can have alone."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.time_conditioning import PlainBlock
from feller.networks.image.dit import Attend
from feller.networks.sequence.table_grammar import Grammar
from feller.spaces.table_tokens import TableTokens

SPREAD = 0.3
"""Standard deviation of a new embedding."""
LEAST = 1e-4
"""Share that a new network gives to a value, at least: noisy counts may leave none to one that is there."""


@dataclass(frozen=True)
class RowTransformer(Architecture):
    """Each token is predicted from those of the columns before it, in whatever order `given["order"]` says.

    A new network holds the columns for independent, each with the shares of `rows`. Nothing in it is bare: all weights
    are those of linear layers, embeddings, normalisations and `Heads`.
    """

    rows: TableTokens
    width: int = 64
    """Features of each token."""
    depth: int = 2
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads:
            raise UsageError(
                "numbers of 1 or more and a width that the heads divide", f"{self.width}, {self.depth}, {self.heads}"
            )

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], draws: Rng) -> "RowNetwork":
        """Make a network with new weights, for rows (places,)."""
        if shape != (len(self.rows.vocab_sizes),) or conditions:
            raise UsageError(f"rows of {len(self.rows.vocab_sizes)} tokens and no conditions", shape)
        with weights_from(draws):
            return RowNetwork(self)


@dataclass(frozen=True)
class Cache:
    """Keys and values of what was read, [depth, b, heads, places, size], and how many places that are."""

    keys: Tensor
    values: Tensor
    filled: int = 0


class RowNetwork(nn.Module):
    """The network of `RowTransformer`."""

    def __init__(self, settings: RowTransformer) -> None:
        super().__init__()
        rows, width = settings.rows, settings.width
        self.rows = rows
        self.nulls: dict[str, int | float] = {}
        self.grammar = Grammar(rows)
        first = torch.tensor(rows.vocab_sizes).cumsum(0) - torch.tensor(rows.vocab_sizes)
        self.register_buffer("first", first, persistent=False)
        self.token = nn.Embedding(sum(rows.vocab_sizes) + 1, width)
        """Of what was written last: a number for each token of each place, and one for nothing."""
        self.place = nn.Embedding(len(rows.vocab_sizes), width)
        """Of what is asked for."""
        blocks = [PlainBlock(width, settings.heads) for _ in range(settings.depth)]
        self.heads, self.blocks = settings.heads, nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.leave = Heads(rows, self.grammar.most, width)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=SPREAD)
        with torch.no_grad():
            for block in blocks:
                for layer in (block.answer, block.second):
                    layer.weight.mul_((2 * settings.depth) ** -0.5)

    def forward(
        self, x_t: Int64[Tensor, "b places"], t: Float[Tensor, " b"], given: Cond
    ) -> Float[Tensor, "b *serialisations places tokens"]:
        """Predict the logits of each place from the places before it; those that may not stand there are -infinite.

        Args:
            x_t: Tokens of whole rows.
            t: Is not looked at.
            given: `order` may say in which order the columns are written, [b, columns], or several orders of each row,
                [b, serialisations, columns]; without it from left to right.
        """
        order = given.get("order")
        if order is None:
            return self._answer(x_t, None)
        some = x_t if order.ndim == 2 else x_t[:, None].expand(-1, order.shape[1], -1)
        return self._answer(some, self.rows.token_order(order))

    def _answer(
        self, x: Int64[Tensor, "*b places"], turn: Int64[Tensor, "*b places"] | None
    ) -> Float[Tensor, "*b places tokens"]:
        """Return the logits of all places; `turn` says which place is written at each step."""
        turn = torch.arange(x.shape[-1], device=x.device).expand(x.shape) if turn is None else turn
        tokens = (x + self.first).gather(-1, turn)
        h = self.token(F.pad(tokens[..., :-1], (1, 0), value=self.token.num_embeddings - 1)) + self.place(turn)
        for block in self.blocks:
            h = block(h, None, partial(F.scaled_dot_product_attention, is_causal=True))
        step = turn.argsort(-1)
        h = self.norm(h).gather(-2, step[..., None].expand(h.shape))
        return self.leave(h).masked_fill(~self.grammar.allowed(x, step), -torch.inf)

    def begin(self, b: int) -> Cache:
        """Return an empty cache for b rows."""
        shape = len(self.blocks), b, self.heads, len(self.rows.vocab_sizes), self.token.embedding_dim // self.heads
        keys, values = self.token.weight.new_empty(2, *shape).unbind()
        return Cache(keys, values)

    @torch.no_grad()
    def next(
        self,
        last: Int64[Tensor, " b"] | None,
        before: Int64[Tensor, " b"] | None,
        place: Int64[Tensor, " b"],
        cache: Cache,
    ) -> tuple[Float[Tensor, "b tokens"], Cache]:
        """Read the token that was written last, and return the logits of the next place, with the cache to go on.

        What may not stand there is not marked.

        Args:
            last: Tokens of the place before; None at first.
            before: That place.
            place: What is asked for.
            cache: What was read so far.
        """
        nothing = torch.full_like(place, self.token.num_embeddings - 1)
        number = nothing if last is None or before is None else last + self.first[before]
        h = (self.token(number) + self.place(place))[:, None]
        for layer, block in enumerate(self.blocks):
            h = block(h, None, _remembered(cache.keys[layer], cache.values[layer], cache.filled))
        h = self.norm(h[:, 0])
        return self.leave.at(h, place), Cache(cache.keys, cache.values, cache.filled + 1)


def _remembered(keys: Tensor, values: Tensor, filled: int) -> Attend:
    """Return attention of one place more, whose key and value are added to those that were kept."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys[:, :, filled : filled + 1], values[:, :, filled : filled + 1] = key, value
        return F.scaled_dot_product_attention(query, keys[:, :, : filled + 1], values[:, :, : filled + 1])

    return attend


class Heads(nn.Module):
    """A linear layer of its own for each place, which begins with the shares of its tokens."""

    def __init__(self, rows: TableTokens, most: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(rows.vocab_sizes), most, width))
        self.bias = nn.Parameter(torch.zeros(len(rows.vocab_sizes), most))
        begins = [sum(rows.tokens_per_column[:column]) for column in range(len(rows.columns))]
        with torch.no_grad():
            for place, own, wide in zip(begins, rows.value_probs, rows.tokens_per_column, strict=False):
                if own and wide == 1:
                    self.bias[place, : len(own)] = torch.tensor(own).clamp(min=LEAST).log()

    def forward(self, h: Float[Tensor, "*b places width"]) -> Float[Tensor, "*b places tokens"]:
        """Answer at all places."""
        return torch.einsum("...pd,pmd->...pm", h, self.weight) + self.bias

    def per_example(self, inputs: Tensor, slopes: Tensor) -> Float[Tensor, " b"]:
        """Return the squared norm of each row's gradient, from what came in and the slope of what went out."""
        x, slopes = (part.reshape(len(part), -1, *part.shape[-2:]).transpose(1, 2) for part in (inputs, slopes))
        if x.shape[2] == 1:
            return (slopes.square().sum(-1) * (x.square().sum(-1) + 1)).sum((1, 2))
        return ((slopes @ slopes.mT) * (x @ x.mT + 1)).sum((1, 2, 3)).clamp(min=0)

    def weighted(self, inputs: Tensor, slopes: Tensor, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Return the sum of the rows' gradients, each times its factor."""
        x, slopes = (part.reshape(len(part), -1, *part.shape[-2:]) for part in (inputs, slopes))
        slopes = slopes * factors[:, None, None, None]
        return {"weight": torch.einsum("bapm,bapd->pmd", slopes, x), "bias": slopes.sum((0, 1))}

    def at(self, h: Float[Tensor, "b width"], place: Int64[Tensor, " b"]) -> Float[Tensor, "b tokens"]:
        """Answer at one place of each row."""
        if (place == place[0]).all():
            return F.linear(h, self.weight[place[0]], self.bias[place[0]])
        return torch.einsum("bd,bmd->bm", h, self.weight[place]) + self.bias[place]
