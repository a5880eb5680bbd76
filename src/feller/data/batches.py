"""Batches by their number: one endless sequence of permutations, cut into equal pieces."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves, length, tree_map
from feller.core.rng import Draw, Draws
from feller.data.ahead import Ahead
from feller.data.modality import Dataset
from feller.data.stream import Pieces

Batch = dict[str, Any]
"""`x_1`, the encoded state, and `given`, its conditions; `x_0` too, where the examples are pairs, and `target`, [b, k],
where something is to be told of them."""

MEMORY = 2**30
"""Bytes up to which all examples are encoded once, up front."""


TOGETHER = 16
"""Batches of an epoch whose examples are sorted by length together."""


def batches(
    dataset: Dataset, size: int, draws: Draws, lengths: Int64[Tensor, " n"] | None = None
) -> Callable[[int, slice], Batch]:
    """Return what gives the rows of a step's batch, encoded; arguments and errors as for `shuffled`."""
    if dataset.stream is not None:
        return _streamed(dataset, size, draws)
    encode = dataset.modality.encode
    wanted = {} if dataset.target is None else {"target": dataset.wanted(dataset.target)}
    if sum(leaf.numel() * 4 for leaf in leaves(dataset.values)) <= MEMORY:
        return shuffled({"x_1": encode(dataset.values), "given": dataset.given, **wanted}, size, draws, lengths)
    raw = shuffled({"x_1": dataset.values, "given": dataset.given, **wanted}, size, draws, lengths)

    def batch(step: int, rows: slice) -> Batch:
        found = raw(step, rows)
        return {**found, "x_1": encode(found["x_1"])}

    return batch


def _streamed(dataset: Dataset, size: int, draws: Draws) -> Callable[[int, slice], Batch]:
    """Return the same of examples that are read as they are needed, in the order that they would have in memory.

    The order is one of numbers, so that nothing has to be read again to go on at a step.
    """
    pieces = None if dataset.stream is None else dataset.stream.pieces
    order = shuffled({"number": torch.arange(dataset.total)}, size, draws, pieces=pieces)

    def batch(step: int, rows: slice) -> Batch:
        numbers = order(step, rows)["number"]
        some = dataset.numbered(numbers if len(numbers) else torch.zeros(1, dtype=torch.long))
        found = {"x_1": some.modality.encode(some.values), "given": some.given}
        return found if len(numbers) else tree_map(lambda leaf: leaf[:0], found)

    return Ahead(batch)


def shuffled(
    examples: Batch,
    size: int,
    draws: Draws,
    lengths: Int64[Tensor, " n"] | None = None,
    *,
    pieces: Pieces | None = None,
) -> Callable[[int, slice], Batch]:
    """Return what gives the rows of a step's batch: every example comes once an epoch.

    What a step holds depends on its number only, so that a resumed run and any number of processes see the same.

    Args:
        examples: A tree with one entry per example, at least one.
        size: Examples in a batch over all processes; may exceed the number of examples.
        draws: Source of the order.
        lengths: Of the examples, where those of a batch are to have about the same, because padding costs time; by
            default they do not matter.
        pieces: Of files that are read as wholes, where only a few of them should be needed at once.

    Returns:
        A function of the step, from 0, and of the rows of the batch that this process takes.

    Raises:
        InputError: If there is no example.
        UsageError: If the size is below 1.
    """
    n = length(examples)
    if n == 0:
        raise InputError("expected at least one example to train on, got none")
    if size < 1:
        raise UsageError(f"expected batches of at least 1 example, got {size}")

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        draw = draws.at("order", epoch)
        order = torch.randperm(n, generator=draw.shared())
        order = order if pieces is None else _piece_by_piece(order, pieces, draw)
        return order if lengths is None else _alike(order, lengths, size, -epoch * n % size, draws.at("alike", epoch))

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


def _piece_by_piece(order: Int64[Tensor, " n"], pieces: Pieces, draw: Draw) -> Int64[Tensor, " n"]:
    """Keep the order among examples of a few pieces, and put these before those of the next few, drawn at random.

    Where all pieces fit together, the order is what it was.
    """
    of = pieces.of.long()
    names = of.unique()
    place = torch.empty(int(names[-1]) + 1, dtype=torch.long)
    place[names] = torch.randperm(len(names), generator=draw.shared())
    window = place[of[order]] // pieces.together
    return order[window.argsort(stable=True)]


def _alike(
    order: Int64[Tensor, " n"], lengths: Int64[Tensor, " n"], size: int, first: int, draw: Draw
) -> Int64[Tensor, " n"]:
    """Sort pieces of an order by length, and shuffle their batches; the first examples fill up a batch before."""
    rest = order[first:]
    whole = len(rest) // size * size
    pieces = [piece[lengths[piece].argsort(stable=True)] for piece in rest[:whole].split(TOGETHER * size)]
    rows = torch.cat([order[:0], *pieces]).reshape(-1, size)
    rows = rows[torch.randperm(len(rows), generator=draw.shared())]
    return torch.cat([order[:first], rows.reshape(-1), rest[whole:]])
