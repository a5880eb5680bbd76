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
from feller.sampling.autoregressive.document_grammar import parse_prefix, planned_hole_sizes, symbol_kinds
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

    def init_cache(
        self, batch_size: int, max_length: int, left_padding: Tensor | None = None, hole_sizes: Tensor | None = None
    ) -> Any:
        """Return an empty KV cache; its method `select(index)` selects rows.

        `left_padding` is the number of padding tokens before each row; None for no padding. `hole_sizes` [b, m] is the
        number of codes that each `<mask>` of the prompts hides; None if they have no holes.
        """
        ...

    def decode_step(self, tokens: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Process tokens [b, m]; return the logits of the next token, [b, count], and the updated cache."""
        ...


@dataclass(frozen=True)
class SamplingSpec:
    """Settings of token sampling: `guidance` combines the raw logits of the allowed tokens of all streams.

    Then `token_sampler` applies temperature, top-k and top-p, and samples a token.
    """

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
    """Generate the continuation of each prompt, with one network call per token for all prompts of a batch.

    Guidance combines the logits of several prompts for one continuation, such as with and without a text. Each of these
    prompts is one stream.

    A prompt with its continuation is always a well-formed document, and fits in the network's context. The samples of a
    row depend on the index of the row, not on its batch. Finished rows are removed from the batch.

    Args:
        network: Decoder.
        prompts: For each stream, one prompt per row, of any length. The prompts of the first stream determine the
            allowed tokens; the generated tokens are appended to all streams.
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
    states_of_streams = [[parse_prefix(prompt, vocabulary) for prompt in stream] for stream in prompts]
    parser_states = states_of_streams[0]
    prompts = [[prompt[prompt != vocabulary.pad].to(device) for prompt in stream] for stream in prompts]
    hole_sizes = [
        [
            planned_hole_sizes(prompt, state, vocabulary, goal.hole_sizes)
            for prompt, state in zip(stream, states, strict=True)
        ]
        for stream, states in zip(prompts, states_of_streams, strict=True)
    ]
    remaining = [network.context - max(map(len, row)) for row in zip(*prompts, strict=True)]
    if min(remaining, default=0) < 0:
        row = remaining.index(min(remaining))
        raise UsageError(
            f"prompts of at most {network.context} tokens, the context length",
            f"{network.context - remaining[row]} tokens in row {row}",
            "Remove leading documents, or shorten the prompt",
        )
    automaton, n = Automaton(vocabulary, goal), len(remaining)
    state = automaton.initial_state(parser_states, remaining)
    u = rng.stream("token").uniform((n, int(state.room.max()) if n else 0), torch.float64, device)
    outputs: dict[int, Tensor] = {}
    for start in range(0, n, batch_size):
        indices = range(start, min(start + batch_size, n))
        rows_per_spec = [
            [i for i in indices if (rng.first_example + i) % len(specs) == spec_index]
            for spec_index in range(len(specs))
        ]
        batch = _Batch(tuple(specs), tuple(rows_per_spec))
        batch_state = state.select(np.array(batch.rows))
        tokens = _generate_batch(network, prompts, hole_sizes, automaton, batch, batch_state, u)
        outputs.update(zip(batch.rows, tokens, strict=True))
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
    for prompt, options in enumerate(candidates):
        if not 1 <= num_best <= len(options):
            raise UsageError(
                "1 <= num_best <= number of candidates", f"{num_best} of {len(options)} candidates for prompt {prompt}"
            )
        scores = score(prompt, options)
        if scores.shape != (len(options),) or scores.isnan().any():
            raise UsageError(f"one score for each of {len(options)} candidates of prompt {prompt}", scores)
        order = scores.argsort(descending=True, stable=True)[:num_best]
        ranked.append([options[i] for i in order.tolist()])
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
        """Return, for each row of the network's input, the position in the batch of the row that it belongs to.

        The network's input has one row for each guidance stream of each row of the batch.
        """
        row_index, start = [], 0
        for spec, rows in zip(self.specs, self.rows_per_spec, strict=True):
            row_index += [*range(start, start + len(rows))] * spec.guidance.num_streams
            start += len(rows)
        return row_index

    def streams(self, prompts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the prompt (or hole sizes) of each row of the network's input, in the order of `row_of_stream`."""
        groups = zip(self.specs, self.rows_per_spec, strict=True)
        return [stream[i] for spec, rows in groups for stream in prompts[: spec.guidance.num_streams] for i in rows]

    def sample(
        self, logits: Float[Tensor, "read V"], allowed: Bool[Tensor, "b V"], u: Float64[Tensor, " b"]
    ) -> Int64[Tensor, " b"]:
        """Sample one token for each of b documents; `logits` has a row for each document and guidance stream."""
        tokens, start, offset = [], 0, 0
        for spec, rows in zip(self.specs, self.rows_per_spec, strict=True):
            size, streams = len(rows), spec.guidance.num_streams
            if not size:
                continue
            index = slice(start, start + size)
            spec_logits = logits[offset : offset + streams * size].view(streams, size, -1)
            scores = spec.guidance.combine(spec_logits.masked_fill(~allowed[index], -torch.inf))
            tokens.append(spec.token_sampler(scores, u[index]))
            start, offset = start + size, offset + streams * size
        return torch.cat(tokens)

    def keep_open(self, is_open: Bool[np.ndarray, " b"]) -> "_Batch":
        """Return the batch without the finished rows; `is_open` marks the unfinished ones."""
        open_rows = {*itertools.compress(self.rows, is_open)}
        return _Batch(self.specs, tuple([i for i in rows if i in open_rows] for rows in self.rows_per_spec))


def _generate_batch(
    network: DocumentDecoder,
    prompts: Sequence[Sequence[Tensor]],
    hole_sizes: Sequence[Sequence[Tensor]],
    automaton: Automaton,
    batch: _Batch,
    state: ParserStateBatch,
    u: Float64[Tensor, "n most"],
) -> list[Tensor]:
    device, kind_of = u.device, symbol_kinds(network.vocabulary).to(u.device)
    kind_of_host = kind_of.numpy(force=True)
    max_new_symbols = int(state.room.max())
    stream_prompts = batch.streams(prompts)
    prompt_length = max(map(len, stream_prompts))
    tokens = _left_padded(stream_prompts, prompt_length, network.vocabulary.pad)
    sizes = _left_padded(batch.streams(hole_sizes), prompt_length, 0)
    left_padding = torch.tensor([prompt_length - len(prompt) for prompt in stream_prompts], device=device)
    max_length = prompt_length + max_new_symbols - 1
    cache = network.init_cache(len(stream_prompts), max_length, left_padding, sizes)
    outputs: dict[int, list[int]] = {row: [] for row in batch.rows}
    open_rows, row_index, stream_rows = _numbers(batch, device)
    previous_allowed, allowed_tokens = None, torch.empty(0)
    for i in range(max_new_symbols):
        logits, cache = network.decode_step(tokens, cache)
        allowed = automaton.allowed(state)
        if previous_allowed is None or not np.array_equal(allowed, previous_allowed):
            previous_allowed, allowed_tokens = allowed, torch.from_numpy(allowed).to(device)[:, kind_of]
        next_tokens = batch.sample(logits, allowed_tokens, u[row_index, i])
        token_ids = next_tokens.tolist()
        for row, token_id in zip(open_rows, token_ids, strict=True):
            outputs[row].append(token_id)
        state = automaton.step(state, kind_of_host[token_ids])
        is_open = state.place != ENDED
        if not is_open.any():
            break
        if not is_open.all():
            open_mask = torch.from_numpy(is_open).to(device)
            batch, state = batch.keep_open(is_open), state.select(is_open)
            next_tokens, cache = next_tokens[open_mask], cache.select(open_mask[stream_rows].nonzero()[:, 0])
            open_rows, row_index, stream_rows = _numbers(batch, device)
        tokens = next_tokens[stream_rows, None]
    return [torch.tensor(row, dtype=torch.long, device=device) for row in outputs.values()]


def _left_padded(rows: Sequence[Int64[Tensor, " _"]], length: int, value: int) -> Int64[Tensor, "n length"]:
    return torch.stack([F.pad(row, (length - len(row), 0), value=value) for row in rows])


def _numbers(batch: _Batch, device: torch.device) -> tuple[list[int], Tensor, Tensor]:
    """Return the row indices of a batch, as a list and as a tensor, and `_Batch.row_of_stream` as a tensor."""
    return batch.rows, torch.tensor(batch.rows, device=device), torch.tensor(batch.row_of_stream(), device=device)


def _check_streams(prompts: Sequence[Sequence[Tensor]], specs: Sequence[SamplingSpec]) -> None:
    num_streams = max((spec.guidance.num_streams for spec in specs), default=0)
    if len(prompts) != num_streams or not specs:
        raise UsageError(
            f"at least one entry in `specs`, and {num_streams} lists in `prompts`, one for each stream that the"
            " guidance in `specs` combines",
            f"{len(specs)} entries and {len(prompts)} lists",
        )
    if len({len(stream) for stream in prompts}) > 1:
        raise UsageError("lists of equal length in `prompts`", f"lengths {[len(stream) for stream in prompts]}")


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
    positions = torch.where(loss_mask, torch.arange(1, rows.shape[1] + 1, device=rows.device), 0)
    lengths = F.pad(positions, (1, 0)).amax(1)
    for index in lengths.argsort().split(batch_size) if len(rows) else ():
        tokens = rows[index, : int(lengths[index].max())]
        mask = loss_mask[index, 1 : tokens.shape[1]]
        if mask.any():
            logits = network(tokens, torch.zeros(len(tokens), device=rows.device), {})[:, :-1]
            entries = F.cross_entropy(logits[mask].double(), tokens[:, 1:][mask], reduction="none")
            total.index_add_(0, index[mask.nonzero()[:, 0]], -entries)
    return total


def predicted_mask(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> Bool[Tensor, "n l"]:
    """Return the mask of predicted tokens: all except the first of each row, `<mask>`, `<infill>` and padding."""
    is_predicted = (rows != vocabulary.mask) & (rows != vocabulary.infill) & (rows < vocabulary.num_outputs)
    return is_predicted & (torch.arange(rows.shape[1], device=rows.device) > 0)


def infill_mask(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> Bool[Tensor, "n l"]:
    """Return the mask of infilled tokens: predicted tokens after the first `<infill>`, up to the document's `<eos>`."""
    positions = torch.arange(rows.shape[1], device=rows.device)
    last_infill = torch.where(rows == vocabulary.infill, positions, -1).cummax(1).values
    last_eos = torch.where(rows == vocabulary.eos, positions, 0).cummax(1).values
    return (last_infill > last_eos) & predicted_mask(rows, vocabulary)
