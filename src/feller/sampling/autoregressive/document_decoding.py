"""Autoregressive decoding of well-formed documents (sequences of texts and images), and token likelihoods."""

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
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.decoding_goals import DecodingGoal
from feller.sampling.autoregressive.document_grammar import parse_prefix, symbol_kinds
from feller.sampling.autoregressive.parser_state import ENDED, Automaton, ParserStateBatch
from feller.sampling.autoregressive.token_guidance import NoGuidance, TokenGuidance

BATCH_SIZE = 64
"""Default number of rows (prompts with their continuations) decoded together."""
T = TypeVar("T")


@runtime_checkable
class DocumentDecoder(Protocol):
    """Network that decodes documents token by token with a KV cache, such as `GPTNetwork`."""

    vocabulary: DocumentVocabulary
    context: int

    def parameters(self) -> Iterator[Tensor]:
        """Yield the weights, which determine the device."""
        ...

    def init_cache(self, batch_size: int, max_length: int, left_padding: Tensor | None = None) -> Any:
        """Return an empty KV cache for left-padded rows; its method `select(index)` selects rows."""
        ...

    def decode_step(self, tokens: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Process tokens [b, m]; return the logits of the next token, [b, count], and the updated cache."""
        ...


@dataclass(frozen=True)
class SamplingSpec:
    """Sampling settings: guidance on the raw logits of the allowed tokens, then temperature, top-k and top-p."""

    guidance: TokenGuidance = NoGuidance()  # noqa: RUF009 - frozen
    token_sampler: TokenSampler = TokenSampler()  # noqa: RUF009 - frozen


@torch.no_grad()
def generate(
    network: DocumentDecoder,
    prompts: Sequence[Sequence[Int64[Tensor, " _"]]],
    goal: DecodingGoal,
    rng: Rng,
    *,
    specs: Sequence[SamplingSpec] = (SamplingSpec(),),
    batch_size: int = BATCH_SIZE,
) -> list[Int64[Tensor, " _"]]:
    """Generate the continuation of each prompt, with one network call per token for all guidance streams of a batch.

    A prompt with its continuation is always a well-formed document, and fits in the network's context. The samples of a
    row depend on the index of the row, not on its batch. Finished rows are removed from the batch.

    Args:
        network: Decoder.
        prompts: For each guidance stream, one prompt per row, of any length. The first stream determines the allowed
            tokens; the generated tokens are appended to all streams.
        goal: Kind of continuation to generate.
        rng: Random numbers; `rng.first_example` is the index of the first row.
        specs: Sampling settings; row i uses entry i modulo len(specs).
        batch_size: Number of rows decoded together.

    Returns:
        The generated tokens of each row, including the final `<break>` or `<eos>`.

    Raises:
        InputError: If a prompt is malformed.
        UsageError: If the number of streams or prompts is wrong, or a prompt does not fit the goal or the context.
    """
    vocabulary, device = network.vocabulary, next(network.parameters()).device
    _check_streams(prompts, specs)
    parser_states, *_ = [[parse_prefix(prompt, vocabulary) for prompt in stream] for stream in prompts]
    prompts = [[prompt[prompt != vocabulary.pad].to(device) for prompt in stream] for stream in prompts]
    room = [network.context - max(map(len, row)) for row in zip(*prompts, strict=True)]
    if min(room, default=0) < 0:
        row = room.index(min(room))
        raise UsageError(
            f"prompts of at most {network.context} tokens, the context length",
            f"{network.context - room[row]} tokens in row {row}",
            "Remove leading documents, or shorten the prompt",
        )
    automaton, n = Automaton(vocabulary, goal), len(room)
    state = automaton.initial_state(parser_states, room)
    u = rng.stream("token").uniform((n, int(state.room.max()) if n else 0), torch.float64, device)
    outputs: dict[int, Tensor] = {}
    for first in range(0, n, batch_size):
        here = range(first, min(first + batch_size, n))
        rows_per_spec = [
            [i for i in here if (rng.first_example + i) % len(specs) == number] for number in range(len(specs))
        ]
        batch = _Batch(tuple(specs), tuple(rows_per_spec))
        begun = state.select(np.array(batch.rows))
        outputs.update(zip(batch.rows, _generate_batch(network, prompts, automaton, batch, begun, u), strict=True))
    return [outputs[i] for i in range(n)]


def rank_candidates(
    candidates: Sequence[Sequence[T]], score: Callable[[int, Sequence[T]], Float[Tensor, " m"]], num_best: int = 1
) -> list[list[T]]:
    """Return the highest-scoring candidates of each prompt, best first; ties keep their order.

    Args:
        candidates: Candidates of each prompt, at least `num_best` per prompt.
        score: (prompt index, its candidates) -> one score per candidate; larger is better.
        num_best: Number of candidates to return per prompt.

    Raises:
        UsageError: If a prompt has too few candidates, or the scores have a wrong shape or NaN.
    """
    ranked = []
    for prompt, some in enumerate(candidates):
        if not 1 <= num_best <= len(some):
            raise UsageError(
                "1 <= num_best <= number of candidates", f"{num_best} of {len(some)} candidates for prompt {prompt}"
            )
        scores = score(prompt, some)
        if scores.shape != (len(some),) or scores.isnan().any():
            raise UsageError(f"one score for each of {len(some)} candidates of prompt {prompt}", scores)
        order = scores.argsort(descending=True, stable=True)[:num_best]
        ranked.append([some[i] for i in order.tolist()])
    return ranked


@dataclass(frozen=True)
class _Batch:
    """Rows decoded together, grouped by sampling settings; the network processes each row once per guidance stream."""

    specs: tuple[SamplingSpec, ...]
    rows_per_spec: tuple[list[int], ...]
    """Row indices for each entry of the sampling settings `specs`."""

    @property
    def rows(self) -> list[int]:
        """All row indices, in batch order."""
        return [i for rows in self.rows_per_spec for i in rows]

    def row_of_stream(self) -> list[int]:
        """Return the batch index of each row that the network processes."""
        row_index, first = [], 0
        for spec, rows in zip(self.specs, self.rows_per_spec, strict=True):
            row_index += [*range(first, first + len(rows))] * spec.guidance.num_streams
            first += len(rows)
        return row_index

    def streams(self, prompts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the prompt of each row that the network processes."""
        parts = zip(self.specs, self.rows_per_spec, strict=True)
        return [stream[i] for spec, rows in parts for stream in prompts[: spec.guidance.num_streams] for i in rows]

    def sample(
        self, logits: Float[Tensor, "read V"], allowed: Bool[Tensor, "b V"], u: Float64[Tensor, " b"]
    ) -> Int64[Tensor, " b"]:
        """Sample one token per row."""
        symbols, first, read = [], 0, 0
        for spec, rows in zip(self.specs, self.rows_per_spec, strict=True):
            size, streams = len(rows), spec.guidance.num_streams
            if not size:
                continue
            here = slice(first, first + size)
            mine = logits[read : read + streams * size].view(streams, size, -1)
            scores = spec.guidance.combine(mine.masked_fill(~allowed[here], -torch.inf))
            symbols.append(spec.token_sampler(scores, u[here]))
            first, read = first + size, read + streams * size
        return torch.cat(symbols)

    def keep_open(self, is_open: Bool[np.ndarray, " b"]) -> "_Batch":
        """Return the batch without the finished rows; `is_open` marks the unfinished ones."""
        open_rows = {*itertools.compress(self.rows, is_open)}
        return _Batch(self.specs, tuple([i for i in rows if i in open_rows] for rows in self.rows_per_spec))


def _generate_batch(
    network: DocumentDecoder,
    prompts: Sequence[Sequence[Tensor]],
    automaton: Automaton,
    batch: _Batch,
    state: ParserStateBatch,
    u: Float64[Tensor, "n most"],
) -> list[Tensor]:
    device, kind_of = u.device, symbol_kinds(network.vocabulary).to(u.device)
    kind_of_host = kind_of.numpy(force=True)
    max_new_symbols = int(state.room.max())
    flat = batch.streams(prompts)
    length = max(map(len, flat))
    tokens = torch.stack([F.pad(prompt, (length - len(prompt), 0), value=network.vocabulary.pad) for prompt in flat])
    skip = torch.tensor([length - len(prompt) for prompt in flat], device=device)
    cache = network.init_cache(len(flat), length + max_new_symbols - 1, skip)
    out: dict[int, list[int]] = {row: [] for row in batch.rows}
    alive, rows, owners = _numbers(batch, device)
    kinds_before, allowed_symbols = None, torch.empty(0)
    for i in range(max_new_symbols):
        logits, cache = network.decode_step(tokens, cache)
        allowed = automaton.allowed(state)
        if kinds_before is None or not np.array_equal(allowed, kinds_before):
            kinds_before, allowed_symbols = allowed, torch.from_numpy(allowed).to(device)[:, kind_of]
        new = batch.sample(logits, allowed_symbols, u[rows, i])
        values = new.tolist()
        for row, value in zip(alive, values, strict=True):
            out[row].append(value)
        state = automaton.step(state, kind_of_host[values])
        going = state.place != ENDED
        if not going.any():
            break
        if not going.all():
            batch, state, goes = batch.keep_open(going), state.select(going), torch.from_numpy(going).to(device)
            new, cache = new[goes], cache.select(goes[owners].nonzero()[:, 0])
            alive, rows, owners = _numbers(batch, device)
        tokens = new[owners, None]
    return [torch.tensor(row, dtype=torch.long, device=device) for row in out.values()]


def _numbers(batch: _Batch, device: torch.device) -> tuple[list[int], Tensor, Tensor]:
    """Return the row indices as a list and as a tensor, and the batch index of each row that the network processes."""
    return batch.rows, torch.tensor(batch.rows, device=device), torch.tensor(batch.row_of_stream(), device=device)


def _check_streams(prompts: Sequence[Sequence[Tensor]], specs: Sequence[SamplingSpec]) -> None:
    num_streams = max((spec.guidance.num_streams for spec in specs), default=0)
    if len(prompts) != num_streams or not specs:
        raise UsageError(
            f"at least one entry in specs, and {num_streams} streams of prompts for their guidance",
            f"{len(specs)} entries and {len(prompts)} streams",
        )
    if len({len(stream) for stream in prompts}) > 1:
        raise UsageError("equal numbers of prompts in all streams", [len(stream) for stream in prompts])


SCORING_BATCH = 32
"""Default number of rows scored together."""


@torch.no_grad()
def log_likelihood(
    network: Any,
    rows: Int64[Tensor, "n l"],
    loss_mask: Bool[Tensor, "n l"],
    vocabulary: DocumentVocabulary,
    *,
    batch_size: int = SCORING_BATCH,
) -> Float64[Tensor, " n"]:
    """Return the log probability of the tokens in `loss_mask` given all earlier tokens, summed per row, in nats.

    The perplexity is exp(-sum / count), where count is the number of True entries of `loss_mask & predicted_mask(...)`.
    Tokens that are never predicted are excluded: the first token of a row, `<mask>`, `<infill>` and padding. Sums are
    in float64.

    Args:
        network: (x_t, t, cond) -> logits of the next token at each position, such as `GPTNetwork`.
        rows: Right-padded rows.
        loss_mask: Tokens to include.
        vocabulary: Vocabulary of the rows.
        batch_size: Number of rows scored together, of similar lengths.
    """
    loss_mask = loss_mask & predicted_mask(rows, vocabulary)
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    within = torch.where(loss_mask, torch.arange(1, rows.shape[1] + 1, device=rows.device), 0)
    length = F.pad(within, (1, 0)).amax(1)
    for index in length.argsort().split(batch_size) if len(rows) else ():
        some = rows[index, : int(length[index].max())]
        mask = loss_mask[index, 1 : some.shape[1]]
        if mask.any():
            logits = network(some, torch.zeros(len(some), device=rows.device), {})[:, :-1]
            entries = F.cross_entropy(logits[mask].double(), some[:, 1:][mask], reduction="none")
            total.index_add_(0, index[mask.nonzero()[:, 0]], -entries)
    return total


def predicted_mask(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> Bool[Tensor, "n l"]:
    """Return the mask of predicted tokens: all except the first of each row, `<mask>`, `<infill>` and padding."""
    marks = (rows != vocabulary.mask) & (rows != vocabulary.infill) & (rows < vocabulary.num_outputs)
    return marks & (torch.arange(rows.shape[1], device=rows.device) > 0)


def infill_mask(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> Bool[Tensor, "n l"]:
    """Return the mask of infilled tokens: predicted tokens after the first `<infill>`, up to the document's `<eos>`."""
    at = torch.arange(rows.shape[1], device=rows.device)
    last_infill = torch.where(rows == vocabulary.infill, at, -1).cummax(1).values
    last_eos = torch.where(rows == vocabulary.eos, at, 0).cummax(1).values
    return (last_infill > last_eos) & predicted_mask(rows, vocabulary)
