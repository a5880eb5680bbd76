"""What a kind of data must say so that copies are found: how far examples are apart, and which are the same."""

import abc
from typing import ClassVar

from jaxtyping import Bool, Float64
from torch import Tensor

from feller.data.modality import Dataset


class Apart(abc.ABC):
    """Distances that order, turns and shifts that mean nothing do not change. Implement two methods to add a kind."""

    most: ClassVar[int] = 2_000
    """Examples of each set that are set beside each other."""
    asked: ClassVar[int] = 2_000
    """Examples that are looked for in the whole training data."""
    among: ClassVar[int] = 20_000
    """Training examples among which the nearest is looked for."""

    @abc.abstractmethod
    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Return the distances of all pairs, from 0 up, in units of the kind's own."""

    @abc.abstractmethod
    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Tell which of some examples are the same as one of the training data.

        Args:
            some: That are looked for.
            train: Where they are looked for.
            usual: How far unseen examples usually are from the nearest training example; None where nobody knows.
        """
