"""Similarity of tables: total variation between k-way marginals, column shapes and pair trends."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.core.rng import Rng

Columns = tuple[int, ...]
DENSE = 4
"""Maximum number of cells per data row up to which all cells of a contingency table are stored; larger contingency
tables store only the cells that occur."""
MAX_COLUMN_SETS = 10_000
"""Maximum number of compared sets of columns; if there are more, a random selection is used. 40 columns have 9,880
triples."""
MANY_COLUMNS, PAIRS = 30, 200
"""Number of columns from which the k-marginal score uses random pairs of columns instead of all pairs, and number of
these random pairs."""


def column_sets(k: int, size: int, rng: Rng) -> list[Columns]:
    """Return all subsets of `size` out of k columns in order, or MAX_COLUMN_SETS random ones if there are more."""
    return _chosen(k, size, MAX_COLUMN_SETS, rng)


def score_pairs(k: int, rng: Rng) -> list[Columns]:
    """Return the column pairs of the k-marginal score: PAIRS random pairs if k is at least MANY_COLUMNS, else all."""
    return _chosen(k, 2, math.comb(k, 2) if k < MANY_COLUMNS else PAIRS, rng)


def _chosen(k: int, size: int, max_sets: int, rng: Rng) -> list[Columns]:
    if math.comb(k, size) <= max_sets:
        return list(itertools.combinations(range(k), size))
    tries, found, step = rng.fold_in("column sets", size), set[Columns](), 0
    while len(found) < max_sets:
        rows = tries.stream("columns", step).randint(k, (max_sets, size)).sort(1).values.tolist()
        fresh = [one for row in rows if len(one := tuple(row)) == len(set(row))]
        found.update(list(dict.fromkeys(one for one in fresh if one not in found))[: max_sets - len(found)])
        step += 1
    return sorted(found)


def total_variations(
    tables: Sequence[Int64[Tensor, "_ k"]], pairs: Sequence[tuple[int, int]], sets: Sequence[Columns]
) -> Float64[np.ndarray, "pairs sets"]:
    """Return the total variation between the marginals of two tables, for each pair of tables and each column set.

    Source: the k-marginal metric of NIST's collaborative research cycle, 500 (2 - L1) on its scale.

    Args:
        tables: Tables of category indices from 0, each with at least one row.
        pairs: Pairs of indices of the tables to compare.
        sets: Sets of columns; sorted sets are faster, since common prefixes are computed once.
    """
    ends = np.cumsum([0, *map(len, tables)])
    columns = np.ascontiguousarray(torch.cat(list(tables)).cpu().numpy().T)
    apart = np.empty((len(pairs), len(sets)))
    for s, (cell, number) in enumerate(cell_numbers(columns, sets)):
        shares = [np.bincount(cell[a:b], minlength=number) / (b - a) for a, b in itertools.pairwise(ends.tolist())]
        apart[:, s] = [np.abs(shares[a] - shares[b]).sum() / 2 for a, b in pairs]
    return apart.clip(max=1.0)  # rounding may exceed 1


def cell_numbers(
    columns: Int64[np.ndarray, "k n"], sets: Sequence[Columns]
) -> Iterator[tuple[Int64[np.ndarray, " n"], int]]:
    """Yield, for each set of columns, each row's cell index in the contingency table, and the number of cells."""
    counts = (columns.max(1) + 1).tolist()
    prefix_stack: list[tuple[Columns, np.ndarray, int]] = [((), np.zeros(columns.shape[1], np.int64), 1)]
    for one in sets:
        while prefix_stack[-1][0] != one[: len(prefix_stack) - 1]:
            prefix_stack.pop()
        for j in one[len(prefix_stack) - 1 :]:
            before, cell, number = prefix_stack[-1]
            prefix_stack.append(((*before, j), *_joined(cell, number, columns[j], counts[j])))
        yield prefix_stack[-1][1:]


def _joined(
    cell: Int64[np.ndarray, " n"], number: int, column: Int64[np.ndarray, " n"], count: int
) -> tuple[Int64[np.ndarray, " n"], int]:
    """Extend cell indices by a column; if cells far outnumber rows, index only occurring cells."""
    both = cell * count + column
    if number * count <= DENSE * len(both):
        return both, number * count
    occurring, both = np.unique(both, return_inverse=True)
    return both, len(occurring)


def k_marginal_score(synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], rng: Rng) -> float | None:
    """Return the k-marginal score 1000 (1 - mean total variation of column pairs); None for a single column."""
    pairs = score_pairs(real.shape[1], rng)
    return 1000 * (1 - total_variations([synthetic, real], [(0, 1)], pairs).mean().item()) if pairs else None


def pair_errors(synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"]) -> Float64[np.ndarray, "k k"]:
    """Return the total variation between two tables for each pair of columns; single columns are on the diagonal."""
    k = real.shape[1]
    errors = np.zeros((k, k))
    for size in (1, 2):
        for one, value in zip(
            sets := list(itertools.combinations(range(k), size)),
            total_variations([synthetic, real], [(0, 1)], sets)[0],
            strict=True,
        ):
            errors[one[0], one[-1]] = errors[one[-1], one[0]] = value
    return errors


Rules = Callable[[Int64[Tensor, "n k"]], Bool[Tensor, " n"]]
"""Function from the category indices of rows to True for each row that satisfies the rules between columns."""


def column_shapes(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> Float64[np.ndarray, " k"]:
    """Return each column's similarity: 1 - Kolmogorov-Smirnov distance for ordered columns, else 1 - total variation.

    Source: KSComplement and TVComplement of SDMetrics.
    """
    alike = []
    for j, is_ordered in enumerate(ordered):
        number = int(torch.maximum(synthetic[:, j].max(), real[:, j].max())) + 1
        a, b = (table[:, j].bincount(minlength=number).double() / len(table) for table in (synthetic, real))
        apart = (a - b).cumsum(0).abs().max() if is_ordered else (a - b).abs().sum() / 2
        alike.append(1 - apart.item())
    return np.array(alike).clip(0, 1)


def correlations(codes: Int64[Tensor, "n k"]) -> Float64[np.ndarray, "k k"]:
    """Return the Pearson correlations between columns of category indices; 0 for constant columns."""
    values = codes.double()
    centred = values - values.mean(0)
    spread = centred.norm(dim=0)
    directions = centred / torch.where(spread > 0, spread, 1)
    return (directions.T @ directions).clamp(-1, 1).numpy()


def pair_trends(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> Float64[np.ndarray, "k k"]:
    """Return pair similarities: 1 - |correlation difference| / 2 for two ordered columns, else 1 - total variation.

    Source: CorrelationSimilarity and ContingencySimilarity of SDMetrics.
    """
    numbers = np.array(ordered, dtype=bool)
    by_order = 1 - np.abs(correlations(synthetic) - correlations(real)) / 2
    return np.where(np.logical_and.outer(numbers, numbers), by_order, 1 - pair_errors(synthetic, real))


def mean_pair_trend(trends: Float64[np.ndarray, "k k"]) -> float | None:
    """Return the mean pair trend over pairs of different columns; None for a single column."""
    return trends[np.triu_indices(len(trends), 1)].mean().item() if len(trends) > 1 else None


def correlation_difference(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> float | None:
    """Return the mean |correlation difference| over pairs of ordered columns; None without pairs of ordered columns."""
    apart = np.abs(correlations(synthetic) - correlations(real))
    pairs = list(itertools.combinations([j for j, is_ordered in enumerate(ordered) if is_ordered], 2))
    return float(np.mean([apart[pair] for pair in pairs])) if pairs else None


def is_valid_code(codes: Int64[Tensor, "n k"], counts: Sequence[int]) -> Bool[Tensor, "n k"]:
    """Return True for category indices of column j from 0 to counts[j] - 1."""
    return (codes >= 0) & (codes < torch.tensor(counts, device=codes.device))


def valid_fraction(codes: Int64[Tensor, "n k"], counts: Sequence[int], rules: Rules | None = None) -> float:
    """Return the fraction of rows in which all category indices are valid and all rules between columns hold."""
    valid = is_valid_code(codes, counts).all(1)
    if rules is not None and valid.any():
        valid = valid.masked_scatter(valid, rules(codes[valid]))
    return valid.double().mean().item()
