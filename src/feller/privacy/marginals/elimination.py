"""In which order the columns of a graphical model are summed out, and what that costs."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

Clique = tuple[int, ...]
"""Columns, by number, that share a table."""


@dataclass(frozen=True)
class Bucket:
    """A column that is summed out, and the columns that are still there and share a table with it."""

    column: int
    parents: Clique
    """Those summed out later, the last one first."""

    @property
    def scope(self) -> Clique:
        """The axes of its table."""
        return (*self.parents, self.column)


@dataclass(frozen=True)
class Elimination:
    """Buckets in their order: each sends its sum to the bucket of the last of its parents."""

    buckets: tuple[Bucket, ...]
    cells: int
    """Entries of all tables together: the memory and the time of one pass."""


def eliminate(
    counts: Sequence[int],
    cliques: Iterable[Collection[int]],
    columns: Collection[int] | None = None,
    keep: Collection[int] = (),
) -> Elimination:
    """Choose an order greedily: next is always the column whose table is smallest, of equals the first.

    Args:
        counts: Levels of each column, by its number.
        cliques: Which columns share a table.
        columns: The columns to sum out; by default all.
        keep: Columns that stay, and share a table in the end; they are parents, in this order, but have no bucket.
    """
    remaining = set(range(len(counts)) if columns is None else columns) - set(keep)
    neighbours: dict[int, set[int]] = {column: set() for column in (*remaining, *keep)}
    for clique in (*cliques, keep):
        for column in clique:
            neighbours[column].update(clique)
    for column, others in neighbours.items():
        others.discard(column)

    def size(column: int) -> int:
        return counts[column] * math.prod(counts[other] for other in neighbours[column])

    sizes = {column: size(column) for column in sorted(remaining)}
    order, found, cells = [], [], 0
    while sizes:
        column = min(sizes, key=sizes.__getitem__)
        cells += sizes.pop(column)
        others = neighbours.pop(column)
        order.append(column)
        found.append(others)
        for other in others:
            neighbours[other] |= others
            neighbours[other] -= {other, column}
        for other in others & sizes.keys():
            sizes[other] = size(other)
    rank = {column: i for i, column in enumerate((*keep, *reversed(order)))}
    buckets = (Bucket(c, tuple(sorted(others, key=rank.__getitem__))) for c, others in zip(order, found, strict=True))
    return Elimination(tuple(buckets), cells)
