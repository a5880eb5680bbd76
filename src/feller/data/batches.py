"""Batches by number from an endless sequence of permutations, prefetching, and held-out splits."""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import InputError, check_number
from feller.core.pytree import Cond, leaves, num_examples, tree_map
from feller.core.rng import RandomStream, Rng
from feller.data.modality import Dataset
from feller.data.stream import ReadChunks, stream_subset

Key = tuple[int, tuple[int | None, int | None, int | None]]


class Prefetcher:
    """Gives what a function gives, and begins with the next step's batch before it is asked for.

    The function depends on its arguments alone, so that what is read early is what would be read late: a guess that
    fails costs time and nothing else.
    """

    def __init__(self, read: Callable[[int, slice], Any]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._waiting: dict[Key, Future[Any]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feller-ahead")
        self._last: int | None = None

    def __call__(self, step: int, rows: slice) -> Any:
        """Return the rows of a step's batch."""
        key = (step, (rows.start, rows.stop, rows.step))
        with self._lock:
            ready = self._waiting.pop(key, None)
            for wrong in self._waiting.values():
                wrong.cancel()
            self._waiting.clear()
            stride = 1 if self._last is None or step <= self._last else step - self._last
            self._last = step
        found = self._read(step, rows) if ready is None else ready.result()
        after = step + stride
        with self._lock:
            self._waiting[(after, key[1])] = self._reader.submit(self._read, after, rows)
        return found


Batch = dict[str, Any]
"""`x_1`, the encoded state, and `given`, its conditions; `x_0` too, where the examples are pairs, and `target`, [b, k],
where something is to be told of them."""
MAX_ENCODED_BYTES = 2**30
"""Bytes up to which all examples are encoded once, up front."""
BUCKET_BATCHES = 16
"""Batches of an epoch whose examples are sorted by length together."""


def batch_loader(
    dataset: Dataset, size: int, rng: Rng, lengths: Int64[Tensor, " n"] | None = None
) -> Callable[[int, slice], Batch]:
    """Return what gives the rows of a step's batch, encoded; arguments and errors as for `shuffled_loader`."""
    if dataset.stream is not None:
        return _streamed(dataset, size, rng)
    encode = dataset.modality.encode
    targets = {} if dataset.target is None else {"target": dataset.targets(dataset.target)}
    if sum(leaf.numel() * 4 for leaf in leaves(dataset.values)) <= MAX_ENCODED_BYTES:
        return shuffled_loader({"x_1": encode(dataset.values), "given": dataset.given, **targets}, size, rng, lengths)
    raw = shuffled_loader({"x_1": dataset.values, "given": dataset.given, **targets}, size, rng, lengths)

    def batch(step: int, rows: slice) -> Batch:
        found = raw(step, rows)
        return {**found, "x_1": encode(found["x_1"])}

    return batch


def _streamed(dataset: Dataset, size: int, rng: Rng) -> Callable[[int, slice], Batch]:
    """Return the same of examples that are read as they are needed, in the order that they would have in memory.

    The order is one of numbers, so that nothing has to be read again to go on at a step.
    """
    pieces = None if dataset.stream is None else dataset.stream.chunks
    order = shuffled_loader({"number": torch.arange(dataset.total)}, size, rng, chunks=pieces)

    def batch(step: int, rows: slice) -> Batch:
        numbers = order(step, rows)["number"]
        some = dataset.take(numbers if len(numbers) else torch.zeros(1, dtype=torch.long))
        found = {"x_1": some.modality.encode(some.values), "given": some.given}
        return found if len(numbers) else tree_map(lambda leaf: leaf[:0], found)

    return Prefetcher(batch)


def shuffled_loader(
    examples: Batch,
    size: int,
    rng: Rng,
    lengths: Int64[Tensor, " n"] | None = None,
    *,
    chunks: ReadChunks | None = None,
) -> Callable[[int, slice], Batch]:
    """Return what gives the rows of a step's batch: every example comes once an epoch.

    What a step holds depends on its number only, so that a resumed run and any number of processes see the same.

    Args:
        examples: A tree with one entry per example, at least one.
        size: Examples in a batch over all processes; may exceed the number of examples.
        rng: Source of the order.
        lengths: Of the examples, where those of a batch are to have about the same, because padding costs time; by
            default they do not matter.
        chunks: Of files that are read as wholes, where only a few of them should be needed at once.

    Returns:
        A function of the step, from 0, and of the rows of the batch that this process takes.

    Raises:
        InputError: If there is no example.
        UsageError: If the size is below 1.
    """
    n = num_examples(examples)
    if n == 0:
        raise InputError("at least one example to train on", "none")
    check_number("size", size, ge=1)

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        order_rng = rng.stream("order", epoch)
        order = torch.randperm(n, generator=order_rng.shared_generator())
        order = order if chunks is None else _order_by_chunk(order, chunks, order_rng)
        return (
            order
            if lengths is None
            else _bucket_by_length(order, lengths, size, -epoch * n % size, rng.stream("alike", epoch))
        )

    def batch(step: int, rows: slice) -> Batch:
        first, last, stride = rows.indices(size)
        start, stop = step * size + first, step * size + max(first, last)
        pieces = [
            order(epoch)[max(start - epoch * n, 0) : min(stop - epoch * n, n)]
            for epoch in range(start // n, -(-stop // n))
        ]
        index = torch.cat(pieces)[::stride] if pieces else torch.empty(0, dtype=torch.long)
        return tree_map(lambda leaf: leaf[index], examples)

    return batch


def _order_by_chunk(order: Int64[Tensor, " n"], chunks: ReadChunks, rng: RandomStream) -> Int64[Tensor, " n"]:
    """Keep the order among examples of a few pieces, and put these before those of the next few, drawn at random.

    Where all pieces fit together, the order is what it was.
    """
    chunk_ids = chunks.chunk_ids.long()
    names = chunk_ids.unique()
    place = torch.empty(int(names[-1]) + 1, dtype=torch.long)
    place[names] = torch.randperm(len(names), generator=rng.shared_generator())
    window = place[chunk_ids[order]] // chunks.chunks_in_memory
    return order[window.argsort(stable=True)]


def _bucket_by_length(
    order: Int64[Tensor, " n"], lengths: Int64[Tensor, " n"], size: int, first: int, rng: RandomStream
) -> Int64[Tensor, " n"]:
    """Sort pieces of an order by length, and shuffle their batches; the first examples fill up a batch before."""
    rest = order[first:]
    whole = len(rest) // size * size
    pieces = [piece[lengths[piece].argsort(stable=True)] for piece in rest[:whole].split(BUCKET_BATCHES * size)]
    rows = torch.cat([order[:0], *pieces]).reshape(-1, size)
    rows = rows[torch.randperm(len(rows), generator=rng.shared_generator())]
    return torch.cat([order[:first], rows.reshape(-1), rest[whole:]])


@dataclass(frozen=True, eq=False)
class DataBundle:
    """What a fit learns from and is judged by, read once."""

    train: Dataset
    test: Dataset
    """Examples that are kept back."""
    raw: Dataset
    """All examples, as they were read."""
    fingerprint: str
    """Their hash, as the run keeps it."""


MIN_SPLIT_EXAMPLES = 10
"""Examples below which none is set aside."""
SPLIT_RNG = Rng(0)


def split(
    dataset: Dataset, fraction: float = 0.1, rng: Rng = SPLIT_RNG, *, stratified: bool = True
) -> tuple[Dataset, Dataset]:
    """Set a share of the examples aside, of each class alike where that is asked; returns (train, held out).

    With 10 examples or more at least one is set aside, with fewer none. Both parts keep the order of the data. Groups
    stay whole: as many are set aside as come nearest to the share, at least one if there are two or more. Of examples
    that are read as they are needed, no more are set aside than memory may hold.

    Raises:
        UsageError: If the share is not in [0, 1).
    """
    check_held_out_fraction(fraction)
    n, groups = dataset.total, dataset.groups
    num_held_out = 0 if n < MIN_SPLIT_EXAMPLES or fraction == 0 else min(max(1, round(fraction * n)), n - 1)
    if dataset.stream is not None:
        num_held_out = min(num_held_out, dataset.stream.max_held_out)
    if groups is None:
        given = dataset.given
        if dataset.stream is not None:
            given = {name: known for name, known in dataset.stream.given.items() if name in given}
        order = torch.randperm(n, generator=rng.stream("split").shared_generator())
        aside = torch.zeros(n, dtype=torch.bool)
        aside[(order[_place(given, order).argsort(stable=True)] if stratified else order)[:num_held_out]] = True
    else:
        aside = _some_groups(groups, num_held_out, rng)
    if dataset.stream is not None:
        train = stream_subset(dataset.stream, ~aside)
        held = dataset.subset((~aside[dataset.stream.sample_index]).nonzero()[:, 0])
        back = aside.nonzero()[:, 0]
        return replace(held, stream=train), dataset.take(back) if len(back) else dataset.subset(back)
    return dataset.subset((~aside).nonzero()[:, 0]), dataset.subset(aside.nonzero()[:, 0])


def check_held_out_fraction(fraction: float) -> None:
    """Refuse a share of data to set aside that is none; UsageError if it is not in [0, 1)."""
    check_number("share", fraction, ge=0, lt=1)


def _some_groups(groups: Tensor, num_held_out: int, rng: Rng) -> Tensor:
    """Tell which examples are in groups that are set aside, [n]."""
    names, sizes = groups.unique(return_counts=True)
    order = torch.randperm(len(names), generator=rng.stream("split").shared_generator())
    if num_held_out == 0 or len(names) < 2:
        return torch.zeros(len(groups), dtype=torch.bool)
    number = int((sizes[order].cumsum(0) - num_held_out).abs().argmin()) + 1
    return torch.isin(groups, names[order[: min(number, len(names) - 1)]])


def _place(given: Cond, order: Tensor) -> Tensor:
    """Return the place of each example within its class, in the given order, from 0 to 1.

    The lowest places hold a class in proportion to its size, and one that is alone in its class comes late.
    """
    label = given["label"][order] if "label" in given else torch.zeros_like(order)
    place = torch.empty(len(order), dtype=torch.float64)
    for number in label.unique():
        members = (label == number).nonzero()[:, 0]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place
