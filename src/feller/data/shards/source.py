"""What shards give by number, before it has a meaning."""

import abc
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from feller.data.loading.raw import Found
from feller.data.modality import Modality
from feller.data.stream import Pieces


@dataclass(frozen=True, eq=False)
class About:
    """What is known of all examples without reading them."""

    count: int
    """How many there are."""
    print: str
    """Hash of what the shards are."""
    prints: dict[str, str] = field(default_factory=dict)
    """That of each, by its name."""
    labels: np.ndarray | None = None
    """Number of the class of each example, [n]."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def labelled(self, found: Found, numbers: np.ndarray) -> Found:
        """Add the classes of examples."""
        if self.labels is None:
            return found
        return replace(found, labels=self.labels[numbers].astype(np.int64), classes=self.classes)

    def some(self, kept: np.ndarray, *notes: str) -> "About":
        """Return the same of the examples with these numbers alone."""
        labels = None if self.labels is None else self.labels[kept]
        return replace(self, count=len(kept), labels=labels, notes=(*self.notes, *notes))


@dataclass(frozen=True, eq=False)
class Source(abc.ABC):
    """Examples by their numbers; one for each form of shards and each kind of data."""

    about: About

    sample: ClassVar[int]
    """Examples that memory holds, to find out what all are like, and as many at most are kept back."""

    def __len__(self) -> int:
        return self.about.count

    @property
    def pieces(self) -> Pieces | None:
        """What is read together; None where single examples can be read."""
        return None

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
