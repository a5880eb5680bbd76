"""Greedy choice of the variable elimination order of a graphical model, and computation of its cost."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

Clique = tuple[int, ...]
"""Column indices of one table."""


@dataclass(frozen=True)
class Bucket:
    """Step of variable elimination: the column to sum out, and the columns (parents) that its message depends on.

    The parents share a table with the column at this step.
    """

    column: int
    parents: Clique
    """Neighbours that are eliminated later, in reverse order of elimination."""

    @property
    def scope(self) -> Clique:
        """Columns of the bucket's table, in the order of its axes."""
        return (*self.parents, self.column)


@dataclass(frozen=True)
class Elimination:
    """Variable elimination: buckets in the order in which their columns are summed out.

    Each bucket sends its message to the bucket of its last listed parent.
    """

    buckets: tuple[Bucket, ...]
    cells: int
    """Total number of entries of all tables, which determines memory and time of one pass."""


def eliminate(
    counts: Sequence[int],
    cliques: Iterable[Collection[int]],
    columns: Collection[int] | None = None,
    keep: Collection[int] = (),
) -> Elimination:
    """Choose an elimination order greedily: next is the column with the smallest table (in ties, the first column).

    Args:
        counts: Number of possible codes of each column.
        cliques: Columns of each table of the model.
        columns: Columns to eliminate (default: all).
        keep: Columns that are not eliminated and form a joint table; in `parents` they keep this order.
    """
    remaining = set(range(len(counts)) if columns is None else columns) - set(keep)
    neighbours: dict[int, set[int]] = {column: set() for column in (*remaining, *keep)}
    for clique in (*cliques, keep):
        for column in clique:
            neighbours[column].update(clique)
    for column, adjacent in neighbours.items():
        adjacent.discard(column)

    def num_cells(column: int) -> int:
        return counts[column] * math.prod(counts[neighbour] for neighbour in neighbours[column])

    sizes = {column: num_cells(column) for column in sorted(remaining)}
    order, parent_sets, cells = [], [], 0
    while sizes:
        column = min(sizes, key=sizes.__getitem__)
        cells += sizes.pop(column)
        adjacent = neighbours.pop(column)
        order.append(column)
        parent_sets.append(adjacent)
        for neighbour in adjacent:
            neighbours[neighbour] |= adjacent
            neighbours[neighbour] -= {neighbour, column}
        for neighbour in adjacent & sizes.keys():
            sizes[neighbour] = num_cells(neighbour)
    rank = {column: i for i, column in enumerate((*keep, *reversed(order)))}
    buckets = (
        Bucket(c, tuple(sorted(adjacent, key=rank.__getitem__))) for c, adjacent in zip(order, parent_sets, strict=True)
    )
    return Elimination(tuple(buckets), cells)
