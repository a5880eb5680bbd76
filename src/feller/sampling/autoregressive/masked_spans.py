"""Causal span masking: hidden spans move to the end of the document, so that they are predicted from both sides.

A hole is one `<mask>`. After the last segment come, for each hole in order, `<infill>` and its hidden tokens. No hole
crosses a `<break>`, so images keep their boundaries. Sources: Aghajanyan et al. 2022, "CM3: A
causal masked multimodal model of the internet", arXiv 2201.07520, section 2; Yu et al. 2023, arXiv 2309.02591.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.documents.vocabulary import DocumentVocabulary

Span = tuple[int, int]
"""Start and (exclusive) end position of a span."""


@dataclass(frozen=True)
class SpanMasking:
    """Settings and distribution of the spans of a document that are hidden in training.

    Answers marked in the data are always hidden. The number of other spans is Poisson, clamped to [1, `max_spans`].
    Each span lies in a uniformly sampled segment, with both ends uniform; overlapping spans are resampled. Thus texts
    are hidden as often as images, whatever their lengths.
    """

    span_prob: float = 1.0
    """Probability of hiding spans in a document whose texts are not hidden as a whole."""
    # A span with uniform ends covers a text of L tokens with probability 2 / (L + 1)^2, too rarely for guidance.
    text_prob: float = 0.15
    """Probability of hiding all texts of a document; needed for guidance, and for generating images without a text."""
    answer_span_prob: float = 0.0
    """Probability of hiding further spans in a document with marked answers."""
    mean: float = 1.0
    """Mean of the Poisson distribution of the number of spans."""
    max_spans: int = 16
    """Maximum number of spans per document."""

    def __post_init__(self) -> None:
        for name, prob in (
            ("span_prob", self.span_prob),
            ("text_prob", self.text_prob),
            ("answer_span_prob", self.answer_span_prob),
        ):
            if not 0 <= prob <= 1:
                raise UsageError(f"{name} in [0, 1]", f"{prob:g}")
        if not (0 <= self.mean <= 64 and self.max_spans >= 1):
            raise UsageError("mean in [0, 64] and max_spans of at least 1", f"{self.mean:g} and {self.max_spans}")

    @property
    def numbers(self) -> int:
        """Number of uniform random numbers that `sample_spans` needs per document."""
        return 3 + 3 * self.max_spans

    def number(self, u: float) -> int:
        """Sample the number of spans from a uniform number u: Poisson, clamped to [1, max_spans]."""
        n, cumulative, pmf = 0, 0.0, math.exp(-self.mean)
        while n < self.max_spans and u >= (cumulative := cumulative + pmf):
            n += 1
            pmf *= self.mean / n
        return max(1, n)


@dataclass(frozen=True, eq=False)
class Document:
    """Tokens of one document without padding, and the spans of its answers."""

    tokens: Int64[np.ndarray, " n"]
    """`<eos>`, then segments, each followed by `<break>`."""
    answers: tuple[Span, ...]
    """Spans marked as answers in the data, in order."""


@dataclass(frozen=True, eq=False)
class MaskedDocument:
    """Document with hidden spans."""

    tokens: Int64[np.ndarray, " n"]
    """Document with holes, followed by their fills."""
    weight: Float32[np.ndarray, " n"]
    """Loss weight of each token: 0 for `<mask>` and `<infill>`, because their positions are random; 1 for others."""


def read_document(row: Int64[np.ndarray, " l"], vocabulary: DocumentVocabulary) -> Document:
    """Return the document of a data row, without padding and without the tokens that mark answers.

    Raises:
        InputError: If answer marks are unbalanced, or an answer contains anything but text of one segment.
    """
    row = row[row != vocabulary.pad]
    starts, ends = np.flatnonzero(row == vocabulary.answer_start), np.flatnonzero(row == vocabulary.answer_end)
    if not len(starts) and not len(ends):
        return Document(row, ())
    if len(starts) != len(ends) or (starts > ends).any() or (starts[1:] < ends[:-1]).any():
        raise InputError("an end mark after each start mark of an answer", f"{len(ends)} ends, {len(starts)} starts")
    tokens = row[(row != vocabulary.answer_start) & (row != vocabulary.answer_end)]
    mark_offset = 2 * np.arange(len(starts))  # marks removed before each answer
    spans = [
        (a, b) for a, b in zip((starts - mark_offset).tolist(), (ends - mark_offset - 1).tolist(), strict=True) if a < b
    ]
    for a, b in spans:
        if (tokens[a:b] >= vocabulary.text).any():
            raise InputError(
                "only text between answer marks",
                "an image or a <break>",
                "Move the end mark before the image or the <break>",
            )
    return Document(tokens, tuple(spans))


def segments(tokens: Int64[np.ndarray, " n"], vocabulary: DocumentVocabulary) -> list[Span]:
    """Return the spans of the non-empty segments (texts and images) of a document."""
    breaks = [0, *np.flatnonzero(tokens == vocabulary.break_token).tolist()]
    return [(a + 1, b) for a, b in pairwise(breaks) if a + 1 < b]


def sample_spans(
    masking: SpanMasking, document: Document, vocabulary: DocumentVocabulary, u: Sequence[float]
) -> list[Span]:
    """Sample the hidden spans of a document, in order, from `masking.numbers` uniform numbers."""
    answers = document.answers
    if u[1] >= (masking.answer_span_prob if answers else masking.span_prob) and (answers or u[0] >= masking.text_prob):
        return list(answers)
    segment_spans = segments(document.tokens, vocabulary)
    if not answers and u[0] < masking.text_prob:
        return [(a, b) for a, b in segment_spans if document.tokens[a] < vocabulary.text]
    spans = list(answers)
    # Resampling overlapping spans equals sampling pairs of ends within the gaps between spans, where each gap has the
    # weight of its fraction of pairs in the segment.
    gaps = [(1 / _pairs(a, b), *gap) for a, b in segment_spans for gap in _gaps(a, b, spans)]
    for i in range(3, 3 + 3 * masking.number(u[2]), 3):
        if not gaps:
            break
        gap_index = _choose([weight * _pairs(a, b) for weight, a, b in gaps], u[i])
        weight, a, b = gaps.pop(gap_index)
        offset, other_offset = int(u[i + 1] * (b - a + 1)), int(u[i + 2] * (b - a))
        start, end = sorted((a + offset, a + other_offset + (other_offset >= offset)))
        spans.append((start, end))
        gaps += [(weight, *gap) for gap in ((a, start), (end, b)) if gap[0] < gap[1]]
    return sorted(spans)


def max_holes(masking: SpanMasking, rows: Int64[Tensor, "b l"], vocabulary: DocumentVocabulary) -> Int64[Tensor, " b"]:
    """Return the maximum number of spans that `sample_spans` can hide in each data row."""
    lengths, answers = (rows < vocabulary.eos).sum(1), (rows == vocabulary.answer_start).sum(1)
    texts = (vocabulary.is_text(rows[:, :-1]) & (rows[:, 1:] == vocabulary.break_token)).sum(1) * (
        masking.text_prob > 0
    )
    max_spans, max_answer_spans = (
        masking.max_spans * (masking.span_prob > 0),
        masking.max_spans * (masking.answer_span_prob > 0),
    )
    return torch.minimum(torch.where(answers > 0, answers + max_answer_spans, texts.clamp(min=max_spans)), lengths)


def _pairs(a: int, b: int) -> float:
    """Return the number of non-empty spans [c, d) with a <= c < d <= b."""
    return (b - a) * (b - a + 1) / 2


def _gaps(a: int, b: int, spans: Sequence[Span]) -> list[Span]:
    """Return the parts of [a, b) between the given spans, which are in order; spans outside of [a, b) are ignored."""
    inner_bounds = [bound for span in spans if a <= span[0] and span[1] <= b for bound in span]
    bounds = [a, *inner_bounds, b]
    return [(c, d) for c, d in zip(bounds[::2], bounds[1::2], strict=True) if c < d]


def _choose(weights: Sequence[float], u: float) -> int:
    """Return a random index with probability proportional to its weight, selected by the uniform number u."""
    target = u * math.fsum(weights)
    for index, weight in enumerate(weights[:-1]):
        if target < weight:
            return index
        target -= weight
    return len(weights) - 1


def mask_spans(
    tokens: Int64[np.ndarray, " n"], spans: Sequence[Span], vocabulary: DocumentVocabulary
) -> MaskedDocument:
    """Replace spans of a document by holes, and append their fills.

    Raises:
        UsageError: If a span is empty, overlaps another span, or contains anything but text or codes.
    """
    pieces, fills, position = [], [], 0
    mask, infill = np.array([vocabulary.mask]), np.array([vocabulary.infill])
    for a, b in sorted(spans):
        if not position <= a < b <= len(tokens) or (tokens[a:b] >= vocabulary.eos).any():
            raise UsageError("non-overlapping spans inside segments", f"{a} to {b} in {sorted(spans)}")
        pieces += [tokens[position:a], mask]
        fills += [infill, tokens[a:b]]
        position = b
    masked = np.concatenate([*pieces, tokens[position:], *fills])
    return MaskedDocument(masked, ((masked != vocabulary.mask) & (masked != vocabulary.infill)).astype(np.float32))


def restore_spans(tokens: Int64[np.ndarray, " n"], vocabulary: DocumentVocabulary) -> Int64[np.ndarray, " m"]:
    """Move the fills of a document back into its holes, and drop a final `<eos>` and padding (inverse of `mask_spans`).

    Raises:
        InputError: If the numbers of fills and holes differ.
    """
    end_positions = np.flatnonzero((tokens[1:] == vocabulary.eos) | (tokens[1:] == vocabulary.pad))
    tokens = tokens[: end_positions[0] + 1] if len(end_positions) else tokens
    body, *fills = np.split(tokens, np.flatnonzero(tokens == vocabulary.infill))
    head, *tails = np.split(body, np.flatnonzero(body == vocabulary.mask))
    if len(tails) != len(fills):
        raise InputError(f"one fill for each of {len(tails)} holes", len(fills), "Generate the document again")
    pieces = [piece[1:] for pair in zip(fills, tails, strict=True) for piece in pair]
    return np.concatenate([head, *pieces])
