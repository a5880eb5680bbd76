"""Pictures and texts in tar shards."""

import functools
import re
from dataclasses import dataclass, replace

import numpy as np

from feller.core.errors import InputError
from feller.data.images.load_images import Packed, read_alike, read_pictures
from feller.data.images.modality import Images
from feller.data.images.resize import Size
from feller.data.loading.raw import Found, FoundPictures, FoundTexts, as_objects
from feller.data.loading.read_options import Asked
from feller.data.modality import Modality
from feller.data.shards.source import About, Source
from feller.data.shards.survey import TOGETHER, Survey, survey
from feller.data.shards.tar_index import Index

SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class Pictures(Source):
    """Pictures, brought to one size and mode, which the sample decides."""

    index: Index
    asked: Asked
    to: Size = (0, 0)
    """Width and height."""
    mode: str = ""

    sample = SAMPLE

    def _packed(self, numbers: np.ndarray) -> list[Packed]:
        content = self.index.read(numbers)
        names = [functools.partial(self.index.name, number) for number in numbers.tolist()]
        return [Packed(one, name) for one, name in zip(content, names, strict=True)]

    def found(self, numbers: np.ndarray) -> Found:
        """Decode them."""
        values = read_alike(self._packed(numbers), self.to, self.mode)
        return self.about.labelled(FoundPictures(values, levels=255), numbers)

    def sampled(self, numbers: np.ndarray) -> Found:
        """Decode them as a folder of them would be."""
        values, notes = read_pictures(self._packed(numbers), self.asked.size, self.asked.limit)
        return self.about.labelled(FoundPictures(values, levels=255, notes=notes), numbers)

    def settled(self, found: Found, modality: Modality) -> "Source":
        """Keep the size and the mode of the sample."""
        _, height, width, channels = found.values.shape
        colour = channels == 3 or (isinstance(modality, Images) and modality.channels == 3)
        return replace(self, to=(width, height), mode="RGB" if colour else "L")


@dataclass(frozen=True, eq=False)
class Texts(Source):
    """Texts in UTF-8, each an example."""

    index: Index
    survey: Survey

    sample = SAMPLE

    def found(self, numbers: np.ndarray) -> Found:
        """Decode them."""
        members = self.survey.kept[numbers]
        found = FoundTexts(as_objects(_texts(self.index, members)), documents=True, lines=members + 1)
        return self.about.labelled(found, numbers)

    def lacking(self, modality: Modality) -> np.ndarray:
        """Return the longest, and those with characters that are not known."""
        return self.survey.lacking(modality)


def pictures_of(index: Index, asked: Asked) -> Source:
    """Return the pictures of an index."""
    return Pictures(_about(index), index, asked)


def texts_of(index: Index) -> Source:
    """Return the texts of an index that are not empty.

    Raises:
        InputError: If one is not in UTF-8, or all are empty.
    """
    found = _surveyed(index)
    about = _about(index)
    if not found.empty:
        return Texts(about, index, found)
    where = index.name(found.first_empty)
    if not len(found.kept):
        raise InputError(f"{where}: expected texts, all of them are empty")
    told = f"left out {found.empty:,} empty texts, the first is {where}"
    return Texts(about.some(found.kept, told), index, found)


def _about(index: Index) -> About:
    return About(len(index.shard), index.print, index.prints, index.labels, index.classes, index.notes)


@functools.lru_cache(maxsize=2)
def _surveyed(index: Index) -> Survey:
    """Look through all texts; once for the same ones."""
    n = len(index.shard)
    return survey(_texts(index, np.arange(i, min(i + TOGETHER, n))) for i in range(0, n, TOGETHER))


def _texts(index: Index, numbers: np.ndarray) -> list[str]:
    return [_text(index, n, content) for n, content in zip(numbers.tolist(), index.read(numbers), strict=True)]


def _text(index: Index, number: int, content: bytes) -> str:
    try:
        return re.sub("\r\n?", "\n", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{index.name(number)}: expected text in UTF-8 ({error.reason})") from error
