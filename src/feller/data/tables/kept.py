"""What becomes of words that a private search did not keep, told by the noisy counts that it has paid for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

SURE_OF_SHARES = 2.0
"""Deviations of the noise above which other words are told of by their share."""


@dataclass(frozen=True)
class Kept:
    """The words of one column that a search kept; all others are read as `other`."""

    column: str
    words: int
    """How many were kept."""
    other: str
    """What stands for the others."""
    share: float | None
    """Of the cells that have other words, by noisy counts; None where noise hides whether any has."""
    rows: float
    """Noisy count from which a word is kept; public."""


def kept(
    column: str, words: Mapping[str, float], other: str, of: float, *, n: int, sigma: float, threshold: float
) -> Kept:
    """Compare the noisy counts of the words of a column with the noisy count of all its cells that hold words.

    Args:
        column: Its name.
        words: Those that are kept, with their noisy counts.
        other: What stands for the others.
        of: Noisy count of the cells with words.
        n: Rows of the table.
        sigma: Deviation of the noise of each count, in rows.
        threshold: Noisy count from which words are kept.
    """
    others = of - sum(words.values())
    sure = others > SURE_OF_SHARES * sigma * math.sqrt(1 + len(words))
    return Kept(column, len(words), other, min(others / n, 1.0) if sure else None, threshold)
