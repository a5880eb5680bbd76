"""Weights of rows with which tables of a few columns are what was told of them, up to its noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.errors import InputError

TRUST = 10.0
"""Variance, in rows and for each row of noise, with which what was told may be missed: 1 is nearer to it, and noisier.

On Adult at epsilon 1 with half the budget in the tables, 10 is better than 3 and 30.
"""
STEPS, SLOPE = 200, 0.01
"""Quasi-Newton steps at most, and the slope of the dual that is left, each cell in units of the root of its count."""


@dataclass(frozen=True)
class Crosstab:
    """How many rows have each combination of codes of some columns, with noise."""

    columns: tuple[int, ...]
    levels: tuple[int, ...]
    """Of each of these columns."""
    counts: tuple[float, ...]
    """Rows in each cell, plus noise, the last column changing first; may be below 0."""
    sigma: float
    """Standard deviation of the noise of a cell, in rows."""

    def __post_init__(self) -> None:
        fits = 0 < len({*self.columns}) == len(self.columns) == len(self.levels) and min(self.columns) >= 0
        if not fits or math.prod(self.levels) != len(self.counts):
            raise InputError(f"expected a count for each of {self.levels} levels of columns, got {len(self.counts)}")
        if not (self.sigma > 0 and math.isfinite(self.sigma) and all(map(math.isfinite, self.counts))):
            raise InputError("expected finite counts, with noise above 0; the model is damaged")

    def cells(self, codes: Int64[Tensor, "m k"]) -> Int64[Tensor, " m"]:
        """Return the number of the cell that each row is in.

        Raises:
            InputError: If a row has a code that the table has not.
        """
        at = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
        for column, levels in zip(self.columns, self.levels, strict=True):
            code = codes[:, column]
            if len(code) and not 0 <= int(code.min()) <= int(code.max()) < levels:
                raise InputError(
                    f"expected codes of 0 to {levels - 1} in column {column}, got {int(code.min())} to"
                    f" {int(code.max())}; take rows of the table that was counted"
                )
            at = at * levels + code
        return at


def weights_within(
    codes: Int64[Tensor, "m k"], told: Sequence[Crosstab], total: float, trust: float = TRUST
) -> Float64[Tensor, " m"]:
    """Return weights, with sum 1, as even as what was told allows: where rows were right, they stay as they are.

    Least of sum |c - y|^2 / (2 trust sigma) + total * KL(weights | even), where c are the expected counts, total times
    the weight in each cell, and y those with noise. In the dual, (y - c) / (trust sigma) is what a cell adds to the
    logarithm of the weight of its rows; it is strongly concave, so no cell without rows or below 0 is in the way. It is
    the fit of a graphical model with rows that were drawn in the place of all that there could be.
    Source: Dudik, Phillips and Schapire 2007, "Maximum entropy density estimation with generalized regularization";
    with noise of 0 it is raking, Deming and Stephan 1940.

    Args:
        codes: Of the rows.
        told: Tables of some columns, each of which may come in several.
        total: Rows of the table that was counted, public.
        trust: See `TRUST`.
    """
    even, parts = np.full(len(codes), 1 / max(1, len(codes))), [table.cells(codes).cpu().numpy() for table in told]
    if not told:
        return torch.from_numpy(even).to(codes.device)
    sizes = [len(table.counts) for table in told]
    ends = np.cumsum(sizes)[:-1]
    goal = np.concatenate([np.array(table.counts) for table in told])
    ridge = np.concatenate([np.full(n, trust * table.sigma) for n, table in zip(sizes, told, strict=True)])
    scale = (goal.clip(0) + ridge + 1) ** -0.5

    def weigh(potentials: np.ndarray) -> tuple[np.ndarray, float]:
        logs = np.zeros(len(codes))
        for cell, part in zip(parts, np.split(potentials, ends), strict=True):
            logs += part[cell]
        most = logs.max()
        weights = np.exp(logs - most) * even
        return weights / weights.sum(), most + math.log(weights.sum())

    def dual(x: np.ndarray) -> tuple[float, np.ndarray]:
        potentials = x * scale
        weights, log_z = weigh(potentials)
        found = np.concatenate([np.bincount(cell, weights, n) for cell, n in zip(parts, sizes, strict=True)])
        value = total * log_z + float(potentials @ (0.5 * ridge * potentials - goal))
        return value, (total * found - goal + ridge * potentials) * scale

    limits = {"maxiter": STEPS, "maxcor": 20, "ftol": 0.0, "gtol": SLOPE}
    found = scipy.optimize.minimize(dual, np.zeros(len(goal)), jac=True, method="L-BFGS-B", options=limits)
    return torch.from_numpy(weigh(found.x * scale)[0]).to(codes.device)
