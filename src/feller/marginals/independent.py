"""Columns that know nothing of each other: the floor that every other model must be above."""

from collections.abc import Sequence

from torch import Tensor

from feller.marginals.estimate import Measurement, estimate
from feller.marginals.model import MarginalModel


def independent(counts: Sequence[int], one_way: Sequence[Tensor], sigma: float, total: float) -> MarginalModel:
    """Fit each column alone to its noisy counts.

    Args:
        counts: Levels of each column.
        one_way: Rows of each level, with noise.
        sigma: Standard deviation of the noise, in rows; a very small one for exact counts.
        total: Rows of the table, public.
    """
    return estimate(tuple(counts), [Measurement((j,), values, sigma) for j, values in enumerate(one_way)], total)
