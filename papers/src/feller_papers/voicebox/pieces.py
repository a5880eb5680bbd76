"""Pieces of chains that judges listen to: single words, or several with what is between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

MARGIN = 5
"""Frames of the silence beside a word that belong to it, at most; and at most half of them."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Pieces of log mels, padded to one length."""

    x: Float[Tensor, "n l bands"]
    valid: Bool[Tensor, "n l"]

    @classmethod
    def from_list(cls, segments: Sequence[Float[Tensor, "_ bands"]]) -> "Segments":
        """Pad pieces."""
        masks = [torch.ones(len(segment), dtype=torch.bool) for segment in segments]
        return cls(pad_sequence(list(segments), batch_first=True), pad_sequence(masks, batch_first=True))


def word_span(duration: Int[Tensor, " m"], word: Int[Tensor, " m"], first: int, last: int) -> tuple[int, int]:
    """Return where the words from `first` to `last` begin and end, with a little of the silence beside them."""
    ends = duration.cumsum(0)
    inside = ((word >= first) & (word <= last)).nonzero()[:, 0]
    begin, end = int(inside[0]), int(inside[-1])
    before = min(int(duration[begin - 1]) // 2, MARGIN) if begin else 0
    after = min(int(duration[end + 1]) // 2, MARGIN) if end + 1 < len(word) else 0
    return int(ends[begin] - duration[begin]) - before, int(ends[end]) + after


def cut_words(
    x: Float[Tensor, "b n bands"],
    duration: Int[Tensor, "b m"],
    word: Int[Tensor, "b m"],
    word_mask: Bool[Tensor, "b words"],
) -> Segments:
    """Cut out the words that are wanted, row after row; one that lasts no frame becomes one frame of nothing."""
    segments = []
    for row, i in word_mask.nonzero().tolist():
        begin, end = word_span(duration[row], word[row], i, i)
        segments.append(x[row, begin:end] if end > begin else torch.zeros_like(x[row, :1]))
    return Segments.from_list(segments)


def cut_segments(
    x: Float[Tensor, "b n bands"],
    duration: Int[Tensor, "b m"],
    word: Int[Tensor, "b m"],
    first: Sequence[int],
    last: Sequence[int],
) -> Segments:
    """Cut one part out of each row, from one word to another, both included."""
    segments = []
    for row, (first_word, last_word) in enumerate(zip(first, last, strict=True)):
        begin, end = word_span(duration[row], word[row], first_word, last_word)
        segments.append(x[row, begin:end] if end > begin else torch.zeros_like(x[row, :1]))
    return Segments.from_list(segments)


def word_counts(digit: Int64[Tensor, "b words"]) -> list[int]:
    """Return how many words each row has."""
    return (digit >= 0).sum(1).tolist()
