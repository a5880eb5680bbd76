"""Noisy shares of cells beyond private bounds, and of words that were not kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

MUCH = 0.02
"""Share of the rows from which what lies beyond is told of."""
SURE = 3.0
"""Deviations of the noise above which it is, of a count of each column."""


@dataclass(frozen=True)
class Beyond:
    """A column of which many cells lie beyond its bounds, or are read as missing."""

    column: str
    first: str
    """The bounds, as cells are written."""
    last: str
    share: float
    """Of the rows, by noisy counts."""


def beyond(
    column: str,
    bounds: tuple[str, str],
    inside: float,
    terms: int,
    look: Mapping[str | int, float],
    *,
    n: int,
    sigma: float,
) -> Beyond | None:
    """Compare the noisy count of the cells within bounds with that of all that are written; None where few lie beyond.

    What is `inside` is the sum of `terms` counts; the noise of each has the deviation sigma, in rows, of which there
    are n.
    """
    written = [count for kind, count in look.items() if kind != "missing"]
    outside = sum(written) - inside
    if outside <= max(MUCH * n, SURE * sigma * math.sqrt(terms + len(written))):
        return None
    return Beyond(column, *bounds, min(outside / n, 1.0))


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
    """Compare the noisy counts of the words of a column with the noisy count `of` all its cells that hold words.

    Words were kept from the noisy count `threshold`, and `other` stands for the others; sigma is the deviation of the
    noise of each count, in rows, of which there are n.
    """
    others = of - sum(words.values())
    sure = others > SURE_OF_SHARES * sigma * math.sqrt(1 + len(words))
    return Kept(column, len(words), other, min(others / n, 1.0) if sure else None, threshold)
