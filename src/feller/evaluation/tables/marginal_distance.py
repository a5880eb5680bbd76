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
    sets_rng, chosen, step = rng.fold_in("column sets", size), set[Columns](), 0
    while len(chosen) < max_sets:
        candidates = sets_rng.stream("columns", step).randint(k, (max_sets, size)).sort(1).values.tolist()
        valid = [subset for row in candidates if len(subset := tuple(row)) == len(set(row))]
        chosen.update(list(dict.fromkeys(subset for subset in valid if subset not in chosen))[: max_sets - len(chosen)])
        step += 1
    return sorted(chosen)


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
    offsets = np.cumsum([0, *map(len, tables)])
    columns = np.ascontiguousarray(torch.cat(list(tables)).cpu().numpy().T)
    distances = np.empty((len(pairs), len(sets)))
    for s, (cell, num_cells) in enumerate(cell_numbers(columns, sets)):
        probs = [np.bincount(cell[a:b], minlength=num_cells) / (b - a) for a, b in itertools.pairwise(offsets.tolist())]
        distances[:, s] = [np.abs(probs[a] - probs[b]).sum() / 2 for a, b in pairs]
    return distances.clip(max=1.0)  # rounding may exceed 1


def cell_numbers(
    columns: Int64[np.ndarray, "k n"], sets: Sequence[Columns]
) -> Iterator[tuple[Int64[np.ndarray, " n"], int]]:
    """Yield, for each set of columns, each row's cell index in the contingency table, and the number of cells."""
    counts = (columns.max(1) + 1).tolist()
    prefix_stack: list[tuple[Columns, np.ndarray, int]] = [((), np.zeros(columns.shape[1], np.int64), 1)]
    for column_set in sets:
        while prefix_stack[-1][0] != column_set[: len(prefix_stack) - 1]:
            prefix_stack.pop()
        for j in column_set[len(prefix_stack) - 1 :]:
            prefix, cell, num_cells = prefix_stack[-1]
            prefix_stack.append(((*prefix, j), *_joined(cell, num_cells, columns[j], counts[j])))
        yield prefix_stack[-1][1:]


def _joined(
    cell: Int64[np.ndarray, " n"], num_cells: int, column: Int64[np.ndarray, " n"], num_levels: int
) -> tuple[Int64[np.ndarray, " n"], int]:
    """Return cell indices in the contingency table with one more column, and the number of cells.

    If the table would be much larger than the number of rows, only occurring cells are numbered.
    """
    joint = cell * num_levels + column
    if num_cells * num_levels <= DENSE * len(joint):
        return joint, num_cells * num_levels
    occurring, joint = np.unique(joint, return_inverse=True)
    return joint, len(occurring)


def k_marginal_score(synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], rng: Rng) -> float | None:
    """Return the k-marginal score 1000 (1 - mean total variation of column pairs); None for a single column."""
    pairs = score_pairs(real.shape[1], rng)
    return 1000 * (1 - total_variations([synthetic, real], [(0, 1)], pairs).mean().item()) if pairs else None


def pair_errors(synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"]) -> Float64[np.ndarray, "k k"]:
    """Return the total variation between two tables for each pair of columns; single columns are on the diagonal."""
    k = real.shape[1]
    errors = np.zeros((k, k))
    for size in (1, 2):
        for column_set, value in zip(
            sets := list(itertools.combinations(range(k), size)),
            total_variations([synthetic, real], [(0, 1)], sets)[0],
            strict=True,
        ):
            errors[column_set[0], column_set[-1]] = errors[column_set[-1], column_set[0]] = value
    return errors


Rules = Callable[[Int64[Tensor, "n k"]], Bool[Tensor, " n"]]
"""Function from the category indices of rows to True for each row that satisfies the rules between columns."""


def column_shapes(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> Float64[np.ndarray, " k"]:
    """Return each column's similarity: 1 - Kolmogorov-Smirnov distance for ordered columns, else 1 - total variation.

    Source: KSComplement and TVComplement of SDMetrics.
    """
    similarities = []
    for j, is_ordered in enumerate(ordered):
        num_levels = int(torch.maximum(synthetic[:, j].max(), real[:, j].max())) + 1
        a, b = (table[:, j].bincount(minlength=num_levels).double() / len(table) for table in (synthetic, real))
        distance = (a - b).cumsum(0).abs().max() if is_ordered else (a - b).abs().sum() / 2
        similarities.append(1 - distance.item())
    return np.array(similarities).clip(0, 1)


def category_coverage(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> float | None:
    """Return the fraction of real categories that occur in synthetic rows, mean over unordered columns; None if none.

    Source: CategoryCoverage of SDMetrics.
    """
    shares = []
    for j in (j for j, is_ordered in enumerate(ordered) if not is_ordered):
        known = real[:, j].unique()
        shares.append(torch.isin(known, synthetic[:, j]).double().mean().item())
    return float(np.mean(shares)) if shares else None


def range_coverage(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> float | None:
    """Return the fraction of the range of real rows that synthetic rows span, mean over ordered columns; None if none.

    The range is counted in bins. Source: RangeCoverage of SDMetrics.
    """
    shares = []
    for j in (j for j, is_ordered in enumerate(ordered) if is_ordered):
        low, high = int(real[:, j].min()), int(real[:, j].max())
        overlap = min(high, int(synthetic[:, j].max())) - max(low, int(synthetic[:, j].min())) + 1
        shares.append(max(0, overlap) / (high - low + 1))
    return float(np.mean(shares)) if shares else None


def correlations(codes: Int64[Tensor, "n k"]) -> Float64[np.ndarray, "k k"]:
    """Return the Pearson correlations between columns of category indices; 0 for constant columns."""
    values = codes.double()
    centred = values - values.mean(0)
    norms = centred.norm(dim=0)
    directions = centred / torch.where(norms > 0, norms, 1)
    return (directions.T @ directions).clamp(-1, 1).numpy()


def pair_trends(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> Float64[np.ndarray, "k k"]:
    """Return pair similarities: 1 - |correlation difference| / 2 for two ordered columns, else 1 - total variation.

    Source: CorrelationSimilarity and ContingencySimilarity of SDMetrics.
    """
    is_ordered = np.array(ordered, dtype=bool)
    by_order = 1 - np.abs(correlations(synthetic) - correlations(real)) / 2
    return np.where(np.logical_and.outer(is_ordered, is_ordered), by_order, 1 - pair_errors(synthetic, real))


def mean_pair_trend(trends: Float64[np.ndarray, "k k"]) -> float | None:
    """Return the mean pair trend over pairs of different columns; None for a single column."""
    return trends[np.triu_indices(len(trends), 1)].mean().item() if len(trends) > 1 else None


def correlation_difference(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> float | None:
    """Return the mean |correlation difference| over pairs of ordered columns; None without pairs of ordered columns."""
    differences = np.abs(correlations(synthetic) - correlations(real))
    pairs = list(itertools.combinations([j for j, is_ordered in enumerate(ordered) if is_ordered], 2))
    return float(np.mean([differences[pair] for pair in pairs])) if pairs else None


def is_valid_code(codes: Int64[Tensor, "n k"], counts: Sequence[int]) -> Bool[Tensor, "n k"]:
    """Return True for category indices of column j from 0 to counts[j] - 1."""
    return (codes >= 0) & (codes < torch.tensor(counts, device=codes.device))


def valid_fraction(codes: Int64[Tensor, "n k"], counts: Sequence[int], rules: Rules | None = None) -> float:
    """Return the fraction of rows in which all category indices are valid and all rules between columns hold."""
    valid = is_valid_code(codes, counts).all(1)
    if rules is not None and valid.any():
        valid = valid.masked_scatter(valid, rules(codes[valid]))
    return valid.double().mean().item()
