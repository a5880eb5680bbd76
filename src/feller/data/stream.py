"""Examples that stay in their files until they are asked for by number."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from feller.core.pytree import Cond, State


@dataclass(frozen=True, eq=False)
class Pieces:
    """Parts of files that are read as a whole, so that an order should not jump among all of them."""

    of: Int[Tensor, " n"]
    """Number of the piece that each example lies in."""
    together: int
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
    def print(self) -> str:
        """Hash of what the files are."""

    @property
    def prints(self) -> dict[str, str]:
        """Hash of each file, by its name; none where names are not enough to tell files apart."""

    @property
    def pieces(self) -> Pieces | None:
        """What is read together; None where single examples can be read."""

    @property
    def held(self) -> Int[Tensor, " k"]:
        """Numbers of the examples that memory holds as a sample, in its order."""

    @property
    def most(self) -> int:
        """Examples that may be kept back, and then are held in memory, too."""

    def __len__(self) -> int:
        """Return how many there are."""

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        """Read examples, in this order: values of the modality, and conditions.

        Raises:
            InputError: If a file is damaged, or is another by now.
        """


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples of a stream, under new numbers."""

    whole: Stream
    numbers: Int[Tensor, " n"]
    """In the whole, each larger than the one before."""
    given: Cond
    pieces: Pieces | None
    held: Int[Tensor, " k"]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def modality(self) -> Any:
        """That of the whole."""
        return self.whole.modality

    @property
    def print(self) -> str:
        """That of the whole."""
        return self.whole.print

    @property
    def prints(self) -> dict[str, str]:
        """Those of the whole."""
        return self.whole.prints

    @property
    def most(self) -> int:
        """That of the whole."""
        return self.whole.most

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        """Read them from the whole."""
        return self.whole.take(self.numbers[numbers])


def part(whole: Stream, kept: Tensor) -> Part:
    """Return the examples of a stream that are marked, [n]; those among them that memory holds stay held."""
    numbers, place = kept.nonzero()[:, 0], torch.where(kept, kept.cumsum(0) - 1, -1)
    held, pieces = place[whole.held], whole.pieces
    return Part(
        whole,
        numbers,
        {name: known[numbers] for name, known in whole.given.items()},
        None if pieces is None else Pieces(pieces.of[numbers], pieces.together),
        held[held >= 0],
    )
