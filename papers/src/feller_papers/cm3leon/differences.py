"""What two models, or two ways of asking one, differ by on the same documents."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import InputError
from feller_papers.claims import mean_of

Z_THRESHOLD = 3.0
"""Standard errors that a difference must be away from nothing: by chance once in 740 times."""
MIN_RATIO = 1.1
"""Factor between two FD-cnn that are called different: those of pictures drawn twice are within some percent."""


@dataclass(frozen=True)
class Difference:
    """A mean over documents, and its standard error."""

    mean: float
    error: float

    @property
    def significant(self) -> bool:
        """Whether it is above nothing by more than chance."""
        return self.mean > Z_THRESHOLD * self.error

    def __str__(self) -> str:
        return f"{self.mean:.3g} ± {self.error:.1g}"


def difference(ours: Float64[Tensor, " n"], other: Float64[Tensor, " n"]) -> Difference:
    """Return by how much the other is above ours, of the same documents.

    Raises:
        InputError: If they are not the same number, or fewer than two.
    """
    if len(ours) != len(other) or len(ours) < 2:
        raise InputError("two numbers for each of two documents or more", f"{len(ours)} and {len(other)}")
    apart = other - ours
    return Difference(apart.mean().item(), apart.std().item() / math.sqrt(len(apart)))


def proportion_difference(ours: float, other: float, n: int) -> Difference:
    """Return by how much one share of n pictures is above another share of as many others.

    The error is that of shares with one of n more on either side, so that none and all have one as well.
    """
    p = [(share * n + 1) / (n + 2) for share in (ours, other)]
    return Difference(ours - other, math.sqrt(sum(q * (1 - q) for q in p) / n))


def format_differences(seeds: Sequence[Difference]) -> str:
    """Return the differences of all seeds for people."""
    return ", ".join(map(str, seeds))


def format_column_means(rows: Sequence[Sequence[float]]) -> list[str]:
    """Return the mean of each column for people."""
    return [mean_of(column, 3) for column in zip(*rows, strict=True)]


def rank_correlation(values: Sequence[float]) -> float:
    """Return Spearman's correlation of numbers with their order: 1 where each is above the one before it.

    Raises:
        InputError: If there are fewer than two.
    """
    if len(values) < 2:
        raise InputError("two numbers or more", len(values), "Ask for more")
    order = sorted(values)
    ranks = [statistics.fmean(i for i, x in enumerate(order) if x == value) for value in values]
    if len({*ranks}) == 1:
        return 0.0
    return statistics.correlation(ranks, [float(i) for i in range(len(values))])


def has_interior_minimum(values: Sequence[float]) -> bool:
    """Tell whether the least of some numbers stands neither first nor last, and is clearly less than both of these."""
    return MIN_RATIO * min(values) <= min(values[0], values[-1])
