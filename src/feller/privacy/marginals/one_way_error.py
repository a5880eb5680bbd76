"""Computation of the expected error of noisy one-way marginals (value counts of single columns).

The error shows whether a privacy budget suffices for a table before any row is read.
"""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.ledger import describe_weakness
from feller.privacy.accounting.zcdp import rho_from_epsilon

ONE_WAY_FRACTION = 0.1
"""Fraction of the zCDP budget for one-way marginals."""
WARN_ERROR, MAX_ERROR = 0.1, 0.3


class SmallBudgetWarning(UserWarning):
    """Warning that a privacy budget is barely sufficient for a table."""


def one_way_sigma(epsilon: float, delta: float, columns: int, fraction: float = ONE_WAY_FRACTION) -> float:
    """Return the standard deviation of the noise on one-way counts, in rows.

    The counts of all columns together spend `fraction` of the zCDP budget that corresponds to (epsilon, delta).

    The L2 sensitivity of all counts is sqrt(columns), because a row is in one cell of each column.
    """
    check_number("columns", columns, ge=1)
    check_number("fraction", fraction, gt=0, le=1)
    return math.sqrt(columns / (2 * fraction * rho_from_epsilon(epsilon, delta)))


def one_way_error(sigma: float, counts: tuple[int, ...], n: int) -> float:
    """Return the expected total variation error of a noisy one-way marginal, averaged over the columns.

    Args:
        sigma: Standard deviation of the noise on a count, in rows.
        counts: Number of possible values of each column.
        n: Number of rows.
    """
    return 0.5 * sum(counts) / len(counts) * math.sqrt(2 / math.pi) * sigma / n


def check_budget(
    epsilon: float, delta: float, counts: tuple[int, ...], n: int, fraction: float = ONE_WAY_FRACTION
) -> float:
    """Return the expected total variation error of noisy one-way marginals; warn if the error is large.

    Args:
        epsilon: Privacy budget of the release.
        delta: Failure probability of the guarantee.
        counts: Number of possible values of each column.
        n: Number of rows.
        fraction: Fraction of the zCDP budget for one-way marginals.

    Raises:
        UsageError: If n is below 2, delta is not below 1 / n, or the error is too large; the message names the smallest
            sufficient epsilon.
    """
    if n < 2:
        raise UsageError("2 rows or more for differential privacy", n)
    if delta >= 1 / n:
        raise UsageError(
            f"below 1 / {n:,} (one over the number of rows)", f"{delta:g}", "Use 1 / n^1.1 or less", argument="delta"
        )
    error = _expected(epsilon, delta, counts, n, fraction)
    if error > MAX_ERROR:
        min_epsilon = _smallest(delta, counts, n, fraction)
        weakness = describe_weakness(min_epsilon)
        caveat = f" (an epsilon this large {weakness})" if weakness else ""
        raise UsageError(
            f"epsilon {epsilon:g} is too small for {n:,} rows of {len(counts)} columns with {sum(counts):,} values: "
            f"the noisy one-way marginals would have a total variation error of {error:.2f}",
            remedy=f"Use an epsilon of at least {min_epsilon:.2g}{caveat}, more rows, or fewer values",
        )
    if error > WARN_ERROR:
        warnings.warn(
            f"at epsilon {epsilon:g} the one-way marginals have a total variation error of about {error:.2f}; "
            f"raise epsilon or merge rare values",
            SmallBudgetWarning,
            stacklevel=2,
        )
    return error


def _expected(epsilon: float, delta: float, counts: tuple[int, ...], n: int, fraction: float) -> float:
    return one_way_error(one_way_sigma(epsilon, delta, len(counts), fraction), counts, n)


def _smallest(delta: float, counts: tuple[int, ...], n: int, fraction: float) -> float:
    """Return the smallest epsilon at which the expected error of one-way marginals is at most `MAX_ERROR`.

    It is rounded up to two digits. `fraction` is the part of the budget that is spent on these marginals.
    """
    low, high = 1e-6, 1.0
    while _expected(high, delta, counts, n, fraction) > MAX_ERROR:
        low, high = high, 2 * high
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _expected(middle, delta, counts, n, fraction) > MAX_ERROR else (low, middle)
    unit = 10.0 ** (math.floor(math.log10(high)) - 1)
    return math.ceil(high / unit) * unit


def project_to_simplex(shares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Project a vector onto the probability simplex.

    Source: Held, Wolfe and Crowder 1974, "Validation of subgradient optimization", section 3.
    """
    descending = shares.sort(descending=True).values
    thresholds = (descending.cumsum(0) - 1) / torch.arange(1, len(shares) + 1, dtype=shares.dtype, device=shares.device)
    last = int((descending > thresholds).nonzero()[-1])
    return (shares - thresholds[last]).clamp(min=0)
