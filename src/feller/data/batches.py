"""Training batches indexed by step, batch prefetching, and splits into training and held-out data."""

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
    """Batch reader with one step of lookahead: a background thread reads the batch of the next step.

    `read` must be a pure function of (step, rows) that returns these rows, a slice, of the batch of the step. If the
    next call asks for another step or other rows than those read in advance, the latter are discarded.
    """

    def __init__(self, read: Callable[[int, slice], Any]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._waiting: dict[Key, Future[Any]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feller-ahead")
        self._last: int | None = None

    def __call__(self, step: int, rows: slice) -> Any:
        """Return the given rows of the batch of a step."""
        key = (step, (rows.start, rows.stop, rows.step))
        with self._lock:
            pending = self._waiting.pop(key, None)
            for stale in self._waiting.values():
                stale.cancel()
            self._waiting.clear()
            stride = 1 if self._last is None or step <= self._last else step - self._last
            self._last = step
        batch = self._read(step, rows) if pending is None else pending.result()
        next_step = step + stride
        with self._lock:
            self._waiting[(next_step, key[1])] = self._reader.submit(self._read, next_step, rows)
        return batch


Batch = dict[str, Any]
"""Training batch. Its keys are `x_1`, the encoded states; `given`, their conditions; `x_0`, the source states, only for
paired data; and `target`, the values to predict, [b, k], only for regression."""
MAX_ENCODED_BYTES = 2**30
"""Maximum size, in bytes, of encoded data that are encoded all at once before training."""
BUCKET_BATCHES = 16
"""Number of consecutive batches whose examples are sorted together by length."""


def batch_loader(
    dataset: Dataset, size: int, rng: Rng, lengths: Int64[Tensor, " n"] | None = None
) -> Callable[[int, slice], Batch]:
    """Return a function of (step, rows) that loads the slice `rows` of the encoded batch of a step.

    The examples are those of `dataset`; other arguments and errors are as for `shuffled_loader`.
    """
    if dataset.stream is not None:
        return _streamed(dataset, size, rng)
    encode = dataset.modality.encode
    targets = {} if dataset.target is None else {"target": dataset.targets(dataset.target)}
    if sum(leaf.numel() * 4 for leaf in leaves(dataset.values)) <= MAX_ENCODED_BYTES:
        return shuffled_loader({"x_1": encode(dataset.values), "given": dataset.given, **targets}, size, rng, lengths)
    raw_loader = shuffled_loader({"x_1": dataset.values, "given": dataset.given, **targets}, size, rng, lengths)

    def batch(step: int, rows: slice) -> Batch:
        raw_batch = raw_loader(step, rows)
        return {**raw_batch, "x_1": encode(raw_batch["x_1"])}

    return batch


def _streamed(dataset: Dataset, size: int, rng: Rng) -> Callable[[int, slice], Batch]:
    """Return a function (step, rows) -> batch that loads examples from `dataset.stream`.

    The examples come in the order of an in-memory data set with this seed, or chunk by chunk if the stream has chunks.
    """
    chunks = None if dataset.stream is None else dataset.stream.chunks
    index_loader = shuffled_loader({"number": torch.arange(dataset.total)}, size, rng, chunks=chunks)

    def batch(step: int, rows: slice) -> Batch:
        index = index_loader(step, rows)["number"]
        examples = dataset.take(index if len(index) else torch.zeros(1, dtype=torch.long))
        encoded = {"x_1": examples.modality.encode(examples.values), "given": examples.given}
        return encoded if len(index) else tree_map(lambda leaf: leaf[:0], encoded)

    return Prefetcher(batch)


def shuffled_loader(
    examples: Batch,
    size: int,
    rng: Rng,
    lengths: Int64[Tensor, " n"] | None = None,
    *,
    chunks: ReadChunks | None = None,
) -> Callable[[int, slice], Batch]:
    """Return a function of (step, rows) that loads a batch; epochs never end, and each is a new permutation.

    A batch depends only on its step and the seed, so resumed and distributed runs see the same batches.

    Args:
        examples: Tree of tensors with at least one example.
        size: Global batch size over all processes; may exceed the number of examples.
        rng: Random streams of the permutations.
        lengths: Sequence lengths; if given, each batch holds examples of similar length to reduce padding.
        chunks: Chunks in which files are read; if given, examples are shuffled within a few chunks at a time.

    Returns:
        A function of the step, counted from 0, and of the slice of the global batch that this process loads.

    Raises:
        InputError: If there are no examples.
        UsageError: If the size is below 1.
    """
    n = num_examples(examples)
    if n == 0:
        raise InputError("at least one training example", "none")
    check_number("size", size, ge=1)

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        order_rng = rng.stream("order", epoch)
        permutation = torch.randperm(n, generator=order_rng.shared_generator())
        permutation = permutation if chunks is None else _order_by_chunk(permutation, chunks, order_rng)
        return (
            permutation
            if lengths is None
            else _bucket_by_length(permutation, lengths, size, -epoch * n % size, rng.stream("alike", epoch))
        )

    def batch(step: int, rows: slice) -> Batch:
        first, last, stride = rows.indices(size)
        start, stop = step * size + first, step * size + max(first, last)
        slices = [
            order(epoch)[max(start - epoch * n, 0) : min(stop - epoch * n, n)]
            for epoch in range(start // n, -(-stop // n))
        ]
        index = torch.cat(slices)[::stride] if slices else torch.empty(0, dtype=torch.long)
        return tree_map(lambda leaf: leaf[index], examples)

    return batch


def _order_by_chunk(order: Int64[Tensor, " n"], chunks: ReadChunks, rng: RandomStream) -> Int64[Tensor, " n"]:
    """Return the indices `order` sorted so that few chunks are read at a time.

    The chunks are divided at random into groups of `chunks_in_memory`; all examples of one group come before those of
    the next, and keep their order within the group.
    """
    chunk_ids = chunks.chunk_ids.long()
    ids = chunk_ids.unique()
    rank = torch.empty(int(ids[-1]) + 1, dtype=torch.long)
    rank[ids] = torch.randperm(len(ids), generator=rng.shared_generator())
    window = rank[chunk_ids[order]] // chunks.chunks_in_memory
    return order[window.argsort(stable=True)]


def _bucket_by_length(
    order: Int64[Tensor, " n"], lengths: Int64[Tensor, " n"], size: int, start: int, rng: RandomStream
) -> Int64[Tensor, " n"]:
    """Return the indices `order` rearranged into batches of `size` examples of similar length.

    The order is cut into windows; each window is sorted by length and cut into batches, which are shuffled.
    """
    tail = order[start:]
    end = len(tail) // size * size
    buckets = [bucket[lengths[bucket].argsort(stable=True)] for bucket in tail[:end].split(BUCKET_BATCHES * size)]
    batches = torch.cat([order[:0], *buckets]).reshape(-1, size)
    batches = batches[torch.randperm(len(batches), generator=rng.shared_generator())]
    return torch.cat([order[:start], batches.reshape(-1), tail[end:]])


@dataclass(frozen=True, eq=False)
class DataBundle:
    """Datasets of a fit: the training part, the held-out part and all examples."""

    train: Dataset
    test: Dataset
    """Held-out examples."""
    raw: Dataset
    """All examples as read from the source, before the split."""
    fingerprint: str
    """Hash of the data, which the run folder records."""


MIN_SPLIT_EXAMPLES = 10
"""Dataset size below which no examples are held out."""
SPLIT_RNG = Rng(0)


def split(
    dataset: Dataset, fraction: float = 0.1, rng: Rng = SPLIT_RNG, *, stratified: bool = True
) -> tuple[Dataset, Dataset]:
    """Split a dataset at random, by default stratified by class; return (train, held out).

    `fraction` of the examples are held out: at least one example if there are 10 or more, and none if there are fewer.
    Both parts keep the order of the data. Groups are never split: whole groups are held out, with a total size as close
    as possible to the fraction. At most `max_held_out` examples of the stream of a streamed dataset are held out.

    Raises:
        UsageError: If the fraction is not in [0, 1).
    """
    check_held_out_fraction(fraction)
    n, groups = dataset.total, dataset.groups
    num_held_out = 0 if n < MIN_SPLIT_EXAMPLES or fraction == 0 else min(max(1, round(fraction * n)), n - 1)
    if dataset.stream is not None:
        num_held_out = min(num_held_out, dataset.stream.max_held_out)
    if groups is None:
        given = dataset.given
        if dataset.stream is not None:
            given = {name: labels for name, labels in dataset.stream.given.items() if name in given}
        order = torch.randperm(n, generator=rng.stream("split").shared_generator())
        held_out = torch.zeros(n, dtype=torch.bool)
        held_out[(order[_place(given, order).argsort(stable=True)] if stratified else order)[:num_held_out]] = True
    else:
        held_out = _some_groups(groups, num_held_out, rng)
    if dataset.stream is not None:
        train = stream_subset(dataset.stream, ~held_out)
        train_sample = dataset.subset((~held_out[dataset.stream.sample_index]).nonzero()[:, 0])
        index = held_out.nonzero()[:, 0]
        return replace(train_sample, stream=train), dataset.take(index) if len(index) else dataset.subset(index)
    return dataset.subset((~held_out).nonzero()[:, 0]), dataset.subset(held_out.nonzero()[:, 0])


def check_held_out_fraction(fraction: float) -> None:
    """Raise a UsageError if the fraction of held-out data is not in [0, 1)."""
    check_number("held_out", fraction, ge=0, lt=1)


def _some_groups(groups: Tensor, num_held_out: int, rng: Rng) -> Tensor:
    """Select random groups to hold out, with about `num_held_out` examples in total; return a mask of examples, [n]."""
    group_ids, sizes = groups.unique(return_counts=True)
    order = torch.randperm(len(group_ids), generator=rng.stream("split").shared_generator())
    if num_held_out == 0 or len(group_ids) < 2:
        return torch.zeros(len(groups), dtype=torch.bool)
    num_groups = int((sizes[order].cumsum(0) - num_held_out).abs().argmin()) + 1
    return torch.isin(groups, group_ids[order[: min(num_groups, len(group_ids) - 1)]])


def _place(given: Cond, order: Tensor) -> Tensor:
    """Return, for each entry of the permutation `order`, its relative rank in (0, 1) among the entries of its class.

    The entries with the lowest ranks are held out, so every class is held out in the same proportion.
    """
    labels = given["label"][order] if "label" in given else torch.zeros_like(order)
    rank = torch.empty(len(order), dtype=torch.float64)
    for class_id in labels.unique():
        members = (labels == class_id).nonzero()[:, 0]
        rank[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return rank
