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
from feller.data.documents.vocabulary import Symbols
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import zero
from feller.networks.sequence.text_dit import check_text

WEIGHTS, POSITIONS = 0.006, 0.0002
"""Standard deviations of new weights, and of new embeddings of positions."""
CUT = 3
"""Standard deviations beyond which no new weight lies."""
Attend = Callable[[Tensor], Tensor]
"""Queries, keys and values, [3, b, heads, n, size] -> what each place gets, [b, heads, n, size]."""
HEAD = 32
"""Features of a head, and features for each block, where one number says the size."""


@dataclass(frozen=True)
class PlainDecoder(Architecture):
    """Place i of the answer has seen the symbols up to i, itself included, and tells of the one at place i + 1.

    No biases, no dropout, no weights in the norms, which stand before each part; learned absolute positions; the answer
    shares its weights with the embedding. A new network therefore does not answer zero, as others do: what its blocks
    add is zero, and what is left is likest to repeat. Time changes nothing.

    `given["sample"]` [b, n] numbers the samples that lie in one row: none sees another. `given["position"]` [b, n]
    says where in its sample each place is. Both may be absent: then a row is one sample. Source: Yu et al. 2023,
    "Scaling autoregressive multi-modal models", arXiv 2309.02591, section 4.
    """

    symbols: Symbols
    """What is read, and what is answered."""
    width: int = 128
    """Features of each place."""
    depth: int = 4
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""
    context: int = 512
    """Places of a sample, at most."""
    squares: bool = True
    """Whether each code also says which square of its picture it fills; the paper's network knows only places of the
    sample. Without it, it learns later to find what one picture shows again in the next."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.context) < 1:
            raise UsageError("numbers of 1 or more", self)
        if self.width % self.heads:
            raise UsageError(f"a width that the {self.heads} heads divide", self.width)

    @classmethod
    def sized(cls, symbols: Symbols, dial: int, context: int = 512) -> "PlainDecoder":
        """Return one whose size one number says: so many blocks and heads, and 32 features for each.

        The blocks have 12,288 dial^3 weights: 0.3, 0.8 and 2.7 million at 3, 4 and 6. The embeddings come on top of
        that, 32 dial for each symbol, each place and each square.
        """
        return cls(symbols, HEAD * dial, dial, dial, context)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], draws: Rng) -> "PlainTransformer":
        """Make a network with new weights, for rows (n,), which sees no conditions."""
        check_text(self, shape)
        if conditions:
            raise UsageError(
                "PlainDecoder sees no conditions", found=", ".join(conditions), remedy="Write them into the rows"
            )
        with weights_from(draws):
            return PlainTransformer(self)


@dataclass(frozen=True)
class Cache:
    """What a decoder remembers of the rows that it has read; go on from the newest only, its arrays are shared."""

    memory: Float[Tensor, "depth 2 held heads most size"]
    """Keys, then values. Copying them costs as much as some steps, so rows that have left are held for a while."""
    skip: Int[Tensor, " held"]
    """Places on the left of each row that are padding, and that the others do not see; all, where it has left."""
    bounds: tuple[int, int]
    """The fewest and the most of them."""
    slots: Int[Tensor, " b"] | None = None
    """Which of the rows that are held go on; None where all do."""
    filled: int = 0
    """Places that have been read."""
    read: Int[Tensor, "held most"] | None = None
    """These symbols; None where nothing asks for them again."""
    square: Int[Tensor, " held"] | None = None
    """Which square each row has come to; None before the first."""

    def rows(self, which: Int[Tensor, " m"]) -> "Cache":
        """Return that of some of the rows."""
        slots, held = which if self.slots is None else self.slots[which], len(self.skip)
        if 4 * len(slots) > 3 * held and (slots.diff() > 0).all():
            skip = torch.full_like(self.skip, self.memory.shape[4]).index_copy(0, slots, self.skip[slots])
            return replace(self, skip=skip, bounds=_bounds(skip), slots=slots)
        skip, memory = self.skip[slots], self.memory[:, :, slots]
        read, square = (None if some is None else some[slots] for some in (self.read, self.square))
        return replace(self, memory=memory, skip=skip, bounds=_bounds(skip), slots=None, read=read, square=square)

    def seen(self, m: int) -> Bool[Tensor, "held 1 m places"] | None:
        """Return what each of the next m places sees; None where that is all."""
        if m == 1 and self.bounds == (0, 0):
            return None
        places = torch.arange(self.filled + m, device=self.skip.device)
        new = places[self.filled :, None]
        real = (places >= self.skip[:, None])[:, None] | (places == new)  # padding sees itself: a mean of none is none
        return (real & (places <= new))[:, None]

    def positions(self, m: int) -> Int[Tensor, "held m"]:
        """Return where in its sample each of the next m places is."""
        places = torch.arange(self.filled, self.filled + m, device=self.skip.device)
        return (places - self.skip[:, None]).clamp(min=0)


class PlainTransformer(nn.Module):
    """The network of `PlainDecoder`."""

    def __init__(self, settings: PlainDecoder) -> None:
        super().__init__()
        width = settings.width
        self.symbols, self.context = settings.symbols, settings.context
        self.heads, self.size = settings.heads, width // settings.heads
        self.nulls: dict[str, int | float] = {}
        self.enter = nn.Embedding(self.symbols.read, width)
        self.places = nn.Embedding(self.context, width)
        self.blocks = nn.ModuleList(PlainBlock(width, settings.heads) for _ in range(settings.depth))
        _draw(self.enter.weight, WEIGHTS)
        _draw(self.places.weight, POSITIONS)
        self.squares: Squares | None = None
        if settings.squares:
            self.squares = Squares(self.symbols, width)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, "b n count"]:
        """Return at each place the logits of the next symbol, from those up to this place.

        Raises:
            UsageError: If a row is longer than the context, and nothing says where its samples begin.
        """
        n, sample = x_t.shape[1], given.get("sample")
        position = given.get("position")
        if position is None:
            self._check(n)
            position = torch.arange(n, device=x_t.device).expand(x_t.shape)
        seen = None if sample is None else _within(sample)

        def attend(parts: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(*parts, attn_mask=seen, is_causal=seen is None)

        h = self.enter(x_t) + self.places(position)
        if self.squares is not None:
            h = h + self.squares(self.squares.filled(x_t, sample))
        for block in self.blocks:
            h = block(h, attend)
        return self._answer(h)

    def begin(self, b: int, most: int, skip: Int[Tensor, " b"] | None = None) -> Cache:
        """Return an empty cache.

        Args:
            b: Number of rows.
            most: Places of each that will be read, at most, the padding with them.
            skip: Places on the left of each row that hold padding, the symbol of that; by default none.
        """
        like, depth = self.enter.weight, len(self.blocks)
        memory = like.new_empty(depth, 2, b, self.heads, most, self.size)
        skip = torch.zeros(b, dtype=torch.long, device=like.device) if skip is None else skip
        read = None if self.squares is None else skip.new_zeros(b, most)
        return Cache(memory, skip, _bounds(skip), read=read)

    @torch.no_grad()
    def next(self, tokens: Int[Tensor, "b m"], cache: Cache) -> tuple[Float[Tensor, "b count"], Cache]:
        """Read on, and return the logits of the symbol that follows, with the cache to go on.

        Raises:
            UsageError: If more is read than the context holds.
        """
        m, slots, square = tokens.shape[1], cache.slots, cache.square
        self._check(cache.filled + m - cache.bounds[0])
        if slots is not None:
            tokens = torch.full_like(cache.skip[:, None].expand(-1, m), self.symbols.pad).index_copy(0, slots, tokens)
        padded = cache.bounds != (0, 0)
        where = self.places(cache.positions(m)) if padded else self.places.weight[cache.filled : cache.filled + m]
        h, seen = self.enter(tokens) + where, cache.seen(m)
        if self.squares is not None and cache.read is not None:
            cache.read[:, cache.filled : cache.filled + m] = tokens
            squares = self.squares.next(tokens, square)
            if squares is None:
                squares = self.squares.filled(cache.read[:, : cache.filled + m])[:, cache.filled :]
            h, square = h + self.squares(squares), squares[:, -1]
        for layer, block in enumerate(self.blocks):
            h = block(h, _remembered(cache, layer, m, seen))
        last = h[:, -1:] if slots is None else h[slots, -1:]
        return self._answer(last)[:, 0], replace(cache, filled=cache.filled + m, square=square)

    def _check(self, n: int) -> None:
        if n > self.context:
            raise UsageError(f"rows of at most {self.context} symbols, the context", n, "Shorten them")

    def _answer(self, h: Float[Tensor, "b n width"]) -> Float[Tensor, "b n count"]:
        """Return logits in float32 at least; padding is never the answer."""
        logits = F.linear(F.layer_norm(h, h.shape[2:]), self.enter.weight[: self.symbols.count])
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Squares(nn.Module):
    """Which square of its picture each code fills, the first is 1; all else is 0, and gets nothing.

    What fills a hole is counted on from the hole, what fills earlier ones of its picture with it, and so is the
    `<infill>` in front, where the first code of a fill is told. What stands behind a hole is counted as if it were
    empty, since nobody knows yet how much it hides. The hole itself has the number of the code before it.
    """

    def __init__(self, symbols: Symbols, width: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.embed = nn.Embedding(symbols.picture + 1, width, padding_idx=0)
        _draw(self.embed.weight, WEIGHTS)
        with torch.no_grad():
            self.embed.weight[0] = 0

    def forward(self, squares: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Return what is added to the embeddings of codes."""
        return self.embed(squares)

    def next(self, tokens: Int[Tensor, "b m"], last: Int[Tensor, " b"] | None) -> Int[Tensor, "b m"] | None:
        """Count one symbol on from the square before; None where all has to be read: many symbols, or an `<infill>`."""
        if tokens.shape[1] != 1 or last is None or (tokens == self.symbols.infill).any():
            return None
        code = self.symbols.is_code(tokens)
        return (last[:, None] + code).clamp_(max=self.symbols.picture).mul_(code | (tokens == self.symbols.mask))

    def filled(self, tokens: Int[Tensor, "b n"], sample: Int[Tensor, "b n"] | None = None) -> Int[Tensor, "b n"]:
        """Count the codes of a picture up to each place, from the symbols up to there in its sample."""
        code, hole, fill = self.symbols.is_code(tokens), tokens == self.symbols.mask, tokens == self.symbols.infill
        begins = tokens == self.symbols.eos
        if sample is not None:
            begins = begins | F.pad(sample[:, 1:] != sample[:, :-1], (1, 0))
        total, holes, fills = code.cumsum(1), hole.cumsum(1), fill.cumsum(1)
        squares = total - torch.maximum(_latest(total, ~(code | hole)), _latest(total - code.long(), begins))
        rank = fills - _latest(fills - fill.long(), begins)  # of the hole of its document that is filled; 0 before any
        which = rank + _latest(holes - hole.long(), begins)
        fills_one = (code | fill) & (rank > 0) & (which <= holes)
        which = which.clamp(max=tokens.shape[1])
        first = 1 + _latest(holes - hole.long(), begins | (tokens == self.symbols.cut))  # hole of the same segment
        since = _numbered(total, which * fill).gather(1, _numbered(first, holes * hole).gather(1, which))
        counted = _numbered(squares, holes * hole).gather(1, which) + total - since
        return torch.where(fills_one, counted, squares).clamp(max=self.symbols.picture)


def _latest(count: Int[Tensor, "b n"], marks: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return what a growing count was at the latest mark; 0 before the first."""
    return torch.where(marks, count, 0).cummax(1).values


def _numbered(values: Int[Tensor, "b n"], numbers: Int[Tensor, "b n"]) -> Int[Tensor, "b n1"]:
    """Put values where their numbers say, from 1; 0 is nowhere, and holds 0."""
    found = values.new_zeros(len(values), values.shape[1] + 1)
    return found.scatter(1, numbers, values * (numbers > 0))


class PlainBlock(nn.Module):
    """Attention, then two layers for each place by itself; at first it adds nothing."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(width, 3 * width, bias=False)
        self.answer = zero(nn.Linear(width, width, bias=False))
        self.first = nn.Linear(width, 4 * width, bias=False)
        self.second = zero(nn.Linear(4 * width, width, bias=False))
        _draw(self.ask.weight, WEIGHTS)
        _draw(self.first.weight, WEIGHTS)

    def forward(self, h: Float[Tensor, "b n width"], attend: Attend) -> Float[Tensor, "b n width"]:
        """Add what the block has to say; `attend` decides who sees whom."""
        y = self.ask(F.layer_norm(h, h.shape[2:]))
        y = attend(y.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4))
        h = h + self.answer(y.transpose(1, 2).flatten(2))
        return h + self.second(F.gelu(self.first(F.layer_norm(h, h.shape[2:])), approximate="tanh"))


def _draw(weight: Tensor, spread: float) -> None:
    """Draw new weights from a normal law that is cut."""
    nn.init.trunc_normal_(weight, std=spread, a=-CUT * spread, b=CUT * spread)


def _bounds(skip: Int[Tensor, " b"]) -> tuple[int, int]:
    """Return the least and the largest; 0 where there are none."""
    return (int(skip.min()), int(skip.max())) if len(skip) else (0, 0)


def _within(sample: Int[Tensor, "b n"]) -> Bool[Tensor, "b 1 n n"]:
    """Return who sees whom: each place itself and those before it in its sample."""
    n = sample.shape[1]
    before = torch.ones(n, n, dtype=torch.bool, device=sample.device).tril()
    return ((sample[:, :, None] == sample[:, None]) & before)[:, None]


def _remembered(cache: Cache, layer: int, m: int, seen: Tensor | None) -> Attend:
    """Return attention that adds keys and values to the cache, and sees what it may of all that the cache holds."""
    first = cache.filled
    memory = cache.memory[layer, :, :, :, : first + m]
    keys, values = memory.unbind()

    def attend(parts: Tensor) -> Tensor:
        memory[:, :, :, first:] = parts[1:]
        return F.scaled_dot_product_attention(parts[0], keys, values, attn_mask=seen)

    return attend
