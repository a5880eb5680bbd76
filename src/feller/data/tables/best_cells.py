"""Best guesses of cells from the probabilities of their codes: mode, median, quantiles and mean."""

import numpy as np
from jaxtyping import Float64, Int64

from feller.data.tables.bins import Bins
from feller.data.tables.column import ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical_column import Numerical

GRID = 256
"""Number of positions within a code over which its mean is computed."""
Guess = tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]
"""Code of each cell, and the number in [0, 1) that selects its value within the code."""


def present_probs(probs: Float64[np.ndarray, "n codes"], column: ModelledColumn) -> Float64[np.ndarray, "n values"]:
    """Return the probabilities of all values given that the cell is not missing, [n, values]; 0 if always missing."""
    values = probs[:, : column.num_values]
    total = values.sum(1, keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def best_guess(probs: Float64[np.ndarray, "n codes"], column: ModelledColumn) -> Guess:
    """Return the median of numbers and times, and the mode of other cells.

    A cell that is missing with probability 1 gets the code of missing cells.
    """
    return quantile(probs, column, 0.5) if column.is_ordered else mode(probs, column)


def mode(probs: Float64[np.ndarray, "n codes"], column: ModelledColumn) -> Guess:
    """Return the most likely value of each cell."""
    values = present_probs(probs, column)
    codes = np.where(values.sum(1) > 0, values.argmax(1), column.num_values)
    return codes, np.full(len(codes), 0.5)


def quantile(probs: Float64[np.ndarray, "n codes"], column: ModelledColumn, level: float) -> Guess:
    """Return the quantile of each cell of an ordered column; values are uniform within their code."""
    values = present_probs(probs, column)
    cumulative = values.cumsum(1)
    codes = (cumulative < level - 1e-12).sum(1).clip(max=column.num_values - 1)
    rows = np.arange(len(codes))
    mass = values[rows, codes]
    below = cumulative[rows, codes] - mass
    uniforms = np.divide(level - below, mass, out=np.full(len(codes), 0.5), where=mass > 0)
    codes = np.where(values.sum(1) > 0, codes, column.num_values)
    return codes, uniforms.clip(0, 1 - 2**-53)


def mean_units(probs: Float64[np.ndarray, "n codes"], column: ModelledColumn) -> Float64[np.ndarray, " n"]:
    """Return the mean of each cell of an ordered column, in units of its last decimal or its finest time; or NaN."""
    values = present_probs(probs, column)
    means = values @ code_means(column)
    return np.where(values.sum(1) > 0, means, np.nan)


def mean_guess(probs: Float64[np.ndarray, "n codes"], column: ModelledColumn) -> Guess:
    """Return the cell nearest to the mean of each cell of an ordered column; the mode of other cells."""
    if not column.is_ordered:
        return mode(probs, column)
    means = mean_units(probs, column)
    levels = _levels(column)
    is_number = ~np.isnan(means)
    units = np.where(is_number, np.rint(means), levels.starts[0]).astype(np.int64)
    units = units.clip(levels.starts[0], levels.last)
    if isinstance(column, Numerical) and column.digits:
        return np.where(is_number, units - levels.starts[0], column.num_values), np.full(len(units), 0.5)
    codes = levels.codes(units)
    nearest = np.abs(units[:, None] - code_means(column)).argmin(1)  # for numbers that do not occur
    codes = np.where(codes < 0, nearest, codes)
    spans = np.array([levels.span(code) for code in range(levels.count)])[codes]
    uniforms = levels.middles(codes, units.clip(spans[:, 0], spans[:, 1]))
    return np.where(is_number, codes, column.num_values), uniforms


def code_means(column: ModelledColumn) -> Float64[np.ndarray, " values"]:
    """Return the mean of the integers that each code of an ordered column stands for."""
    levels = _levels(column)
    if isinstance(column, Numerical) and column.digits:
        return np.arange(levels.starts[0], levels.last + 1, dtype=np.float64)
    positions = (np.arange(GRID) + 0.5) / GRID
    means = [levels.draw(np.full(GRID, code), positions).mean() for code in range(levels.count)]
    return np.array(means)


def _levels(column: ModelledColumn) -> Bins:
    if not isinstance(column, Numerical | Datetime):
        raise TypeError(f"{column.name} has no order")
    return column.levels
