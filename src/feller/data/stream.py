"""Streamed datasets, whose examples are read from files by index when they are needed."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from feller.core.pytree import Cond, State


@dataclass(frozen=True, eq=False)
class ReadChunks:
    """Chunks in which files are read, such as row groups; a shuffled order should visit a few chunks at a time."""

    chunk_ids: Int[Tensor, " n"]
    """Id of the chunk of each example, [n]."""
    chunks_in_memory: int
    """Number of chunks that are cached in memory."""


@runtime_checkable
class Stream(Protocol):
    """Protocol of a streamed dataset, with random access to examples by index."""

    @property
    def modality(self) -> Any:
        """Modality of the values that `take` returns."""

    @property
    def given(self) -> Cond:
        """Conditions of all examples by name, [n] each; they are known before the examples are read."""

    @property
    def fingerprint(self) -> str:
        """Hash of all files of the stream together."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hash of each file, by file name; empty if file names repeat or there are too many files."""

    @property
    def chunks(self) -> ReadChunks | None:
        """Chunks in which files are read; None if single examples can be read efficiently."""

    @property
    def sample_index(self) -> Int[Tensor, " k"]:
        """Indices of the examples in the in-memory sample, in the order of the sample."""

    @property
    def max_held_out(self) -> int:
        """Maximum number of held-out examples; the held-out examples are stored in memory."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        """Read the examples with these indices, in this order; return (values, conditions).

        Raises:
            InputError: If a file is damaged or has changed.
        """


@dataclass(frozen=True, eq=False)
class StreamSubset:
    """Subset of a stream; the examples of the subset are indexed from 0."""

    parent: Stream
    numbers: Int[Tensor, " n"]
    """Index in the parent stream of each example, ascending."""
    given: Cond
    chunks: ReadChunks | None
    sample_index: Int[Tensor, " k"]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def modality(self) -> Any:
        return self.parent.modality

    @property
    def fingerprint(self) -> str:
        return self.parent.fingerprint

    @property
    def fingerprints(self) -> dict[str, str]:
        return self.parent.fingerprints

    @property
    def max_held_out(self) -> int:
        return self.parent.max_held_out

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        return self.parent.take(self.numbers[numbers])


def stream_subset(whole: Stream, mask: Tensor) -> StreamSubset:
    """Return the examples of a stream (and of its in-memory sample) for which `mask` [n] is True."""
    index, new_index = mask.nonzero()[:, 0], torch.where(mask, mask.cumsum(0) - 1, -1)
    sample_index, chunks = new_index[whole.sample_index], whole.chunks
    return StreamSubset(
        whole,
        index,
        {name: labels[index] for name, labels in whole.given.items()},
        None if chunks is None else ReadChunks(chunks.chunk_ids[index], chunks.chunks_in_memory),
        sample_index[sample_index >= 0],
    )
