"""Choices of one example, so that each can be drawn again alone."""

from collections.abc import Sequence
from typing import TypeVar

from feller.core.rng import Draws

T = TypeVar("T")
MOST = 48
"""Choices that an example may ask for."""


class Picks:
    """Choices of one example and purpose: each takes the next of its uniform numbers."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = iter(numbers)

    def share(self) -> float:
        """Return a number from [0, 1)."""
        return next(self._numbers)

    def below(self, high: int) -> int:
        """Return a whole number from 0 to high - 1."""
        return int(self.share() * high)

    def one(self, options: Sequence[T]) -> T:
        """Return one of the options, each as likely as any other."""
        return options[self.below(len(options))]


def picks(n: int, purpose: str, draws: Draws) -> list[Picks]:
    """Return the choices of n examples; those of an example depend on its number and the purpose alone."""
    return [Picks(row) for row in draws.at(purpose).uniform((n, MOST)).double().tolist()]
