"""Hidden spans of documents: what is hidden moves behind the document, so that it is written with all around it known.

A hole is one `<mask>`; behind the last segment there stands, for each hole in its order, `<infill>` and what was there.
No hole reaches over a `<break>`: a picture begins and ends where it should. Sources: Aghajanyan et al. 2022, "CM3: A
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
"""First place of what is hidden, and the first behind it."""


@dataclass(frozen=True)
class SpanMasking:
    """By what chance parts of a document are hidden.

    What the data mark as answers is hidden always. Spans are few and long: their number is Poisson, from 1 to
    `max_spans`; each lies in one segment, which is drawn first, uniformly, then both its ends inside, uniformly; one
    that meets another is drawn anew. So text is hidden as often as pictures, however long these are.
    """

    span_prob: float = 1.0
    """Chance that spans are hidden in a document whose texts are not hidden as wholes."""
    text_prob: float = 0.15
    """Chance that each text of a document is hidden as a whole: guidance rests on it, and drawing without a text."""
    answer_span_prob: float = 0.0
    """Chance that spans are hidden beside the answers of a document that has any; it has no other holes."""
    mean: float = 1.0
    """Of the Poisson law."""
    max_spans: int = 16
    """Spans of a document; a short one may have no room for as many."""

    def __post_init__(self) -> None:
        for name, prob in (
            ("span_prob", self.span_prob),
            ("text_prob", self.text_prob),
            ("answer_span_prob", self.answer_span_prob),
        ):
            if not 0 <= prob <= 1:
                raise UsageError(f"{name} is a chance, expected 0 to 1", found=f"{prob:g}")
        if not (0 <= self.mean <= 64 and self.max_spans >= 1):
            raise UsageError("a mean from 0 to 64 and at least 1 span", f"{self.mean:g} and {self.max_spans}")

    @property
    def numbers(self) -> int:
        """How many uniform numbers decide about a document."""
        return 3 + 3 * self.max_spans

    def number(self, u: float) -> int:
        """Return the number of spans from a uniform number: Poisson, brought between 1 and the most."""
        n, below, term = 0, 0.0, math.exp(-self.mean)
        while n < self.max_spans and u >= (below := below + term):
            n += 1
            term *= self.mean / n
        return max(1, n)


@dataclass(frozen=True, eq=False)
class Document:
    """A document without padding and marks."""

    tokens: Int64[np.ndarray, " n"]
    """`<eos>`, then segments, each with its `<break>`."""
    answers: tuple[Span, ...]
    """Where that stands which the data marked as answers, in order."""


@dataclass(frozen=True, eq=False)
class MaskedDocument:
    """A document some of which is hidden."""

    tokens: Int64[np.ndarray, " n"]
    """The document with its holes, then what fills them."""
    weight: Float32[np.ndarray, " n"]
    """Of each token, where it is to be predicted: 0 for `<mask>` and `<infill>`, whose places are chance, else 1."""


def read_document(row: Int64[np.ndarray, " l"], vocabulary: DocumentVocabulary) -> Document:
    """Return the document of a row of data: padding and marks of answers are gone.

    Raises:
        InputError: If an answer has a beginning and no end, or holds more than a part of one text.
    """
    row = row[row != vocabulary.pad]
    begin, end = np.flatnonzero(row == vocabulary.answer_start), np.flatnonzero(row == vocabulary.answer_end)
    if not len(begin) and not len(end):
        return Document(row, ())
    if len(begin) != len(end) or (begin > end).any() or (begin[1:] < end[:-1]).any():
        raise InputError("an end behind the beginning of each answer", f"{len(begin)} and {len(end)}")
    tokens = row[(row != vocabulary.answer_start) & (row != vocabulary.answer_end)]
    mark_offset = 2 * np.arange(len(begin))  # marks that stand before each answer, and are gone
    spans = [
        (a, b) for a, b in zip((begin - mark_offset).tolist(), (end - mark_offset - 1).tolist(), strict=True) if a < b
    ]
    for a, b in spans:
        if (tokens[a:b] >= vocabulary.text).any():
            raise InputError("text between the marks of an answer", "a picture or a <break>", "End it before")
    return Document(tokens, tuple(spans))


def segments(tokens: Int64[np.ndarray, " n"], vocabulary: DocumentVocabulary) -> list[Span]:
    """Return where the contents of the segments of a document stand, those that have any."""
    cuts = [0, *np.flatnonzero(tokens == vocabulary.break_token).tolist()]
    return [(a + 1, b) for a, b in pairwise(cuts) if a + 1 < b]


def sample_spans(
    masking: SpanMasking, document: Document, vocabulary: DocumentVocabulary, u: Sequence[float]
) -> list[Span]:
    """Return what is hidden of a document, in order, from as many uniform numbers as the law takes."""
    answers = document.answers
    if u[1] >= (masking.answer_span_prob if answers else masking.span_prob) and (answers or u[0] >= masking.text_prob):
        return list(answers)
    contents = segments(document.tokens, vocabulary)
    if not answers and u[0] < masking.text_prob:
        return [(a, b) for a, b in contents if document.tokens[a] < vocabulary.text]
    spans = list(answers)
    # Drawing anew what meets another is the same as drawing among the pairs of ends that are free: those inside each
    # gap between spans, each weighed by its share in its segment.
    gaps = [(1 / _pairs(a, b), *gap) for a, b in contents for gap in _gaps(a, b, spans)]
    for i in range(3, 3 + 3 * masking.number(u[2]), 3):
        if not gaps:
            break
        gap_index = _choose([weight * _pairs(a, b) for weight, a, b in gaps], u[i])
        weight, a, b = gaps.pop(gap_index)
        one, other = int(u[i + 1] * (b - a + 1)), int(u[i + 2] * (b - a))
        first, last = sorted((a + one, a + other + (other >= one)))
        spans.append((first, last))
        gaps += [(weight, *gap) for gap in ((a, first), (last, b)) if gap[0] < gap[1]]
    return sorted(spans)


def max_holes(masking: SpanMasking, rows: Int64[Tensor, "b l"], vocabulary: DocumentVocabulary) -> Int64[Tensor, " b"]:
    """Return how many spans may be hidden of each of some rows of data, at most: what `sample_spans` can draw."""
    within, answers = (rows < vocabulary.eos).sum(1), (rows == vocabulary.answer_start).sum(1)
    texts = (vocabulary.is_text(rows[:, :-1]) & (rows[:, 1:] == vocabulary.break_token)).sum(1) * (
        masking.text_prob > 0
    )
    spans, max_answer_spans = (
        masking.max_spans * (masking.span_prob > 0),
        masking.max_spans * (masking.answer_span_prob > 0),
    )
    return torch.minimum(torch.where(answers > 0, answers + max_answer_spans, texts.clamp(min=spans)), within)


def _pairs(a: int, b: int) -> float:
    """Return how many pairs of different ends there are from a to b."""
    return (b - a) * (b - a + 1) / 2


def _gaps(a: int, b: int, spans: Sequence[Span]) -> list[Span]:
    """Return what is free from a to b, beside some spans in order."""
    inside = [place for span in spans if a <= span[0] and span[1] <= b for place in span]
    ends = [a, *inside, b]
    return [(c, d) for c, d in zip(ends[::2], ends[1::2], strict=True) if c < d]


def _choose(weights: Sequence[float], u: float) -> int:
    """Return a number by its weight."""
    goal = u * math.fsum(weights)
    for index, weight in enumerate(weights[:-1]):
        if goal < weight:
            return index
        goal -= weight
    return len(weights) - 1


def mask_spans(
    tokens: Int64[np.ndarray, " n"], spans: Sequence[Span], vocabulary: DocumentVocabulary
) -> MaskedDocument:
    """Hide spans of a document.

    Raises:
        UsageError: If a span is empty, meets another, or holds anything but text or codes.
    """
    pieces, fills, place = [], [], 0
    hole, begins = np.array([vocabulary.mask]), np.array([vocabulary.infill])
    for a, b in sorted(spans):
        if not place <= a < b <= len(tokens) or (tokens[a:b] >= vocabulary.eos).any():
            raise UsageError("spans inside segments that do not meet", f"{a} to {b} in {sorted(spans)}")
        pieces += [tokens[place:a], hole]
        fills += [begins, tokens[a:b]]
        place = b
    hidden = np.concatenate([*pieces, tokens[place:], *fills])
    return MaskedDocument(hidden, ((hidden != vocabulary.mask) & (hidden != vocabulary.infill)).astype(np.float32))


def restore_spans(tokens: Int64[np.ndarray, " n"], vocabulary: DocumentVocabulary) -> Int64[np.ndarray, " m"]:
    """Put what fills the holes of a document where it belongs; a last `<eos>` and padding are left out.

    Raises:
        InputError: If there are not as many fills as holes.
    """
    ends = np.flatnonzero((tokens[1:] == vocabulary.eos) | (tokens[1:] == vocabulary.pad))
    tokens = tokens[: ends[0] + 1] if len(ends) else tokens
    whole, *fills = np.split(tokens, np.flatnonzero(tokens == vocabulary.infill))
    first, *rest = np.split(whole, np.flatnonzero(whole == vocabulary.mask))
    if len(rest) != len(fills):
        raise InputError(f"a fill for each of {len(rest)} holes", len(fills), "Draw the document anew")
    parts = [part[1:] for pair in zip(fills, rest, strict=True) for part in pair]
    return np.concatenate([first, *parts])
