"""Sharded datasets: an in-memory sample, and a stream of all examples."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, num_examples
from feller.core.rng import Rng
from feller.data.labels import LABEL_NAMES, TEXT_NAME, relabel
from feller.data.loading.raw import RawExamples, RawImages, RawPoints, RawTable, RawTexts
from feller.data.loading.read_options import ReadOptions
from feller.data.modality import Dataset, Modality
from feller.data.shards import parquet_columns, parquet_types, tar_index
from feller.data.shards.row_groups import RowGroups, make_groups
from feller.data.shards.shard_names import find_shards
from feller.data.shards.shard_reader import ShardReader
from feller.data.shards.tar_index import make_index
from feller.data.stream import ReadChunks

SAMPLE_RNG = Rng(0).fold_in("shards")
MAX_SAMPLED_CHUNKS = 64
"""Maximum number of chunks from which the in-memory sample is taken."""


@dataclass(frozen=True, eq=False)
class ShardStream:
    """Stream of the examples in shards, which are read by index as values of a modality."""

    source: ShardReader
    modality: Modality
    given: Cond
    sample_index: Int[Tensor, " k"]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def fingerprint(self) -> str:
        return self.source.info.fingerprint

    @property
    def fingerprints(self) -> dict[str, str]:
        return self.source.info.fingerprints

    @property
    def chunks(self) -> ReadChunks | None:
        return self.source.chunks

    @property
    def max_held_out(self) -> int:
        """Maximum number of held-out examples: the size of the in-memory sample."""
        return self.source.sample_size

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        values, given = self.modality.values_from_raw(self.source.read_raw(numbers.numpy()))
        if num_examples(values) != len(numbers):
            raise UsageError(
                "several rows of these shards form one example, which streaming does not support",
                remedy="Give one file",
            )
        return values, given


def shard_dataset(source: str, options: ReadOptions, make: Callable[[RawExamples], Dataset]) -> Dataset:
    """Build a streamed dataset from the index of the shards and an in-memory sample.

    The modality is fitted to the sample; examples outside of the sample that it could not encode are added to the
    sample.

    Args:
        source: Shards: a file, a folder or a pattern of file names.
        options: Expected data type, size limit and selected columns.
        make: Function that builds a dataset from raw examples.

    Raises:
        InputError: If there are no shards, or a shard is damaged.
    """
    named = find_shards(source)
    if named.ending == ".tar":
        index = make_index(named.shards)
        options.check_type(index.kind)
        shards = tar_index.pictures_of(index, options) if index.kind is RawImages else tar_index.texts_of(index)
    else:
        shards = _columns(make_groups(named.shards), options)
    n = len(shards)
    numbers = _sample(shards)
    raw = shards.read_sample(numbers)
    modality = make(raw).modality
    more = np.setdiff1d(shards.unrepresented(modality), numbers)
    if len(more):
        numbers = np.union1d(numbers, more)
        raw = shards.read_sample(numbers)
    made = make(raw)
    modality = made.modality
    values, given = modality.values_from_raw(raw)
    if num_examples(values) != len(numbers):
        raise UsageError(
            "contains examples that consist of several rows, which streaming does not support",
            remedy="Give one file",
            file=source,
        )
    classes = modality.conditions.get("label", ())
    labels = shards.info.labels
    known = {} if labels is None else relabel(replace(raw, labels=labels.astype(np.int64)), classes)
    stream = ShardStream(shards.with_sample(raw, modality), modality, known, torch.from_numpy(numbers))
    note = f"{n:,} examples in {len(named.shards):,} shards are streamed"
    if len(numbers) < n:
        note += f"; statistics and evaluation use a random sample of {len(numbers):,}"
    return Dataset(values, given, modality, (*named.notes, *shards.info.notes, note, *made.notes), stream=stream)


def _sample(shards: ShardReader) -> np.ndarray:
    """Return the sorted indices of the in-memory sample: all examples, or a random subset of a few chunks."""
    n = len(shards)
    if n <= shards.sample_size:
        return np.arange(n)
    rng = SAMPLE_RNG.stream("sample")
    if shards.chunks is None:
        return np.sort(torch.randperm(n, generator=rng.shared_generator())[: shards.sample_size].numpy())
    chunk_ids = shards.chunks.chunk_ids
    which = torch.randperm(int(chunk_ids[-1]) + 1, generator=rng.shared_generator())[:MAX_SAMPLED_CHUNKS]
    among = torch.isin(chunk_ids, which.to(chunk_ids.dtype)).nonzero()[:, 0]
    return np.sort(among[torch.randperm(len(among), generator=rng.shared_generator())[: shards.sample_size]].numpy())


def _columns(groups: RowGroups, options: ReadOptions) -> ShardReader:
    """Return a reader of texts, table cells or points, by the expected data type, else by column names and types."""
    if options.raw_type is RawTexts:
        return parquet_columns.texts_of(groups)
    if options.raw_type is RawTable:
        return parquet_columns.cells_of(groups)
    rest = [name for name in groups.columns if name.strip().lower() not in LABEL_NAMES]
    words = [name for name in rest if not parquet_types.is_number(groups.kind(name))]
    alone = len(rest) == 1 and parquet_types.is_text(groups.kind(rest[0]))
    if options.raw_type is RawExamples and words and (TEXT_NAME in map(str.lower, words) or alone):
        return parquet_columns.texts_of(groups)
    if issubclass(RawTable, options.raw_type) and words and not options.select_columns(rest):
        return parquet_columns.cells_of(groups)
    options.check_type(RawPoints)
    return parquet_columns.rows_of(groups, options.select_columns)
