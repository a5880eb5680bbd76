"""Pictures and texts in tar shards."""

import functools
import re
from dataclasses import dataclass, replace

import numpy as np

from feller.data.asked import Asked
from feller.data.found import Found, FoundPictures, FoundTexts, as_objects
from feller.data.images.modality import Images
from feller.data.images.pictures import Packed, read_alike, read_pictures
from feller.data.images.sizes import Size
from feller.data.modality import Modality
from feller.data.shards.index import Index
from feller.data.shards.source import Source, labelled
from feller.data.shards.strangers import strangers
from feller.data.text.modality import Text
from feller.data.text.vocabulary import Characters
from feller.errors import InputError

SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class _Members(Source):
    """What all kinds of members share."""

    index: Index

    sample = SAMPLE
    pieces = None

    def __len__(self) -> int:
        return len(self.index.shard)

    @property
    def labels(self) -> np.ndarray | None:  # pyrefly: ignore
        """Those of the index."""
        return self.index.labels

    @property
    def classes(self) -> tuple[str, ...]:  # pyrefly: ignore
        """Those of the index."""
        return self.index.classes

    @property
    def print(self) -> str:  # pyrefly: ignore
        """That of the index."""
        return self.index.print

    @property
    def notes(self) -> tuple[str, ...]:  # pyrefly: ignore
        """Those of the index."""
        return self.index.notes


@dataclass(frozen=True, eq=False)
class Pictures(_Members):
    """Pictures, brought to one size and mode, which the sample decides."""

    asked: Asked
    to: Size = (0, 0)
    """Width and height."""
    mode: str = ""

    def _packed(self, numbers: np.ndarray) -> list[Packed]:
        content = self.index.read(numbers)
        names = [functools.partial(self.index.name, number) for number in numbers.tolist()]
        return [Packed(one, name) for one, name in zip(content, names, strict=True)]

    def found(self, numbers: np.ndarray) -> Found:
        """Decode them."""
        values = read_alike(self._packed(numbers), self.to, self.mode)
        return labelled(FoundPictures(values, levels=255), self, numbers)

    def sampled(self, numbers: np.ndarray) -> Found:
        """Decode them as a folder of them would be."""
        values, notes = read_pictures(self._packed(numbers), self.asked.size, self.asked.limit)
        return labelled(FoundPictures(values, levels=255, notes=notes), self, numbers)

    def settled(self, found: Found, modality: Modality) -> "Source":
        """Keep the size and the mode of the sample."""
        _, height, width, channels = found.values.shape
        colour = channels == 3 or (isinstance(modality, Images) and modality.channels == 3)
        return replace(self, to=(width, height), mode="RGB" if colour else "L")


@dataclass(frozen=True, eq=False)
class Texts(_Members):
    """Texts in UTF-8, each an example."""

    def found(self, numbers: np.ndarray) -> Found:
        """Decode them."""
        texts = [self._text(n, content) for n, content in zip(numbers.tolist(), self.index.read(numbers), strict=True)]
        return labelled(FoundTexts(as_objects(texts), documents=True, lines=numbers + 1), self, numbers)

    def _text(self, number: int, content: bytes) -> str:
        try:
            return re.sub("\r\n?", "\n", content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise InputError(f"{self.index.name(number)}: expected text in UTF-8 ({error.reason})") from error

    def lacking(self, modality: Modality) -> np.ndarray:
        """Return the longest, and those with characters that are not known."""
        longest = np.array([int(self.index.size.argmax())])
        if not isinstance(modality, Text) or not isinstance(modality.vocabulary, Characters):
            return longest
        return np.append(longest, strangers(self, modality.vocabulary.symbols))
