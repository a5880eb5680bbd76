"""Noisy shares of cells beyond private bounds, and of words that were not kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

MIN_SHARE = 0.02
"""Share of the rows from which what lies beyond is told of."""
MIN_DEVIATIONS = 3.0
"""Deviations of the noise above which it is, of a count of each column."""


@dataclass(frozen=True)
class ClippedCells:
    """A column of which many cells lie beyond its bounds, or are read as missing."""

    column: str
    first: str
    """The bounds, as cells are written."""
    last: str
    fraction: float
    """Of the rows, by noisy counts."""


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
    """Compare the noisy count of the cells within bounds with that of all that are written; None where few lie beyond.

    What is `inside` is the sum of `terms` counts; the noise of each has the deviation sigma, in rows, of which there
    are n.
    """
    written = [count for kind, count in class_counts.items() if kind != "missing"]
    outside = sum(written) - inside
    if outside <= max(MIN_SHARE * n, MIN_DEVIATIONS * sigma * math.sqrt(terms + len(written))):
        return None
    return ClippedCells(column, *bounds, min(outside / n, 1.0))


MIN_DEVIATIONS_OF_WORDS = 2.0
"""Deviations of the noise above which other words are told of by their share."""


@dataclass(frozen=True)
class KeptWords:
    """The words of one column that a search kept; all others are read as `other`."""

    column: str
    words: int
    """How many were kept."""
    other: str
    """What stands for the others."""
    other_fraction: float | None
    """Of the cells that have other words, by noisy counts; None where noise hides whether any has."""
    rows: float
    """Noisy count from which a word is kept; public."""


def kept_words(
    column: str, words: Mapping[str, float], other: str, total: float, *, n: int, sigma: float, threshold: float
) -> KeptWords:
    """Compare the noisy counts of the words of a column with the noisy count `total` all its cells that hold words.

    Words were kept from the noisy count `threshold`, and `other` stands for the others; sigma is the deviation of the
    noise of each count, in rows, of which there are n.
    """
    others = total - sum(words.values())
    sure = others > MIN_DEVIATIONS_OF_WORDS * sigma * math.sqrt(1 + len(words))
    return KeptWords(column, len(words), other, min(others / n, 1.0) if sure else None, threshold)
