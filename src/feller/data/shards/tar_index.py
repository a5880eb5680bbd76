"""Index of the examples in tar shards, and readers of images and texts."""

import functools
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from feller.core.errors import InputError
from feller.data.images.image_loading import EncodedImage, read_images, read_uniform
from feller.data.images.image_resizing import Size
from feller.data.images.modality import Images
from feller.data.labels import encode_labels
from feller.data.loading.raw import RawExamples, RawImages, RawTexts, object_array
from feller.data.loading.read_options import ReadOptions
from feller.data.modality import Modality
from feller.data.shards.shard_names import FingerprintBuilder, ShardFile, check_same
from feller.data.shards.shard_reader import TEXT_BATCH, ShardIndexInfo, ShardReader, Survey, survey
from feller.data.shards.tar_scan import name_at, scan_tar


@dataclass(frozen=True, eq=False)
class TarIndex:
    """Index of the examples in tar shards: location and class of each example, in the order of the shards."""

    shards: tuple[ShardFile, ...]
    kind: type[RawExamples]
    shard: np.ndarray
    """Index of the shard of each example, int32 [n]."""
    offset: np.ndarray
    """Offset in bytes of each example in its shard, int64 [n]."""
    size: np.ndarray
    """Size of each example in bytes, int32 [n]."""
    labels: np.ndarray | None
    """Class id of each example, [n]."""
    classes: tuple[str, ...]
    fingerprint: str
    fingerprints: dict[str, str]
    """Hash of each shard, by the file name of the shard."""
    notes: tuple[str, ...]

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the contents of the examples with these indices, in this order; reads are sorted by file offset.

        Raises:
            InputError: If a shard has changed or cannot be read.
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
                            raise InputError(f"truncated at byte {offset + len(content[place]):,}", file=shard.path)
            except OSError as error:
                raise InputError(f"cannot be read ({error.strerror or error})", file=shard.path) from error
        return content

    def name(self, number: int) -> str:
        """Return the location of the example with index `number`, for error messages."""
        return name_at(self.shards[self.shard[number]], int(self.offset[number]))


@functools.lru_cache(maxsize=2)
def make_index(shards: tuple[ShardFile, ...]) -> TarIndex:
    """Index tar shards by scanning their headers; the result is cached.

    Raises:
        InputError: If a shard is damaged, there are no examples, types are mixed, or only some examples have labels.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    labels: list[str | None] = []
    words: dict[str, str] = {}
    ignored: Counter[str] = Counter()
    prints, kind, counts, first, lacking = FingerprintBuilder(), None, [], None, 0
    for shard in shards:
        scan = scan_tar(shard)
        ignored.update(scan.ignored)
        prints.add(shard, f"{shard.path.name!a} {shard.size} {scan.fingerprint}\n".encode())
        counts.append(len(scan.offsets))
        if scan.kind is None:
            continue
        kind, first = kind or scan.kind, first or shard
        if kind is not scan.kind:
            raise InputError(
                f"{kind.name}, as in {first.path}",
                scan.kind.name,
                "Use examples of one type in all shards",
                file=shard.path,
            )
        parts.append((np.array(scan.offsets, dtype=np.int64), np.array(scan.sizes, dtype=np.int32)))
        labels += [None if label is None else words.setdefault(label, label) for label in scan.labels]
        lacking += sum(label is None for label in scan.labels)
        if 0 < lacking < len(labels):
            raise _some_without(shard, scan.last, lacking, len(labels))
    notes = tuple(f"ignored in the shards: {what} ({count:,})" for what, count in ignored.items())
    if kind is None:
        notes_text = f" ({'; '.join(notes)})" if notes else ""
        raise InputError("images (.png, .jpg) or texts (.txt)", f"none{notes_text}", file=shards[0].path)
    empty = sum(count == 0 for count in counts)
    notes += (f"{empty} of {len(counts)} shards hold no example",) if empty else ()
    known = [label for label in labels if label is not None]
    positions, classes = encode_labels(known, f"{first.path.parent} (class)") if known and first else (None, ())
    return TarIndex(
        shards,
        kind,
        np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        np.concatenate([offsets for offsets, _ in parts]),
        np.concatenate([sizes for _, sizes in parts]),
        None if positions is None else positions.astype(np.int32),
        classes,
        prints.combined,
        prints.per_shard,
        notes,
    )


def _some_without(shard: ShardFile, last: str, lacking: int, n: int) -> InputError:
    return InputError(
        "a class (.cls, or label in .json) for every example, or for none",
        f"{lacking:,} of {n:,} examples up to {last!a} without a class",
        "Add or remove classes",
        file=shard.path,
    )


SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class TarImages(ShardReader):
    """Reader of images in tar shards; images are converted to the size and colour mode of the sample."""

    index: TarIndex
    options: ReadOptions
    to: Size = (0, 0)
    """Width and height to which images are resized, in pixels."""
    mode: str = ""

    sample_size = SAMPLE

    def _packed(self, numbers: np.ndarray) -> list[EncodedImage]:
        content = self.index.read(numbers)
        names = [functools.partial(self.index.name, number) for number in numbers.tolist()]
        return [EncodedImage(one, name) for one, name in zip(content, names, strict=True)]

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        values = read_uniform(self._packed(numbers), self.to, self.mode)
        return self.info.with_labels(RawImages(values, levels=255), numbers)

    def read_sample(self, numbers: np.ndarray) -> RawExamples:
        values, notes = read_images(self._packed(numbers), self.options.size, self.options.limit)
        return self.info.with_labels(RawImages(values, levels=255, notes=notes), numbers)

    def with_sample(self, raw: RawExamples, modality: Modality) -> "ShardReader":
        _, height, width, channels = raw.values.shape
        images = modality.view(Images)
        colour = channels == 3 or (images is not None and images.channels == 3)
        return replace(self, to=(width, height), mode="RGB" if colour else "L")


@dataclass(frozen=True, eq=False)
class TarTexts(ShardReader):
    """Reader of UTF-8 texts in tar shards, one text per example."""

    index: TarIndex
    survey: Survey

    sample_size = SAMPLE

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        members = self.survey.nonempty[numbers]
        found = RawTexts(object_array(_texts(self.index, members)), documents=True, lines=members + 1)
        return self.info.with_labels(found, numbers)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        return self.survey.unrepresented(modality)


def pictures_of(index: TarIndex, options: ReadOptions) -> ShardReader:
    """Return a reader of the images in an index of tar shards."""
    return TarImages(_about(index), index, options)


def texts_of(index: TarIndex) -> ShardReader:
    """Return a reader of the nonempty texts in tar shards; InputError if a text is not UTF-8, or all are empty."""
    found = _surveyed(index)
    about = _about(index)
    if not found.num_empty:
        return TarTexts(about, index, found)
    where = index.name(found.first_empty)
    if not len(found.nonempty):
        raise InputError("at least one nonempty text", "none", place=where)
    note = f"left out {found.num_empty:,} empty texts, the first is {where}"
    return TarTexts(about.subset(found.nonempty, note), index, found)


def _about(index: TarIndex) -> ShardIndexInfo:
    return ShardIndexInfo(
        len(index.shard), index.fingerprint, index.fingerprints, index.labels, index.classes, index.notes
    )


@functools.lru_cache(maxsize=2)
def _surveyed(index: TarIndex) -> Survey:
    n = len(index.shard)
    return survey(_texts(index, np.arange(i, min(i + TEXT_BATCH, n))) for i in range(0, n, TEXT_BATCH))


def _texts(index: TarIndex, numbers: np.ndarray) -> list[str]:
    return [_text(index, n, content) for n, content in zip(numbers.tolist(), index.read(numbers), strict=True)]


def _text(index: TarIndex, number: int, content: bytes) -> str:
    try:
        return re.sub("\r\n?", "\n", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError("text in UTF-8", f"invalid bytes ({error.reason})", place=index.name(number)) from error
