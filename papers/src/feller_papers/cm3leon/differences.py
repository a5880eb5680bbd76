"""Paired differences, and formatting of results."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import InputError
from feller_papers.claims import mean_of

Z_THRESHOLD = 3.0
"""Standard errors for significance: p = 1 / 740, one-sided."""
MIN_RATIO = 1.1
"""Smallest ratio of two FD-cnn that count as different; repeated sampling varies by some percent."""


@dataclass(frozen=True)
class Difference:
    """Mean over documents, and its standard error."""

    mean: float
    error: float

    @property
    def significant(self) -> bool:
        """True if the mean is significantly above 0."""
        return self.mean > Z_THRESHOLD * self.error

    def __str__(self) -> str:
        return f"{self.mean:.3g} ± {self.error:.1g}"


def difference(ours: Float64[Tensor, " n"], other: Float64[Tensor, " n"]) -> Difference:
    """Return the paired difference `other - ours`.

    Raises:
        InputError: If the lengths differ, or are below two.
    """
    if len(ours) != len(other) or len(ours) < 2:
        raise InputError("two numbers for each of two documents or more", f"{len(ours)} and {len(other)}")
    apart = other - ours
    return Difference(apart.mean().item(), apart.std().item() / math.sqrt(len(apart)))


def proportion_difference(ours: float, other: float, n: int) -> Difference:
    """Return the difference `ours - other` of two proportions of n samples each.

    The standard error is that of proportions with one success and one failure added, so that it is never 0.
    """
    p = [(share * n + 1) / (n + 2) for share in (ours, other)]
    return Difference(ours - other, math.sqrt(sum(q * (1 - q) for q in p) / n))


def format_differences(seeds: Sequence[Difference]) -> str:
    """Return the formatted differences of all seeds."""
    return ", ".join(map(str, seeds))


def format_column_means(rows: Sequence[Sequence[float]]) -> list[str]:
    """Return the formatted mean of each column."""
    return [mean_of(column, 3) for column in zip(*rows, strict=True)]


def rank_correlation(values: Sequence[float]) -> float:
    """Return Spearman's correlation of values with their index; 1 if increasing.

    Raises:
        InputError: If there are fewer than two values.
    """
    if len(values) < 2:
        raise InputError("two numbers or more", len(values), "Ask for more")
    order = sorted(values)
    ranks = [statistics.fmean(i for i, x in enumerate(order) if x == value) for value in values]
    if len({*ranks}) == 1:
        return 0.0
    return statistics.correlation(ranks, [float(i) for i in range(len(values))])


def has_interior_minimum(values: Sequence[float]) -> bool:
    """Return whether the minimum is inside the range, and below both ends by `MIN_RATIO`."""
    return MIN_RATIO * min(values) <= min(values[0], values[-1])
