"""Index of all examples of tar shards, and their images and texts."""

import functools
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from feller.core.errors import InputError
from feller.data.images.load_images import Packed, read_alike, read_pictures
from feller.data.images.modality import Images
from feller.data.images.resize import Size
from feller.data.labels import classify
from feller.data.loading.raw import Found, FoundPictures, FoundTexts, as_objects
from feller.data.loading.read_options import Asked
from feller.data.modality import Modality
from feller.data.shards.shard_names import Prints, Shard, check_same
from feller.data.shards.source import TOGETHER, About, Source, Survey, survey
from feller.data.shards.tar import look, name_at


@dataclass(frozen=True, eq=False)
class Index:
    """Examples in the order of the shards."""

    shards: tuple[Shard, ...]
    kind: type[Found]
    shard: np.ndarray
    """Number of the shard, int32 [n]."""
    offset: np.ndarray
    """First byte, int64 [n]."""
    size: np.ndarray
    """Bytes, int32 [n]."""
    labels: np.ndarray | None
    """Number of the class, [n]."""
    classes: tuple[str, ...]
    print: str
    prints: dict[str, str]
    """That of each shard, by its name."""
    notes: tuple[str, ...]

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the content of examples, in this order; the disk is asked in its own order.

        Raises:
            InputError: If a shard was written to since it was looked at, or cannot be read.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        content: list[bytes] = [b""] * len(numbers)
        which, order = self.shard[numbers], np.lexsort((self.offset[numbers], self.shard[numbers]))
        edges = np.flatnonzero(np.diff(which[order])) + 1
        for places in np.split(order, edges) if len(order) else ():
            shard = self.shards[which[places[0]]]
            try:
                with open(shard.path, "rb", buffering=0) as file:
                    about = os.fstat(file.fileno())
                    check_same(shard, about.st_size, about.st_mtime_ns)
                    for place in places:
                        size, offset = int(self.size[numbers[place]]), int(self.offset[numbers[place]])
                        content[place] = os.pread(file.fileno(), size, offset)
                        if len(content[place]) < size:
                            raise InputError(f"ends at byte {offset + len(content[place]):,}", file=shard.path)
            except OSError as error:
                raise InputError(f"cannot be read ({error.strerror or error})", file=shard.path) from error
        return content

    def name(self, number: int) -> str:
        """Return what an example is called, for people."""
        return name_at(self.shards[self.shard[number]], int(self.offset[number]))


@functools.lru_cache(maxsize=2)
def make_index(shards: tuple[Shard, ...]) -> Index:
    """Look through shards; once for the same ones.

    Raises:
        InputError: If one is damaged, or they hold nothing of use, two kinds, or some with a class and some without.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    labels: list[str | None] = []
    words: dict[str, str] = {}
    ignored: Counter[str] = Counter()
    prints, kind, counts, first, lacking = Prints(), None, [], None, 0
    for shard in shards:
        found = look(shard)
        ignored.update(found.ignored)
        prints.add(shard, f"{shard.path.name!a} {shard.size} {found.print}\n".encode())
        counts.append(len(found.offsets))
        if found.kind is None:
            continue
        kind, first = kind or found.kind, first or shard
        if kind is not found.kind:
            raise InputError(f"{kind.name}, as in {first.path}", found.kind.name, "Give one kind", file=shard.path)
        parts.append((np.array(found.offsets, dtype=np.int64), np.array(found.sizes, dtype=np.int32)))
        labels += [None if label is None else words.setdefault(label, label) for label in found.labels]
        lacking += sum(label is None for label in found.labels)
        if 0 < lacking < len(labels):
            raise _some_without(shard, found.last, lacking, len(labels))
    notes = tuple(f"ignored in the shards: {what} ({count:,})" for what, count in ignored.items())
    if kind is None:
        said = f" ({'; '.join(notes)})" if notes else ""
        raise InputError("pictures (.png, .jpg) or texts (.txt) in it", f"none{said}", file=shards[0].path)
    empty = sum(count == 0 for count in counts)
    notes += (f"{empty} of {len(counts)} shards hold no example",) if empty else ()
    known = [label for label in labels if label is not None]
    positions, classes = classify(known, f"{first.path.parent} (class)") if known and first else (None, ())
    return Index(
        shards,
        kind,
        np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        np.concatenate([offsets for offsets, _ in parts]),
        np.concatenate([sizes for _, sizes in parts]),
        None if positions is None else positions.astype(np.int32),
        classes,
        prints.together,
        prints.each,
        notes,
    )


def _some_without(shard: Shard, last: str, lacking: int, n: int) -> InputError:
    return InputError(
        f"{lacking:,} of {n:,} examples up to {last!a} have no class (.cls, or label in .json), others have one",
        remedy="Add it, or drop all of them",
        file=shard.path,
    )


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
        images = modality.view(Images)
        colour = channels == 3 or (images is not None and images.channels == 3)
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
    """Return the texts of an index that are not empty; InputError if one is not in UTF-8, or all are empty."""
    found = _surveyed(index)
    about = _about(index)
    if not found.empty:
        return Texts(about, index, found)
    where = index.name(found.first_empty)
    if not len(found.kept):
        raise InputError(expected="texts, all of them are empty", place=where)
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
        raise InputError(expected=f"text in UTF-8 ({error.reason})", place=index.name(number)) from error
