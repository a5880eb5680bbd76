"""Samples of different lengths in rows of one width, of which little is left empty."""

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
"""Number of the sample that padding belongs to: it sees itself, and nothing sees it."""

SEARCH_BUDGET = 1024
"""Samples that are laid again, all ways together, to find the best way to lay them."""


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows that hold whole samples, one after the other, then padding."""

    tokens: Int64[Tensor, "b n"]
    weight: Float32[Tensor, "b n"]
    """Of place i's prediction of the token at i + 1: 0 at the last of a sample, which is followed by another's."""
    sample: Int64[Tensor, "b n"]
    """Number of each place's sample in its row, from 0; -1 for padding."""
    position: Int64[Tensor, "b n"]
    """Place in the sample, from 0."""

    @property
    def padding_fraction(self) -> float:
        """Share of the places that is padding."""
        return (self.sample == PADDING_SAMPLE).float().mean().item()


def join_sample(
    retrieved: Sequence[MaskedDocument], query: MaskedDocument, vocabulary: DocumentVocabulary, context: int
) -> MaskedDocument:
    """Return a sample: documents in front, the query, and the last `<eos>`; the foremost are left out that do not fit.

    Raises:
        InputError: If the query alone is too long.
    """
    room = context - 1 - len(query.tokens)
    if room < 0:
        raise InputError(
            f"a document takes {len(query.tokens) + 1} places with its holes and its end, the context has {context}",
            remedy="Take a longer context, or shorter texts",
        )
    first = len(retrieved)
    while first and len(retrieved[first - 1].tokens) <= room:
        first -= 1
        room -= len(retrieved[first].tokens)
    parts = [*retrieved[first:], query]
    end = MaskedDocument(np.array([vocabulary.eos]), np.ones(1, np.float32))
    return MaskedDocument(
        np.concatenate([part.tokens for part in (*parts, end)]),
        np.concatenate([part.weight for part in (*parts, end)]),
    )


def pack_samples(samples: Sequence[MaskedDocument], vocabulary: DocumentVocabulary, max_width: int) -> PackedRows:
    """Lay samples in rows of no more places than the widest may have.

    Raises:
        InputError: If a sample is longer.
    """
    lengths = [len(sample.tokens) for sample in samples]
    if max(lengths, default=0) > max_width:
        raise InputError(f"a sample takes {max(lengths)} places, a row has {max_width}", remedy="Take wider rows")
    rows, width = choose_rows(lengths, max_width)
    tokens = np.full((len(rows), width), vocabulary.pad, dtype=np.int64)
    sample, position = np.full_like(tokens, PADDING_SAMPLE), np.zeros_like(tokens)
    weight = np.zeros(tokens.shape, dtype=np.float32)
    for i, row in enumerate(rows):
        place = 0
        for k, which in enumerate(row):
            one, n = samples[which], lengths[which]
            tokens[i, place : place + n] = one.tokens
            weight[i, place : place + n - 1] = one.weight[1:]
            sample[i, place : place + n] = k
            position[i, place : place + n] = np.arange(n)
            place += n
    return PackedRows(*map(torch.from_numpy, (tokens, weight, sample, position)))


def choose_rows(lengths: Sequence[int], max_width: int) -> tuple[list[list[int]], int]:
    """Return the samples of each row and the width of the rows: of several ways the one with the fewest places.

    Best fit alone leaves the last row of a batch empty for its most part, and a share of every row where a whole number
    of samples does not fill it. So the same rows are tried narrower, and more rows, up to twice as many, in
    batches that are not so large that it hardly matters.
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
    """Return so many rows, or fewer, and the least width at which best fit needs no more.

    Raises:
        UsageError: If the widest row is too narrow for so few.
    """
    low, width, rows = max([*lengths, -(-sum(lengths) // count)]), max_width, best_fit(lengths, max_width)
    if len(rows) > count:
        raise UsageError(
            f"best fit needs {len(rows)} rows of {max_width} places", found=count, remedy="Give it as many"
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
    """Put each, the longest first, into the fullest row that has room for it, or into a new one."""
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # room and number of each row, in order
    for which in sorted(range(len(lengths)), key=lambda which: -lengths[which]):
        at = bisect_left(free, (lengths[which], 0))
        room, row = free.pop(at) if at < len(free) else (width, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(which)
        insort(free, (room - lengths[which], row))
    return rows


def emptiest_first(lengths: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """Put each, the longest first, into the emptiest of some rows; return these and the length of the fullest."""
    rows: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    for which in sorted(range(len(lengths)), key=lambda which: -lengths[which]):
        load, row = filled[0]
        rows[row].append(which)
        heapreplace(filled, (load + lengths[which], row))
    return rows, max(filled)[0]
