"""What shards give by number, before it has a meaning."""

import abc
from dataclasses import replace

import numpy as np

from feller.data.found import Found
from feller.data.modality import Modality
from feller.data.stream import Pieces


class Source(abc.ABC):
    """Examples by their numbers; one for each form of shards and each kind of data."""

    labels: np.ndarray | None
    """Number of the class of each example, [n]."""
    classes: tuple[str, ...]
    print: str
    """Hash of what the shards are."""
    notes: tuple[str, ...]
    sample: int
    """Examples that memory holds, to find out what all are like, and as many at most are kept back."""
    pieces: Pieces | None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return how many there are."""

    @abc.abstractmethod
    def found(self, numbers: np.ndarray) -> Found:
        """Read examples, in this order.

        Raises:
            InputError: If a shard is damaged, or is another by now.
        """

    def sampled(self, numbers: np.ndarray) -> Found:
        """Read those that tell what all are like."""
        return self.found(numbers)

    def lacking(self, modality: Modality) -> np.ndarray:
        """Return the numbers of examples that a modality, made of a sample, could not hold; they join the sample."""
        return np.empty(0, dtype=np.int64)

    def settled(self, found: Found, modality: Modality) -> "Source":
        """Return the same, once it is known what all are like."""
        return self


def labelled(found: Found, source: Source, numbers: np.ndarray) -> Found:
    """Add the classes of examples."""
    if source.labels is None:
        return found
    return replace(found, labels=source.labels[numbers].astype(np.int64), classes=source.classes)
