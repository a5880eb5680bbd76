"""Autoregressive decoding of documents that are always well formed, and token likelihoods."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.documents.vocabulary import Symbols
from feller.paths.discrete.token_sampler import Choice
from feller.sampling.autoregressive.decoding_goals import Plan
from feller.sampling.autoregressive.document_grammar import kinds, stand
from feller.sampling.autoregressive.parser_state import ENDED, Automaton, State
from feller.sampling.autoregressive.token_guidance import Guide, Plain

AT_ONCE = 64
"""Rows that are drawn together, unless one asks otherwise."""
T = TypeVar("T")


@runtime_checkable
class Reader(Protocol):
    """A network that reads rows step by step and tells of the symbol that follows, as `PlainTransformer` does."""

    symbols: Symbols
    context: int

    def parameters(self) -> Iterator[Tensor]:
        """Yield the weights, which say where the rows live."""
        ...

    def begin(self, b: int, most: int, skip: Tensor | None = None) -> Any:
        """Return an empty cache for b rows with padding on their left; its `rows(which)` is that of some of them."""
        ...

    def next(self, tokens: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Read tokens [b, m] and return the logits of what follows, [b, count], with the cache to go on."""
        ...


@dataclass(frozen=True)
class Way:
    """How symbols are drawn: a guide blends raw logits of what may come, then temperature and cuts, then chance."""

    guide: Guide = Plain()  # noqa: RUF009 - frozen
    choice: Choice = Choice()  # noqa: RUF009 - frozen


@torch.no_grad()
def generate(
    network: Reader,
    prompts: Sequence[Sequence[Int64[Tensor, " _"]]],
    plan: Plan,
    draws: Draws,
    *,
    ways: Sequence[Way] = (Way(),),
    at_once: int = AT_ONCE,
) -> list[Int64[Tensor, " _"]]:
    """Draw what follows each prompt; all streams of all rows that are drawn together take one network call a symbol.

    A prompt and what is drawn behind it are well-formed, whatever the network, and fit in its context. What a row draws
    depends on its number, not on its batch; rows that have ended cost nothing.

    Args:
        network: Reads the rows.
        prompts: For each stream that the guides read, one prompt for each row, of any lengths. The first stream says
            what may come; the others see what is drawn behind prompts of their own.
        plan: What is drawn.
        draws: Source of the uniform numbers; `draws.first` is the number of the first row.
        ways: Row i is drawn in way i modulo their number.
        at_once: Rows that are drawn together.

    Returns:
        The symbols that were drawn, for each row, the last `<break>` or `<eos>` with them.

    Raises:
        InputError: If a prompt is malformed.
        UsageError: If the streams do not fit the guides or each other, or a prompt does not suit the plan, or leaves
            it too little of the context.
    """
    symbols, device = network.symbols, next(network.parameters()).device
    _check_streams(prompts, ways)
    standings, *_ = [[stand(prompt, symbols) for prompt in stream] for stream in prompts]
    prompts = [[prompt[prompt != symbols.pad].to(device) for prompt in stream] for stream in prompts]
    room = [network.context - max(map(len, row)) for row in zip(*prompts, strict=True)]
    if min(room, default=0) < 0:
        row = room.index(min(room))
        raise UsageError(
            f"prompts of at most {network.context} symbols, the context",
            f"{network.context - room[row]} for row {row}",
            "Leave documents out in front, or shorten it",
        )
    automaton, n = Automaton(symbols, plan), len(room)
    state = automaton.begin(standings, room)
    u = draws.at("token").uniform((n, int(state.room.max()) if n else 0), torch.float64, device)
    drawn: dict[int, Tensor] = {}
    for first in range(0, n, at_once):
        here = range(first, min(first + at_once, n))
        shares = [[i for i in here if (draws.first + i) % len(ways) == number] for number in range(len(ways))]
        batch = _Batch(tuple(ways), tuple(shares))
        begun = state.rows(np.array(batch.rows))
        drawn.update(zip(batch.rows, _together(network, prompts, automaton, batch, begun, u), strict=True))
    return [drawn[i] for i in range(n)]


def best(
    candidates: Sequence[Sequence[T]], score: Callable[[int, Sequence[T]], Float[Tensor, " m"]], keep: int = 1
) -> list[list[T]]:
    """Return the best of several candidates for each prompt, the very best first; of equals the first.

    Args:
        candidates: For each prompt, those that were drawn; `keep` of them or more.
        score: (number of the prompt, its candidates) -> one number for each, larger is better.
        keep: Of each prompt.

    Raises:
        UsageError: If there are too few, or a score is not one number for each.
    """
    found = []
    for prompt, some in enumerate(candidates):
        if not 1 <= keep <= len(some):
            raise UsageError(f"{keep} candidates or more, and 1 to keep", f"{len(some)} for prompt {prompt}")
        scores = score(prompt, some)
        if scores.shape != (len(some),) or scores.isnan().any():
            raise UsageError(f"one score for each of {len(some)} candidates of prompt {prompt}", scores)
        order = scores.argsort(descending=True, stable=True)[:keep]
        found.append([some[i] for i in order.tolist()])
    return found


@dataclass(frozen=True)
class _Batch:
    """Rows that are drawn together: they lie way after way, and in the network stream after stream of each way."""

    ways: tuple[Way, ...]
    shares: tuple[list[int], ...]
    """Numbers of the rows that are drawn in each way."""

    @property
    def rows(self) -> list[int]:
        """Return all numbers, in the order of the batch."""
        return [i for share in self.shares for i in share]

    def owners(self) -> list[int]:
        """Return the place in the batch of each row that the network reads."""
        found, first = [], 0
        for way, share in zip(self.ways, self.shares, strict=True):
            found += [*range(first, first + len(share))] * way.guide.streams
            first += len(share)
        return found

    def streams(self, prompts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the prompt of each row that the network reads."""
        parts = zip(self.ways, self.shares, strict=True)
        return [stream[i] for way, share in parts for stream in prompts[: way.guide.streams] for i in share]

    def draw(
        self, logits: Float[Tensor, "read V"], may: Bool[Tensor, "b V"], u: Float64[Tensor, " b"]
    ) -> Int64[Tensor, " b"]:
        """Draw one symbol for each row."""
        found, first, read = [], 0, 0
        for way, share in zip(self.ways, self.shares, strict=True):
            size, streams = len(share), way.guide.streams
            if not size:
                continue
            here = slice(first, first + size)
            mine = logits[read : read + streams * size].view(streams, size, -1)
            scores = way.guide.blend(mine.masked_fill(~may[here], -torch.inf))
            found.append(way.choice(scores, u[here]))
            first, read = first + size, read + streams * size
        return torch.cat(found)

    def without(self, going: Bool[np.ndarray, " b"]) -> "_Batch":
        """Return the batch of those that go on."""
        kept = {*itertools.compress(self.rows, going)}
        return _Batch(self.ways, tuple([i for i in share if i in kept] for share in self.shares))


def _together(
    network: Reader,
    prompts: Sequence[Sequence[Tensor]],
    automaton: Automaton,
    batch: _Batch,
    state: State,
    u: Float64[Tensor, "n most"],
) -> list[Tensor]:
    """Draw the rows of one batch, and return them in its order."""
    device, kind_of = u.device, kinds(network.symbols).to(u.device)
    kind_of_host = kind_of.numpy(force=True)
    most = int(state.room.max())
    flat = batch.streams(prompts)
    length = max(map(len, flat))
    tokens = torch.stack([F.pad(prompt, (length - len(prompt), 0), value=network.symbols.pad) for prompt in flat])
    skip = torch.tensor([length - len(prompt) for prompt in flat], device=device)
    cache = network.begin(len(flat), length + most - 1, skip)
    out: dict[int, list[int]] = {row: [] for row in batch.rows}
    alive, rows, owners = _numbers(batch, device)
    kinds_before, may = None, torch.empty(0)
    for i in range(most):
        logits, cache = network.next(tokens, cache)
        allowed = automaton.allowed(state)
        if kinds_before is None or not np.array_equal(allowed, kinds_before):
            kinds_before, may = allowed, torch.from_numpy(allowed).to(device)[:, kind_of]
        new = batch.draw(logits, may, u[rows, i])
        values = new.tolist()
        for row, value in zip(alive, values, strict=True):
            out[row].append(value)
        state = automaton.step(state, kind_of_host[values])
        going = state.place != ENDED
        if not going.any():
            break
        if not going.all():
            batch, state, goes = batch.without(going), state.rows(going), torch.from_numpy(going).to(device)
            new, cache = new[goes], cache.rows(goes[owners].nonzero()[:, 0])
            alive, rows, owners = _numbers(batch, device)
        tokens = new[owners, None]
    return [torch.tensor(row, dtype=torch.long, device=device) for row in out.values()]


def _numbers(batch: _Batch, device: torch.device) -> tuple[list[int], Tensor, Tensor]:
    """Return the numbers of the rows, as a list and as a tensor, and whose each row is that is read."""
    return batch.rows, torch.tensor(batch.rows, device=device), torch.tensor(batch.owners(), device=device)


def _check_streams(prompts: Sequence[Sequence[Tensor]], ways: Sequence[Way]) -> None:
    """Refuse streams that do not fit the guides, or each other."""
    wanted = max((way.guide.streams for way in ways), default=0)
    if len(prompts) != wanted or not ways:
        raise UsageError(
            f"at least one way, and prompts for as many streams as the guides read, {wanted}",
            f"{len(ways)} ways and {len(prompts)} streams",
        )
    if len({len(stream) for stream in prompts}) > 1:
        raise UsageError("as many prompts in each stream", [len(stream) for stream in prompts])


SCORING_BATCH = 32
"""Rows that are read together, unless one asks otherwise."""


@torch.no_grad()
def log_likelihood(
    network: Any,
    rows: Int64[Tensor, "n l"],
    counted: Bool[Tensor, "n l"],
    symbols: Symbols,
    *,
    at_once: int = SCORING_BATCH,
) -> Float64[Tensor, " n"]:
    """Return log p of the counted symbols of each row, given all that stands before each, in nats; sums in float64.

    exp(-sum / number) is their perplexity; `countable` tells how many there are. What is never predicted is not
    counted, whatever is asked: the first symbol of a row, `<mask>`, `<infill>` and padding.

    Args:
        network: (x_t, t, given) -> at each place the logits of the next symbol, as `PlainTransformer`.
        rows: Padded on their right.
        counted: Which symbols count.
        symbols: Of the rows.
        at_once: Rows that are read together, of similar lengths.
    """
    counted = counted & countable(rows, symbols)
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    within = torch.where(counted, torch.arange(1, rows.shape[1] + 1, device=rows.device), 0)
    length = F.pad(within, (1, 0)).amax(1)
    for which in length.argsort().split(at_once) if len(rows) else ():
        some = rows[which, : int(length[which].max())]
        marks = counted[which, 1 : some.shape[1]]
        if marks.any():
            logits = network(some, torch.zeros(len(some), device=rows.device), {})[:, :-1]
            entries = F.cross_entropy(logits[marks].double(), some[:, 1:][marks], reduction="none")
            total.index_add_(0, which[marks.nonzero()[:, 0]], -entries)
    return total


def countable(rows: Int64[Tensor, "n l"], symbols: Symbols) -> Bool[Tensor, "n l"]:
    """Mark what is predicted: all but the first of each row, sentinels and padding."""
    marks = (rows != symbols.mask) & (rows != symbols.infill) & (rows < symbols.count)
    return marks & (torch.arange(rows.shape[1], device=rows.device) > 0)


def hidden(rows: Int64[Tensor, "n l"], symbols: Symbols) -> Bool[Tensor, "n l"]:
    """Mark the content of holes: what stands behind an `<infill>`, up to the `<eos>` of its document."""
    at = torch.arange(rows.shape[1], device=rows.device)
    last_infill = torch.where(rows == symbols.infill, at, -1).cummax(1).values
    last_eos = torch.where(rows == symbols.eos, at, 0).cummax(1).values
    return (last_infill > last_eos) & countable(rows, symbols)
