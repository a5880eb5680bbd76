"""Examples of shards by number, and one pass over all texts."""

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from feller.data.loading.raw import RawExamples
from feller.data.modality import Modality
from feller.data.stream import ReadChunks
from feller.data.text.modality import Text
from feller.data.text.vocabulary import Characters


@dataclass(frozen=True, eq=False)
class ShardIndexInfo:
    """What is known of all examples without reading them."""

    count: int
    """How many there are."""
    fingerprint: str
    """Hash of what the shards are."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """That of each, by its name."""
    labels: np.ndarray | None = None
    """Number of the class of each example, [n]."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_labels(self, raw: RawExamples, numbers: np.ndarray) -> RawExamples:
        """Add the classes of examples."""
        if self.labels is None:
            return raw
        return replace(raw, labels=self.labels[numbers].astype(np.int64), classes=self.classes)

    def subset(self, indices: np.ndarray, *notes: str) -> "ShardIndexInfo":
        """Return the same of the examples with these numbers alone."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, count=len(indices), labels=labels, notes=(*self.notes, *notes))


@dataclass(frozen=True, eq=False)
class ShardReader(abc.ABC):
    """Examples by their numbers; one for each form of shards and each kind of data."""

    info: ShardIndexInfo

    sample_size: ClassVar[int]
    """Examples that memory holds, to find out what all are like, and as many at most are kept back."""

    def __len__(self) -> int:
        return self.info.count

    @property
    def chunks(self) -> ReadChunks | None:
        """What is read together; None where single examples can be read."""
        return None

    @abc.abstractmethod
    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        """Read examples, in this order.

        Raises:
            InputError: If a shard is damaged, or is another by now.
        """

    def read_sample(self, numbers: np.ndarray) -> RawExamples:
        """Read those that tell what all are like."""
        return self.read_raw(numbers)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        """Return the numbers of examples that a modality, made of a sample, could not hold; they join the sample."""
        return np.empty(0, dtype=np.int64)

    def with_sample(self, raw: RawExamples, modality: Modality) -> "ShardReader":
        """Return the same, once it is known what all are like."""
        return self


TEXT_BATCH = 4096
"""Texts that are looked at together."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What all texts are like; those that are not empty are numbered anew."""

    nonempty: np.ndarray
    """Old numbers of those that are not empty, [n]."""
    num_empty: int
    """How many are."""
    longest: np.ndarray
    """Numbers of the texts of most characters and of most bytes, [2]."""
    first_with: dict[str, int]
    """Each character -> number of the first text that has it."""

    @property
    def first_empty(self) -> int:
        """Old number of the first empty text."""
        gaps = np.flatnonzero(self.nonempty != np.arange(len(self.nonempty)))
        return int(gaps[0]) if len(gaps) else len(self.nonempty)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        """Return the numbers of the longest, and of texts with characters that are not known."""
        text = modality.view(Text)
        if text is None or not isinstance(text.vocabulary, Characters):
            return self.longest
        known = {*text.vocabulary.symbols}
        strangers = {number for character, number in self.first_with.items() if character not in known}
        return np.append(self.longest, np.array(sorted(strangers), dtype=np.int64))


def survey(chunks: Iterable[Sequence[str]]) -> Survey:
    """Look through texts, some at a time; the first of them are those of the first chunk."""
    nonempty: list[np.ndarray] = []
    first: dict[str, int] = {}
    longest, most = [0, 0], [-1, -1]
    read = count = 0
    for chunk in chunks:
        places = np.array([i for i, text in enumerate(chunk) if text.strip()], dtype=np.int64)
        texts = [chunk[i] for i in places]
        new = set("".join(texts)) - first.keys()
        for number, text in enumerate(texts, count):
            for k, size in enumerate((len(text), len(text.encode("utf-8", "surrogatepass")))):
                if size > most[k]:
                    longest[k], most[k] = number, size
            if new and (strange := new & set(text)):
                first.update(dict.fromkeys(strange, number))
                new -= strange
        nonempty.append(places + read)
        read, count = read + len(chunk), count + len(texts)
    numbers = np.concatenate(nonempty) if nonempty else np.empty(0, dtype=np.int64)
    return Survey(numbers, read - count, np.array(longest, dtype=np.int64), first)
