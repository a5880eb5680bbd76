"""How alike the columns of two tables are and what they tell of each other, and whether rows are allowed at all."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.evaluation.tables.marginal_distance import pair_errors

Rules = Callable[[Int64[Tensor, "n k"]], Bool[Tensor, " n"]]
"""Codes -> which rows keep to what must hold between columns."""


def column_shapes(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> Float64[np.ndarray, " k"]:
    """Return for each column 1 - its Kolmogorov-Smirnov distance where codes have an order, else 1 - total variation.

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
    """Return Pearson's correlation of the codes of each pair of columns; 0 where one of them does not vary."""
    values = codes.double()
    centred = values - values.mean(0)
    spread = centred.norm(dim=0)
    directions = centred / torch.where(spread > 0, spread, 1)
    return (directions.T @ directions).clamp(-1, 1).numpy()


def pair_trends(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> Float64[np.ndarray, "k k"]:
    """Return for each pair 1 - |difference of correlations| / 2 where both have an order, else 1 - total variation.

    Source: CorrelationSimilarity and ContingencySimilarity of SDMetrics.
    """
    numbers = np.array(ordered, dtype=bool)
    by_order = 1 - np.abs(correlations(synthetic) - correlations(real)) / 2
    return np.where(np.logical_and.outer(numbers, numbers), by_order, 1 - pair_errors(synthetic, real))


def mean_pair_trend(trends: Float64[np.ndarray, "k k"]) -> float | None:
    """Return the mean over pairs of different columns; None of one column."""
    return trends[np.triu_indices(len(trends), 1)].mean().item() if len(trends) > 1 else None


def correlation_difference(
    synthetic: Int64[Tensor, "n k"], real: Int64[Tensor, "m k"], ordered: Sequence[bool]
) -> float | None:
    """Return the mean |difference of correlations| over pairs of ordered columns; None if there is no such pair."""
    apart = np.abs(correlations(synthetic) - correlations(real))
    pairs = list(itertools.combinations([j for j, is_ordered in enumerate(ordered) if is_ordered], 2))
    return float(np.mean([apart[pair] for pair in pairs])) if pairs else None


def inside(codes: Int64[Tensor, "n k"], counts: Sequence[int]) -> Bool[Tensor, "n k"]:
    """Tell which codes stand for a value of their column: 0 to its count - 1."""
    return (codes >= 0) & (codes < torch.tensor(counts, device=codes.device))


def valid_share(codes: Int64[Tensor, "n k"], counts: Sequence[int], rules: Rules | None = None) -> float:
    """Return the share of rows whose codes all stand for a value and which keep to the rules."""
    valid = inside(codes, counts).all(1)
    if rules is not None and valid.any():
        valid = valid.masked_scatter(valid, rules(codes[valid]))
    return valid.double().mean().item()
