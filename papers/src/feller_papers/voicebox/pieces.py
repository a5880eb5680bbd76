"""Segments of chains for the judges: single words, or several contiguous words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

MARGIN = 5
"""Largest number of frames of adjacent silence in a word; at most half of the silence."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of log mels, padded to one length."""

    x: Float[Tensor, "n l bands"]
    valid: Bool[Tensor, "n l"]

    @classmethod
    def from_list(cls, segments: Sequence[Float[Tensor, "_ bands"]]) -> "Segments":
        """Return padded segments."""
        masks = [torch.ones(len(segment), dtype=torch.bool) for segment in segments]
        return cls(pad_sequence(list(segments), batch_first=True), pad_sequence(masks, batch_first=True))


def word_span(duration: Int[Tensor, " m"], word: Int[Tensor, " m"], first: int, last: int) -> tuple[int, int]:
    """Return the first and the end frame of the words `first` to `last`, with a margin of silence."""
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
    """Return the words of `word_mask`, row by row; a word of no frames becomes one zero frame."""
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
    """Return one segment per row, from word `first` to word `last`, both included."""
    segments = []
    for row, (first_word, last_word) in enumerate(zip(first, last, strict=True)):
        begin, end = word_span(duration[row], word[row], first_word, last_word)
        segments.append(x[row, begin:end] if end > begin else torch.zeros_like(x[row, :1]))
    return Segments.from_list(segments)


def word_counts(digit: Int64[Tensor, "b words"]) -> list[int]:
    """Return the number of words of each row."""
    return (digit >= 0).sum(1).tolist()
