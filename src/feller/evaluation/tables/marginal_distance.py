"""How far tables are apart in their columns, pairs and triples of columns (total variation of k-way marginals)."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.rng import Draws

Columns = tuple[int, ...]
DENSE = 4
"""Cells for each row up to which all are counted; beyond, only those that occur."""
MOST = 10_000
"""Sets of columns that are looked at, chosen at random where there are more: all triples of 40 columns are 9,880."""
BROAD, PAIRS = 30, 200
"""Columns from which the k-marginal score takes so many pairs instead of all."""


def column_sets(k: int, size: int, draws: Draws) -> list[Columns]:
    """Return all sets of so many of k columns in order, or MOST of them at random."""
    return _chosen(k, size, MOST, draws)


def score_pairs(k: int, draws: Draws) -> list[Columns]:
    """Return the pairs of the k-marginal score: all of fewer than BROAD columns, else PAIRS at random."""
    return _chosen(k, 2, math.comb(k, 2) if k < BROAD else PAIRS, draws)


def _chosen(k: int, size: int, most: int, draws: Draws) -> list[Columns]:
    if math.comb(k, size) <= most:
        return list(itertools.combinations(range(k), size))
    tries, found, step = draws.named("column sets", size), set[Columns](), 0
    while len(found) < most:
        rows = tries.at("columns", step).integers(k, (most, size)).sort(1).values.tolist()
        fresh = [one for row in rows if len(one := tuple(row)) == len(set(row))]
        found.update(list(dict.fromkeys(one for one in fresh if one not in found))[: most - len(found)])
        step += 1
    return sorted(found)


def variations(
    tables: Sequence[Int64[Tensor, "_ k"]], pairs: Sequence[tuple[int, int]], sets: Sequence[Columns]
) -> Float64[np.ndarray, "pairs sets"]:
    """Return half the sum over cells of the differences of two tables' shares, for each set of columns.

    Source: the k-marginal metric of NIST's collaborative research cycle, 500 (2 - L1) on its scale.

    Args:
        tables: Codes from 0, with one row or more each.
        pairs: Which two tables to compare.
        sets: Columns whose joint shares are compared, best in order: those that begin alike share work.
    """
    ends = np.cumsum([0, *map(len, tables)])
    columns = np.ascontiguousarray(torch.cat(list(tables)).cpu().numpy().T)
    apart = np.empty((len(pairs), len(sets)))
    for s, (cell, number) in enumerate(cells(columns, sets)):
        shares = [np.bincount(cell[a:b], minlength=number) / (b - a) for a, b in itertools.pairwise(ends.tolist())]
        apart[:, s] = [np.abs(shares[a] - shares[b]).sum() / 2 for a, b in pairs]
    return apart.clip(max=1.0)  # rounding adds up


def cells(columns: Int64[np.ndarray, "k n"], sets: Sequence[Columns]) -> Iterator[tuple[Int64[np.ndarray, " n"], int]]:
    """Number the combinations of codes in each set of columns: yield each row's number, and how many there are."""
    counts = (columns.max(1) + 1).tolist()
    begun: list[tuple[Columns, np.ndarray, int]] = [((), np.zeros(columns.shape[1], np.int64), 1)]
    for one in sets:
        while begun[-1][0] != one[: len(begun) - 1]:
            begun.pop()
        for j in one[len(begun) - 1 :]:
            before, cell, number = begun[-1]
            begun.append(((*before, j), *_joined(cell, number, columns[j], counts[j])))
        yield begun[-1][1:]


def _joined(
    cell: Int64[np.ndarray, " n"], number: int, column: Int64[np.ndarray, " n"], count: int
) -> tuple[Int64[np.ndarray, " n"], int]:
    """Add a column to a numbering; where there are many more cells than rows, only those that occur keep a number."""
    both = cell * count + column
    if number * count <= DENSE * len(both):
        return both, number * count
    kept, both = np.unique(both, return_inverse=True)
    return both, len(kept)


def k_marginal_score(synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], draws: Draws) -> float | None:
    """Return 1000 (1 - mean total variation of pairs): 1000 is perfect, 0 has nothing in common; None of one column."""
    pairs = score_pairs(real.shape[1], draws)
    return 1000 * (1 - variations([synthetic, real], [(0, 1)], pairs).mean().item()) if pairs else None


def pair_errors(synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"]) -> Float64[np.ndarray, "k k"]:
    """Return the total variation of each pair of columns, and on the diagonal that of each column."""
    k = real.shape[1]
    errors = np.zeros((k, k))
    for size in (1, 2):
        for one, value in zip(
            sets := list(itertools.combinations(range(k), size)),
            variations([synthetic, real], [(0, 1)], sets)[0],
            strict=True,
        ):
            errors[one[0], one[-1]] = errors[one[-1], one[0]] = value
    return errors
