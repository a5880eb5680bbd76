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
class Pieces:
    """Pieces of log mels, padded to one length."""

    x: Float[Tensor, "n l bands"]
    valid: Bool[Tensor, "n l"]

    @classmethod
    def of(cls, some: Sequence[Float[Tensor, "_ bands"]]) -> "Pieces":
        """Pad pieces."""
        marks = [torch.ones(len(piece), dtype=torch.bool) for piece in some]
        return cls(pad_sequence(list(some), batch_first=True), pad_sequence(marks, batch_first=True))


def span(duration: Int[Tensor, " m"], word: Int[Tensor, " m"], first: int, last: int) -> tuple[int, int]:
    """Return where the words from `first` to `last` begin and end, with a little of the silence beside them."""
    ends = duration.cumsum(0)
    own = ((word >= first) & (word <= last)).nonzero()[:, 0]
    begin, end = int(own[0]), int(own[-1])
    before = min(int(duration[begin - 1]) // 2, MARGIN) if begin else 0
    after = min(int(duration[end + 1]) // 2, MARGIN) if end + 1 < len(word) else 0
    return int(ends[begin] - duration[begin]) - before, int(ends[end]) + after


def words_in(
    x: Float[Tensor, "b n bands"],
    duration: Int[Tensor, "b m"],
    word: Int[Tensor, "b m"],
    wanted: Bool[Tensor, "b words"],
) -> Pieces:
    """Cut out the words that are wanted, row after row; one that lasts no frame becomes one frame of nothing."""
    found = []
    for row, i in wanted.nonzero().tolist():
        begin, end = span(duration[row], word[row], i, i)
        found.append(x[row, begin:end] if end > begin else torch.zeros_like(x[row, :1]))
    return Pieces.of(found)


def parts_in(
    x: Float[Tensor, "b n bands"],
    duration: Int[Tensor, "b m"],
    word: Int[Tensor, "b m"],
    first: Sequence[int],
    last: Sequence[int],
) -> Pieces:
    """Cut one part out of each row, from one word to another, both included."""
    found = []
    for row, (one, other) in enumerate(zip(first, last, strict=True)):
        begin, end = span(duration[row], word[row], one, other)
        found.append(x[row, begin:end] if end > begin else torch.zeros_like(x[row, :1]))
    return Pieces.of(found)


def counts(digit: Int64[Tensor, "b words"]) -> list[int]:
    """Return how many words each row has."""
    return (digit >= 0).sum(1).tolist()
