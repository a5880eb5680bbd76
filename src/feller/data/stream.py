"""Examples that stay in their files until they are asked for by number."""

import abc
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from feller.tree import Given, State


@dataclass(frozen=True, eq=False)
class Pieces:
    """Parts of files that are read as a whole, so that an order should not jump among all of them."""

    of: Int[Tensor, " n"]
    """Number of the piece that each example lies in."""
    together: int
    """Pieces that memory holds at once."""


class Stream(abc.ABC):
    """Examples by their numbers; implement `take` and the length to read another form of files."""

    modality: Any
    """What the values are, before a model sees them in its own way."""
    given: Given
    """Conditions of all examples, [n] each, which are known without reading these."""
    print: str
    """Hash of what the files are."""
    pieces: Pieces | None
    """What is read together; None where single examples can be read."""
    held: Int[Tensor, " k"]
    """Numbers of the examples that memory holds as a sample, in its order."""
    most: int
    """Examples that may be kept back, and then are held in memory, too."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return how many there are."""

    @abc.abstractmethod
    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Given]:
        """Read examples, in this order: values of the modality, and conditions.

        Raises:
            InputError: If a file is damaged, or is another by now.
        """


@dataclass(frozen=True, eq=False)
class Part(Stream):
    """Some examples of a stream, under new numbers."""

    whole: Stream
    numbers: Int[Tensor, " n"]
    """In the whole, each larger than the one before."""
    held: Int[Tensor, " k"]  # pyrefly: ignore

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def modality(self) -> Any:  # pyrefly: ignore
        """That of the whole."""
        return self.whole.modality

    @property
    def given(self) -> Given:  # pyrefly: ignore
        """Those of its examples."""
        return {name: known[self.numbers] for name, known in self.whole.given.items()}

    @property
    def print(self) -> str:  # pyrefly: ignore
        """That of the whole."""
        return self.whole.print

    @property
    def pieces(self) -> Pieces | None:  # pyrefly: ignore
        """Those of the whole."""
        whole = self.whole.pieces
        return None if whole is None else Pieces(whole.of[self.numbers], whole.together)

    @property
    def most(self) -> int:  # pyrefly: ignore
        """That of the whole."""
        return self.whole.most

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Given]:
        """Read them from the whole."""
        return self.whole.take(self.numbers[numbers])


def part(whole: Stream, kept: Tensor) -> Part:
    """Return the examples of a stream that are marked, [n]; those among them that memory holds stay held."""
    place = torch.where(kept, kept.cumsum(0) - 1, -1)
    held = place[whole.held]
    return Part(whole, kept.nonzero()[:, 0], held[held >= 0])
