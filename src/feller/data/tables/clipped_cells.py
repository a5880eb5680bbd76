"""Noisy fractions of clipped cells and of merged rare words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

MIN_SHARE = 0.02
"""Fraction of the rows above which clipping is reported."""
MIN_DEVIATIONS = 3.0
"""Threshold of a report, in standard deviations of the noise."""


@dataclass(frozen=True)
class ClippedCells:
    """Report of a column with many cells outside its bounds, which are clipped or read as missing."""

    column: str
    first: str
    """Lower bound as text; `last` is the upper bound."""
    last: str
    fraction: float
    """Noisy fraction of the rows outside the bounds."""


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
    """Compare the noisy count of cells within the bounds to that of all non-missing cells; None if few are outside.

    `inside` is a sum of `terms` noisy counts, each with Gaussian noise of standard deviation `sigma`; the table has n
    rows.
    """
    written = [count for kind, count in class_counts.items() if kind != "missing"]
    outside = sum(written) - inside
    if outside <= max(MIN_SHARE * n, MIN_DEVIATIONS * sigma * math.sqrt(terms + len(written))):
        return None
    return ClippedCells(column, *bounds, min(outside / n, 1.0))


MIN_DEVIATIONS_OF_WORDS = 2.0
"""Threshold above which the fraction of other words is reported, in standard deviations of the noise."""


@dataclass(frozen=True)
class KeptWords:
    """Report of the words of a column that a private schema search released; the others become `other`."""

    column: str
    words: int
    """Number of released words."""
    other: str
    """Replacement of the other words."""
    other_fraction: float | None
    """Noisy fraction of cells with other words; None if it is not significant."""
    rows: float
    """Threshold on the noisy count of a word; public."""


def kept_words(
    column: str, words: Mapping[str, float], other: str, total: float, *, n: int, sigma: float, threshold: float
) -> KeptWords:
    """Compare the noisy counts of a column's words to the noisy count `total` of all its text cells.

    Words with a noisy count of at least `threshold` were released, the others become `other`. Each count has Gaussian
    noise of standard deviation `sigma`; the table has n rows.
    """
    others = total - sum(words.values())
    sure = others > MIN_DEVIATIONS_OF_WORDS * sigma * math.sqrt(1 + len(words))
    return KeptWords(column, len(words), other, min(others / n, 1.0) if sure else None, threshold)
