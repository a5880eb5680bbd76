"""Error of noisy one-way marginals, by which a budget is judged before any row is read."""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.ledger import describe_weakness
from feller.privacy.accounting.zcdp import rho_from_epsilon

ONE_WAY_FRACTION = 0.1
"""Of the budget, in rho, that the one-way counts take."""
WARN_ERROR, MAX_ERROR = 0.1, 0.3


class SmallBudgetWarning(UserWarning):
    """A budget is enough for a table, but barely."""


def one_way_sigma(epsilon: float, delta: float, columns: int, fraction: float = ONE_WAY_FRACTION) -> float:
    """Return the noise of each count, in rows, where all columns are counted at a share of the budget.

    A row is in one cell of each column, so the counts together have the sensitivity sqrt(columns).
    """
    check_number("columns", columns, ge=1)
    check_number("share", fraction, gt=0, le=1)
    return math.sqrt(columns / (2 * fraction * rho_from_epsilon(epsilon, delta)))


def one_way_error(sigma: float, counts: tuple[int, ...], n: int) -> float:
    """Return the expected total variation between a column's shares and its noisy ones, on average over the columns."""
    return 0.5 * sum(counts) / len(counts) * math.sqrt(2 / math.pi) * sigma / n


def check_budget(
    epsilon: float, delta: float, counts: tuple[int, ...], n: int, fraction: float = ONE_WAY_FRACTION
) -> float:
    """Return the expected error of the one-way counts; warn where the noise is large.

    Raises:
        UsageError: If delta is not below 1 / n, or the noise would drown the counts; says which epsilon is enough.
    """
    if n < 2:
        raise UsageError("a private run needs 2 rows or more", found=n)
    if delta >= 1 / n:
        raise UsageError(
            f"below 1 / {n:,}, the share of one row", f"{delta:g}", "Take 1 / n^1.1 or less", argument="delta"
        )
    error = _expected(epsilon, delta, counts, n, fraction)
    if error > MAX_ERROR:
        enough = _smallest(delta, counts, n, fraction)
        worth = describe_weakness(enough)
        but = f"; but an epsilon of {enough:.2g} {worth}, and protects hardly anybody" if worth else ""
        raise UsageError(
            f"epsilon {epsilon:g} is too small for {n:,} rows of {len(counts)} columns with {sum(counts):,} values: "
            f"even the share of each value would be wrong by {error:.2f} in total variation; "
            f"the smallest that works is {enough:.2g}{but}; more rows or fewer values help too"
        )
    if error > WARN_ERROR:
        warnings.warn(
            f"at epsilon {epsilon:g} the shares of single values are wrong by about {error:.2f} in total variation; "
            f"allow more, or merge rare values",
            SmallBudgetWarning,
            stacklevel=2,
        )
    return error


def _expected(epsilon: float, delta: float, counts: tuple[int, ...], n: int, fraction: float) -> float:
    return one_way_error(one_way_sigma(epsilon, delta, len(counts), fraction), counts, n)


def _smallest(delta: float, counts: tuple[int, ...], n: int, fraction: float) -> float:
    """Return the smallest epsilon that is not refused, rounded up to two digits."""
    low, high = 1e-6, 1.0
    while _expected(high, delta, counts, n, fraction) > MAX_ERROR:
        low, high = high, 2 * high
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _expected(middle, delta, counts, n, fraction) > MAX_ERROR else (low, middle)
    unit = 10.0 ** (math.floor(math.log10(high)) - 1)
    return math.ceil(high / unit) * unit


def project_to_simplex(shares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return the nearest numbers of 0 or more that add up to 1.

    Source: Held, Wolfe and Crowder 1974, "Validation of subgradient optimization", section 3.
    """
    falling = shares.sort(descending=True).values
    over = (falling.cumsum(0) - 1) / torch.arange(1, len(shares) + 1, dtype=shares.dtype, device=shares.device)
    last = int((falling > over).nonzero()[-1])
    return (shares - over[last]).clamp(min=0)
