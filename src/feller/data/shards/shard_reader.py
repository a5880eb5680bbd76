"""Random access by index to the examples in shards, and a survey of all texts in one pass."""

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
    """Metadata of all examples in shards, which are known before the examples are read."""

    count: int
    """Number of examples."""
    fingerprint: str
    """Hash of all shards together."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Hash of each shard, by the file name of the shard."""
    labels: np.ndarray | None = None
    """Class id of each example, [n]."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_labels(self, raw: RawExamples, numbers: np.ndarray) -> RawExamples:
        """Add class labels to raw examples, given the index of each example."""
        if self.labels is None:
            return raw
        return replace(raw, labels=self.labels[numbers].astype(np.int64), classes=self.classes)

    def subset(self, indices: np.ndarray, *notes: str) -> "ShardIndexInfo":
        """Return the metadata of the examples with these indices, with the further notes `notes`."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, count=len(indices), labels=labels, notes=(*self.notes, *notes))


@dataclass(frozen=True, eq=False)
class ShardReader(abc.ABC):
    """Base class of readers with random access to examples by index; each shard format and data type has a subclass."""

    info: ShardIndexInfo

    sample_size: ClassVar[int]
    """Size of the in-memory sample, and maximum number of held-out examples."""

    def __len__(self) -> int:
        return self.info.count

    @property
    def chunks(self) -> ReadChunks | None:
        """Chunks in which files are read; None if single examples can be read efficiently."""
        return None

    @abc.abstractmethod
    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        """Read the examples with these indices, in this order; InputError if a shard is damaged or has changed."""

    def read_sample(self, numbers: np.ndarray) -> RawExamples:
        """Read the examples with these indices as the in-memory sample, to which the modality is fitted."""
        return self.read_raw(numbers)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        """Return the indices of examples that a modality fitted to the in-memory sample cannot encode.

        These examples are added to the sample.
        """
        return np.empty(0, dtype=np.int64)

    def with_sample(self, raw: RawExamples, modality: Modality) -> "ShardReader":
        """Return a reader with settings taken from the sample, such as the image size; default: return self."""
        return self


TEXT_BATCH = 4096
"""Number of texts that the survey processes at a time."""


@dataclass(frozen=True, eq=False)
class Survey:
    """Summary of all texts in shards, in which nonempty texts are numbered from 0."""

    nonempty: np.ndarray
    """Index among all texts of each nonempty text, [n]."""
    num_empty: int
    """Number of empty texts."""
    longest: np.ndarray
    """Indices of two texts, the longest in characters and the longest in bytes, [2]."""
    first_with: dict[str, int]
    """For each character, the index of the first text that contains it."""

    @property
    def first_empty(self) -> int:
        """Index among all texts of the first empty text."""
        mismatches = np.flatnonzero(self.nonempty != np.arange(len(self.nonempty)))
        return int(mismatches[0]) if len(mismatches) else len(self.nonempty)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        """Return the indices of the longest texts, and of texts with characters that the modality cannot encode."""
        text = modality.view(Text)
        if text is None or not isinstance(text.vocabulary, Characters):
            return self.longest
        characters = {*text.vocabulary.symbols}
        unknown = {index for character, index in self.first_with.items() if character not in characters}
        return np.append(self.longest, np.array(sorted(unknown), dtype=np.int64))


def survey(chunks: Iterable[Sequence[str]]) -> Survey:
    """Summarise all texts in one pass over batches of texts."""
    nonempty: list[np.ndarray] = []
    first_with: dict[str, int] = {}
    longest, max_sizes = [0, 0], [-1, -1]
    num_read = num_nonempty = 0
    for chunk in chunks:
        positions = np.array([i for i, text in enumerate(chunk) if text.strip()], dtype=np.int64)
        texts = [chunk[i] for i in positions]
        unseen = set("".join(texts)) - first_with.keys()
        for index, text in enumerate(texts, num_nonempty):
            for k, size in enumerate((len(text), len(text.encode("utf-8", "surrogatepass")))):
                if size > max_sizes[k]:
                    longest[k], max_sizes[k] = index, size
            if unseen and (added := unseen & set(text)):
                first_with.update(dict.fromkeys(added, index))
                unseen -= added
        nonempty.append(positions + num_read)
        num_read, num_nonempty = num_read + len(chunk), num_nonempty + len(texts)
    indices = np.concatenate(nonempty) if nonempty else np.empty(0, dtype=np.int64)
    return Survey(indices, num_read - num_nonempty, np.array(longest, dtype=np.int64), first_with)
