"""From shards to a data set: a sample in memory, and the rest by number."""

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
from feller.data.loading.raw import Found, FoundPictures, FoundRows, FoundTable, FoundTexts
from feller.data.loading.read_options import Asked
from feller.data.modality import Dataset, Modality
from feller.data.shards import parquet_columns, parquet_types, tar_index
from feller.data.shards.row_groups import Groups, make_groups
from feller.data.shards.shard_names import find_shards
from feller.data.shards.source import Source
from feller.data.shards.tar_index import make_index
from feller.data.stream import Pieces

FIXED = Rng(0).fold_in("shards")
MOST_PIECES = 64
"""Pieces that a sample is taken from."""


@dataclass(frozen=True, eq=False)
class Shards:
    """Examples of shards as a modality sees them."""

    source: Source
    modality: Modality
    given: Cond
    held: Int[Tensor, " k"]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def print(self) -> str:
        """That of the shards."""
        return self.source.about.print

    @property
    def prints(self) -> dict[str, str]:
        """Those of the shards."""
        return self.source.about.prints

    @property
    def pieces(self) -> Pieces | None:
        """Those of the shards."""
        return self.source.pieces

    @property
    def most(self) -> int:
        """As many as a sample has."""
        return self.source.sample

    def take(self, numbers: Int[Tensor, " m"]) -> tuple[State, Cond]:
        """Read them."""
        values, given = self.modality.accept(self.source.found(numbers.numpy()))
        if num_examples(values) != len(numbers):
            raise UsageError(
                "these shards hold rows that belong together, so that all must be read", remedy="Give one file"
            )
        return values, given


def sharded(source: str, asked: Asked, make: Callable[[Found], Dataset]) -> Dataset:
    """Read the index of shards, and a sample that tells what all examples are like.

    Args:
        source: What a person named.
        asked: How large examples may be, which columns count, and of which kind they must be.
        make: Makes a data set of what is found.

    Raises:
        InputError: If there are none, or they are damaged.
    """
    named = find_shards(source)
    if named.ending == ".tar":
        index = make_index(named.shards)
        asked.check(index.kind)
        shards = tar_index.pictures_of(index, asked) if index.kind is FoundPictures else tar_index.texts_of(index)
    else:
        shards = _columns(make_groups(named.shards), asked)
    n = len(shards)
    numbers = _sample(shards)
    found = shards.sampled(numbers)
    modality = make(found).modality
    more = np.setdiff1d(shards.lacking(modality), numbers)
    if len(more):
        numbers = np.union1d(numbers, more)
        found = shards.sampled(numbers)
    made = make(found)
    modality = made.modality
    values, given = modality.accept(found)
    if num_examples(values) != len(numbers):
        raise UsageError(
            "holds rows that belong together, so that all must be read", remedy="Give one file", file=source
        )
    classes = modality.conditions.get("label", ())
    labels = shards.about.labels
    known = {} if labels is None else relabel(replace(found, labels=labels.astype(np.int64)), classes)
    stream = Shards(shards.settled(found, modality), modality, known, torch.from_numpy(numbers))
    told = f"{n:,} examples in {len(named.shards):,} shards are read as they are needed"
    if len(numbers) < n:
        told += f"; what all are like was told by {len(numbers):,} of them, beside which samples are judged, too"
    return Dataset(values, given, modality, (*named.notes, *shards.about.notes, told, *made.notes), stream=stream)


def _sample(shards: Source) -> np.ndarray:
    """Return the numbers of the examples that are looked at: all, or some of each piece that is read."""
    n = len(shards)
    if n <= shards.sample:
        return np.arange(n)
    draw = FIXED.stream("sample")
    if shards.pieces is None:
        return np.sort(torch.randperm(n, generator=draw.shared_generator())[: shards.sample].numpy())
    of = shards.pieces.of
    which = torch.randperm(int(of[-1]) + 1, generator=draw.shared_generator())[:MOST_PIECES]
    among = torch.isin(of, which.to(of.dtype)).nonzero()[:, 0]
    return np.sort(among[torch.randperm(len(among), generator=draw.shared_generator())[: shards.sample]].numpy())


def _columns(groups: Groups, asked: Asked) -> Source:
    """Tell texts, tables and points apart by what is asked, or by the names and types of the columns."""
    if asked.kind is FoundTexts:
        return parquet_columns.texts_of(groups)
    if asked.kind is FoundTable:
        return parquet_columns.cells_of(groups)
    rest = [name for name in groups.columns if name.strip().lower() not in LABEL_NAMES]
    words = [name for name in rest if not parquet_types.is_number(groups.kind(name))]
    alone = len(rest) == 1 and parquet_types.is_text(groups.kind(rest[0]))
    if asked.kind is Found and words and (TEXT_NAME in map(str.lower, words) or alone):
        return parquet_columns.texts_of(groups)
    if issubclass(FoundTable, asked.kind) and words and not asked.choose(rest):
        return parquet_columns.cells_of(groups)
    asked.check(FoundRows)
    return parquet_columns.rows_of(groups, asked.choose)
