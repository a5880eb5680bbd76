"""Building of data sets from shards: a sample of the examples is kept in memory, and all examples are streamed."""

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
    """Build a data set that streams the examples of shards and holds a random sample of them in memory.

    The modality is fitted to the sample. If it cannot encode some examples outside the sample, these are added to the
    sample, and it is fitted again.

    Args:
        source: Shards: a file, a folder or a pattern of file names.
        options: Expected data type, size limit and selected columns.
        make: Function that builds a data set, with a modality fitted to it, from raw examples.

    Raises:
        InputError: If there are no shards, or a shard is damaged.
    """
    files = find_shards(source)
    if files.ending == ".tar":
        index = make_index(files.shards)
        options.check_type(index.kind)
        reader = tar_index.pictures_of(index, options) if index.kind is RawImages else tar_index.texts_of(index)
    else:
        reader = _columns(make_groups(files.shards), options)
    n = len(reader)
    sample_index = _sample(reader)
    raw = _as_sample(reader.read_sample(sample_index), n)
    modality = make(raw).modality
    missing = np.setdiff1d(reader.unrepresented(modality), sample_index)
    if len(missing):
        sample_index = np.union1d(sample_index, missing)
        raw = _as_sample(reader.read_sample(sample_index), n)
    dataset = make(raw)
    modality = dataset.modality
    values, given = modality.values_from_raw(raw)
    if num_examples(values) != len(sample_index):
        raise UsageError(
            "contains examples that consist of several rows, which streaming does not support",
            remedy="Give one file",
            file=source,
        )
    classes = modality.conditions.get("label", ())
    labels = reader.info.labels
    stream_given = {} if labels is None else relabel(replace(raw, labels=labels.astype(np.int64)), classes)
    stream = ShardStream(reader.with_sample(raw, modality), modality, stream_given, torch.from_numpy(sample_index))
    note = f"{n:,} examples in {len(files.shards):,} shards are streamed"
    if len(sample_index) < n:
        note += f"; statistics and evaluation use a random sample of {len(sample_index):,}"
    return Dataset(values, given, modality, (*files.notes, *reader.info.notes, note, *dataset.notes), stream=stream)


def _as_sample(raw: RawExamples, n: int) -> RawExamples:
    """Return examples of which all have `n`; a table is marked as a sample if it has fewer rows."""
    return replace(raw, is_sample=True) if isinstance(raw, RawTable) and len(raw.values) < n else raw


def _sample(reader: ShardReader) -> np.ndarray:
    """Return the sorted indices of the examples that are read into memory to fit the modality.

    These are all examples, or a random subset, which is taken from a few chunks if the shards are read by chunks.
    """
    n = len(reader)
    if n <= reader.sample_size:
        return np.arange(n)
    rng = SAMPLE_RNG.stream("sample")
    if reader.chunks is None:
        return np.sort(torch.randperm(n, generator=rng.shared_generator())[: reader.sample_size].numpy())
    chunk_ids = reader.chunks.chunk_ids
    sampled_chunks = torch.randperm(int(chunk_ids[-1]) + 1, generator=rng.shared_generator())[:MAX_SAMPLED_CHUNKS]
    pool = torch.isin(chunk_ids, sampled_chunks.to(chunk_ids.dtype)).nonzero()[:, 0]
    return np.sort(pool[torch.randperm(len(pool), generator=rng.shared_generator())[: reader.sample_size]].numpy())


def _columns(groups: RowGroups, options: ReadOptions) -> ShardReader:
    """Return the reader of a parquet file's rows as texts, table rows or numeric rows.

    The type in `options` decides, and if it does not, the names and types of the columns.
    """
    if options.raw_type is RawTexts:
        return parquet_columns.texts_of(groups)
    if options.raw_type is RawTable:
        return parquet_columns.cells_of(groups)
    columns = [name for name in groups.columns if name.strip().lower() not in LABEL_NAMES]
    non_numeric = [name for name in columns if not parquet_types.is_number(groups.kind(name))]
    is_only_text = len(columns) == 1 and parquet_types.is_text(groups.kind(columns[0]))
    if options.raw_type is RawExamples and non_numeric and (TEXT_NAME in map(str.lower, non_numeric) or is_only_text):
        return parquet_columns.texts_of(groups)
    if issubclass(RawTable, options.raw_type) and non_numeric and not options.select_columns(columns):
        return parquet_columns.cells_of(groups)
    options.check_type(RawPoints)
    return parquet_columns.rows_of(groups, options.select_columns)
