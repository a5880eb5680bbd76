"""Packing of token sequences of different lengths into rows of equal width."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.masked_spans import MaskedDocument

PADDING_SAMPLE = -1
"""Sample number assigned to padding, which attends only to itself."""

SEARCH_BUDGET = 1024
"""Largest number of placements tried in the search for the best packing."""


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Packed rows of tokens; each row holds whole samples one after the other, then padding."""

    tokens: Int64[Tensor, "b n"]
    weight: Float32[Tensor, "b n"]
    """Weight of predicting token i + 1 at position i; 0 at the last token of a sample."""
    sample: Int64[Tensor, "b n"]
    """Number of each token's sample within the row, counted from 0; -1 for padding."""
    position: Int64[Tensor, "b n"]
    """Position of each token within its sample, counted from 0."""

    @property
    def padding_fraction(self) -> float:
        """Fraction of tokens that are padding."""
        return (self.sample == PADDING_SAMPLE).float().mean().item()


def join_sample(
    retrieved: Sequence[MaskedDocument], query: MaskedDocument, vocabulary: DocumentVocabulary, context: int
) -> MaskedDocument:
    """Concatenate retrieved documents, query document and final `<eos>` to a sample of at most `context` tokens.

    Retrieved documents that do not fit are dropped, starting with the first.

    Raises:
        InputError: If the query alone exceeds the context.
    """
    remaining = context - 1 - len(query.tokens)
    if remaining < 0:
        raise InputError(
            f"a document needs {len(query.tokens) + 1} tokens after masking, but the context is {context}",
            remedy="Use a longer context or shorter texts",
        )
    start = len(retrieved)
    while start and len(retrieved[start - 1].tokens) <= remaining:
        start -= 1
        remaining -= len(retrieved[start].tokens)
    documents = [*retrieved[start:], query]
    eos = MaskedDocument(np.array([vocabulary.eos]), np.ones(1, np.float32))
    return MaskedDocument(
        np.concatenate([document.tokens for document in (*documents, eos)]),
        np.concatenate([document.weight for document in (*documents, eos)]),
    )


def pack_samples(samples: Sequence[MaskedDocument], vocabulary: DocumentVocabulary, max_width: int) -> PackedRows:
    """Pack samples into rows of at most `max_width` tokens; InputError if a sample is longer than `max_width`."""
    lengths = [len(sample.tokens) for sample in samples]
    if max(lengths, default=0) > max_width:
        raise InputError(
            f"a sample has {max(lengths)} tokens, but a row holds at most {max_width}", remedy="Use wider rows"
        )
    rows, width = choose_rows(lengths, max_width)
    tokens = np.full((len(rows), width), vocabulary.pad, dtype=np.int64)
    sample, position = np.full_like(tokens, PADDING_SAMPLE), np.zeros_like(tokens)
    weight = np.zeros(tokens.shape, dtype=np.float32)
    for i, row in enumerate(rows):
        start = 0
        for k, index in enumerate(row):
            document, n = samples[index], lengths[index]
            tokens[i, start : start + n] = document.tokens
            weight[i, start : start + n - 1] = document.weight[1:]
            sample[i, start : start + n] = k
            position[i, start : start + n] = np.arange(n)
            start += n
    return PackedRows(*map(torch.from_numpy, (tokens, weight, sample, position)))


def choose_rows(lengths: Sequence[int], max_width: int) -> tuple[list[list[int]], int]:
    """Return the packing with the fewest tokens among those tried: indices of the samples of each row, and row width.

    Best fit alone may leave the last row nearly empty, or padding in every row if the sample length does not divide the
    width. So narrower rows and up to twice as many rows are also tried, for small batches.
    """
    rows, width = best_fit(lengths, max_width), max_width
    most_rows = min(len(lengths), 2 * len(rows), len(rows) + SEARCH_BUDGET // max(1, len(lengths)))
    for count in range(max(1, len(rows)), most_rows + 1):
        for candidate, candidate_width in (
            narrowest_best_fit(lengths, count, max_width),
            emptiest_first(lengths, count),
        ):
            if len(candidate) * candidate_width < len(rows) * width and candidate_width <= max_width:
                rows, width = candidate, candidate_width
    return rows, width


def narrowest_best_fit(lengths: Sequence[int], count: int, max_width: int) -> tuple[list[list[int]], int]:
    """Return a packing by best fit into at most `count` rows, with the smallest possible row width, and this width.

    Raises:
        UsageError: If best fit needs more rows even at the largest width.
    """
    low, width, rows = max([*lengths, -(-sum(lengths) // count)]), max_width, best_fit(lengths, max_width)
    if len(rows) > count:
        raise UsageError(
            f"at least {len(rows)} rows of {max_width} tokens for best-fit packing",
            found=count,
            remedy="Increase count",
        )
    while low < width:
        middle = (low + width) // 2
        candidate = best_fit(lengths, middle)
        if len(candidate) <= count:
            rows, width = candidate, middle
        else:
            low = middle + 1
    return rows, width


def best_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Pack samples into rows of `width` tokens by best fit decreasing; return the sample indices of each row.

    Each sample, longest first, goes into the fullest row with enough space.
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # sorted (free space, row)
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        position = bisect_left(free, (lengths[index], 0))
        space, row = free.pop(position) if position < len(free) else (width, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        insort(free, (space - lengths[index], row))
    return rows


def emptiest_first(lengths: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """Pack samples, longest first, each into the emptiest of `count` rows.

    Return the sample indices of each row, and the length of the fullest row in tokens.
    """
    rows: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, row) for row in range(count)]
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        load, row = heap[0]
        rows[row].append(index)
        heapreplace(heap, (load + lengths[index], row))
    return rows, max(heap)[0]
