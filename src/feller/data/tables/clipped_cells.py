"""Reports on the noisy fraction of clipped cells in a column, and of rare words that are replaced by one word."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

MIN_SHARE = 0.02
"""Minimum fraction of rows with clipped cells for which a column is reported."""
MIN_DEVIATIONS = 3.0
"""Minimum noisy count of clipped cells for which a column is reported, in standard deviations of the noise."""


@dataclass(frozen=True)
class ClippedCells:
    """Report of a column with many cells outside of its bounds; these cells are clipped or read as missing."""

    column: str
    first: str
    """Lower bound of the column as text; `last` is the upper bound."""
    last: str
    fraction: float
    """Noisy fraction of the rows whose cell is outside of the bounds."""
    error: float = 0.0
    """Two standard deviations of the noise on `fraction`."""


def clipped_cells(
    column: str,
    bounds: tuple[str, str],
    inside: float,
    terms: int,
    class_counts: Mapping[str | int, float],
    *,
    n: int,
    sigma: float,
) -> ClippedCells | None:
    """Report a column if, by noisy counts, many non-missing cells are outside of its bounds; else None.

    Args:
        column: Name of the column.
        bounds: Lower and upper bound as texts.
        inside: Noisy count of the cells within the bounds.
        terms: Number of noisy counts that were summed to `inside`.
        class_counts: Noisy count of the cells of each type of content; `missing` is the type of missing cells.
        n: Number of rows of the table.
        sigma: Standard deviation of the Gaussian noise of each noisy count.
    """
    counts = [count for class_name, count in class_counts.items() if class_name != "missing"]
    outside, deviation = sum(counts) - inside, sigma * math.sqrt(terms + len(counts))
    if outside <= max(MIN_SHARE * n, MIN_DEVIATIONS * deviation):
        return None
    return ClippedCells(column, *bounds, min(outside / n, 1.0), 2 * deviation / n)


MIN_DEVIATIONS_OF_WORDS = 2.0
"""Minimum noisy count of unreleased words for which their fraction is reported, in standard deviations of the noise."""


@dataclass(frozen=True)
class KeptWords:
    """Report of the words of a column that a private schema search released; all other words become `other`."""

    column: str
    words: int
    """Number of released words."""
    other: str
    """Word that replaces all words that were not released."""
    other_fraction: float
    """Noisy fraction of cells whose word was not released."""
    rows: float
    """Minimum noisy count (a number of rows) of a released word; the threshold is public."""
    error: float = 0.0
    """Two standard deviations of the noise on `other_fraction`."""
