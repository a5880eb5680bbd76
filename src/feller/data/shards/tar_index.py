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
        contents: list[bytes] = [b""] * len(numbers)
        shard_index, order = self.shard[numbers], np.lexsort((self.offset[numbers], self.shard[numbers]))
        edges = np.flatnonzero(np.diff(shard_index[order])) + 1
        for positions in np.split(order, edges) if len(order) else ():
            shard = self.shards[shard_index[positions[0]]]
            try:
                with open(shard.path, "rb", buffering=0) as file:
                    stat = os.fstat(file.fileno())
                    check_same(shard, stat.st_size, stat.st_mtime_ns)
                    for position in positions:
                        size, offset = int(self.size[numbers[position]]), int(self.offset[numbers[position]])
                        contents[position] = os.pread(file.fileno(), size, offset)
                        if len(contents[position]) < size:
                            raise InputError(f"truncated at byte {offset + len(contents[position]):,}", file=shard.path)
            except OSError as error:
                raise InputError(f"cannot be read ({error.strerror or error})", file=shard.path) from error
        return contents

    def name(self, number: int) -> str:
        """Return the location of the example with index `number`, for error messages."""
        return name_at(self.shards[self.shard[number]], int(self.offset[number]))


@functools.lru_cache(maxsize=2)
def make_index(shards: tuple[ShardFile, ...]) -> TarIndex:
    """Index tar shards by scanning their headers; the result is cached.

    Raises:
        InputError: If a shard is damaged, there are no examples, types are mixed, or only some examples have labels.
    """
    spans: list[tuple[np.ndarray, np.ndarray]] = []
    labels: list[str | None] = []
    interned: dict[str, str] = {}
    ignored: Counter[str] = Counter()
    builder, raw_type, counts, first, num_unlabelled = FingerprintBuilder(), None, [], None, 0
    for shard in shards:
        scan = scan_tar(shard)
        ignored.update(scan.ignored)
        builder.add(shard, f"{shard.path.name!a} {shard.size} {scan.fingerprint}\n".encode())
        counts.append(len(scan.offsets))
        if scan.kind is None:
            continue
        raw_type, first = raw_type or scan.kind, first or shard
        if raw_type is not scan.kind:
            raise InputError(
                f"{raw_type.name}, as in {first.path}",
                scan.kind.name,
                "Use examples of one type in all shards",
                file=shard.path,
            )
        spans.append((np.array(scan.offsets, dtype=np.int64), np.array(scan.sizes, dtype=np.int32)))
        labels += [None if label is None else interned.setdefault(label, label) for label in scan.labels]
        num_unlabelled += sum(label is None for label in scan.labels)
        if 0 < num_unlabelled < len(labels):
            raise _some_without(shard, scan.last, num_unlabelled, len(labels))
    notes = tuple(f"ignored in the shards: {description} ({count:,})" for description, count in ignored.items())
    if raw_type is None:
        notes_text = f" ({'; '.join(notes)})" if notes else ""
        raise InputError("images (.png, .jpg) or texts (.txt)", f"none{notes_text}", file=shards[0].path)
    num_empty = sum(count == 0 for count in counts)
    notes += (f"{num_empty} of {len(counts)} shards hold no example",) if num_empty else ()
    present = [label for label in labels if label is not None]
    class_ids, classes = encode_labels(present, f"{first.path.parent} (class)") if present and first else (None, ())
    return TarIndex(
        shards,
        raw_type,
        np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        np.concatenate([offsets for offsets, _ in spans]),
        np.concatenate([sizes for _, sizes in spans]),
        None if class_ids is None else class_ids.astype(np.int32),
        classes,
        builder.combined,
        builder.per_shard,
        notes,
    )


def _some_without(shard: ShardFile, last_name: str, num_unlabelled: int, n: int) -> InputError:
    return InputError(
        "a class (.cls, or label in .json) for every example, or for none",
        f"{num_unlabelled:,} of {n:,} examples up to {last_name!a} without a class",
        "Add or remove classes",
        file=shard.path,
    )


SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class TarImages(ShardReader):
    """Reader of images in tar shards.

    All images are converted to the size and colour mode of the in-memory sample, to which the modality is fitted.
    """

    index: TarIndex
    options: ReadOptions
    to: Size = (0, 0)
    """Width and height to which images are resized, in pixels."""
    mode: str = ""

    sample_size = SAMPLE

    def _packed(self, indices: np.ndarray) -> list[EncodedImage]:
        contents = self.index.read(indices)
        names = [functools.partial(self.index.name, index) for index in indices.tolist()]
        return [EncodedImage(encoded, name) for encoded, name in zip(contents, names, strict=True)]

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        values = read_uniform(self._packed(numbers), self.to, self.mode)
        return self.info.with_labels(RawImages(values, levels=255), numbers)

    def read_sample(self, numbers: np.ndarray) -> RawExamples:
        values, notes = read_images(self._packed(numbers), self.options.size, self.options.limit)
        return self.info.with_labels(RawImages(values, levels=255, notes=notes), numbers)

    def with_sample(self, raw: RawExamples, modality: Modality) -> "ShardReader":
        _, height, width, channels = raw.values.shape
        images = modality.view(Images)
        is_colour = channels == 3 or (images is not None and images.channels == 3)
        return replace(self, to=(width, height), mode="RGB" if is_colour else "L")


@dataclass(frozen=True, eq=False)
class TarTexts(ShardReader):
    """Reader of UTF-8 texts in tar shards, one text per example."""

    index: TarIndex
    survey: Survey

    sample_size = SAMPLE

    def read_raw(self, numbers: np.ndarray) -> RawExamples:
        rows = self.survey.nonempty[numbers]
        raw = RawTexts(object_array(_texts(self.index, rows)), documents=True, lines=rows + 1)
        return self.info.with_labels(raw, numbers)

    def unrepresented(self, modality: Modality) -> np.ndarray:
        return self.survey.unrepresented(modality)


def pictures_of(index: TarIndex, options: ReadOptions) -> ShardReader:
    """Return a reader of the images in an index of tar shards."""
    return TarImages(_about(index), index, options)


def texts_of(index: TarIndex) -> ShardReader:
    """Return a reader of the nonempty texts in tar shards; InputError if a text is not UTF-8, or all are empty."""
    text_survey = _surveyed(index)
    info = _about(index)
    if not text_survey.num_empty:
        return TarTexts(info, index, text_survey)
    location = index.name(text_survey.first_empty)
    if not len(text_survey.nonempty):
        raise InputError("at least one nonempty text", "none", place=location)
    note = f"left out {text_survey.num_empty:,} empty texts, the first is {location}"
    return TarTexts(info.subset(text_survey.nonempty, note), index, text_survey)


def _about(index: TarIndex) -> ShardIndexInfo:
    return ShardIndexInfo(
        len(index.shard), index.fingerprint, index.fingerprints, index.labels, index.classes, index.notes
    )


@functools.lru_cache(maxsize=2)
def _surveyed(index: TarIndex) -> Survey:
    n = len(index.shard)
    return survey(_texts(index, np.arange(i, min(i + TEXT_BATCH, n))) for i in range(0, n, TEXT_BATCH))


def _texts(index: TarIndex, indices: np.ndarray) -> list[str]:
    return [_text(index, n, content) for n, content in zip(indices.tolist(), index.read(indices), strict=True)]


def _text(index: TarIndex, number: int, content: bytes) -> str:
    try:
        return re.sub("\r\n?", "\n", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError("text in UTF-8", f"invalid bytes ({error.reason})", place=index.name(number)) from error
