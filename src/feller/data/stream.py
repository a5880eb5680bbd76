"""Examples that stay in their files until they are asked for by number."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from feller.core.pytree import Cond, State


@dataclass(frozen=True, eq=False)
class ReadChunks:
    """Parts of files that are read as a whole, so that an order should not jump among all of them."""

    chunk_ids: Int[Tensor, " n"]
    """Number of the piece that each example lies in."""
    chunks_in_memory: int
    """Pieces that memory holds at once."""


@runtime_checkable
class Stream(Protocol):
    """Examples by their numbers; whatever has these is one, so that files of any form can be read."""

    @property
    def modality(self) -> Any:
        """What the values are, before a model sees them in its own way."""

    @property
    def given(self) -> Cond:
        """Conditions of all examples, [n] each, which are known without reading these."""

    @property
    def fingerprint(self) -> str:
        """Hash of what the files are."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hash of each file, by its name; none where names are not enough to tell files apart."""

    @property
    def chunks(self) -> ReadChunks | None:
        """What is read together; None where single examples can be read."""

    @property
    def sample_index(self) -> Int[Tensor, " k"]:
        """Numbers of the examples that memory holds as a sample, in its order."""

    @property
    def max_held_out(self) -> int:
        """Examples that may be kept back, and then are held in memory, too."""

    def __len__(self) -> int:
        """Return how many there are."""

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        """Read examples, in this order: values of the modality, and conditions.

        Raises:
            InputError: If a file is damaged, or is another by now.
        """


@dataclass(frozen=True, eq=False)
class StreamSubset:
    """Some examples of a stream, under new numbers."""

    parent: Stream
    numbers: Int[Tensor, " n"]
    """In the whole, each larger than the one before."""
    given: Cond
    chunks: ReadChunks | None
    sample_index: Int[Tensor, " k"]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def modality(self) -> Any:
        """That of the whole."""
        return self.parent.modality

    @property
    def fingerprint(self) -> str:
        """That of the whole."""
        return self.parent.fingerprint

    @property
    def fingerprints(self) -> dict[str, str]:
        """Those of the whole."""
        return self.parent.fingerprints

    @property
    def max_held_out(self) -> int:
        """That of the whole."""
        return self.parent.max_held_out

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        """Read them from the whole."""
        return self.parent.take(self.numbers[numbers])


def stream_subset(whole: Stream, mask: Tensor) -> StreamSubset:
    """Return the examples of a stream that are marked, [n]; those among them that memory holds stay held."""
    numbers, place = mask.nonzero()[:, 0], torch.where(mask, mask.cumsum(0) - 1, -1)
    sample_index, chunks = place[whole.sample_index], whole.chunks
    return StreamSubset(
        whole,
        numbers,
        {name: labels[numbers] for name, labels in whole.given.items()},
        None if chunks is None else ReadChunks(chunks.chunk_ids[numbers], chunks.chunks_in_memory),
        sample_index[sample_index >= 0],
    )
