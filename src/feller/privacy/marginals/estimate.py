"""Maximum-entropy estimation of a graphical model from noisy marginals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_number
from feller.privacy.marginals.belief_propagation import BeliefPropagation
from feller.privacy.marginals.elimination import Clique, eliminate
from feller.privacy.marginals.marginal_model import AllowedCombinations, MarginalModel


@dataclass(frozen=True, eq=False)
class MarginalMeasurement:
    """Noisy counts of a marginal."""

    columns: Clique
    values: Float[Tensor, "..."]
    """Noisy count of each combination of codes, one axis per column; may be negative."""
    sigma: float
    """Standard deviation of the noise on each count, in rows."""


def merge(measurements: Sequence[MarginalMeasurement]) -> tuple[MarginalMeasurement, ...]:
    """Merge measurements of the same columns by inverse-variance weighting."""
    merged: dict[Clique, MarginalMeasurement] = {}
    for measurement in measurements:
        previous = merged.get(measurement.columns)
        if previous is not None:
            a, b = previous.sigma**-2, measurement.sigma**-2
            measurement = MarginalMeasurement(
                measurement.columns, (a * previous.values + b * measurement.values) / (a + b), (a + b) ** -0.5
            )
        merged[measurement.columns] = measurement
    return tuple(merged.values())


def estimate(
    counts: tuple[int, ...],
    measurements: Sequence[MarginalMeasurement],
    total: float,
    start: MarginalModel | None = None,
    *,
    rules: AllowedCombinations = (),
    caution: float = 0.3,
    steps: int = 400,
    tolerance: float = 1e-3,
) -> MarginalModel:
    """Fit a graphical model with one potential table per measured marginal.

    Minimises sum |m - y|^2 / (2 caution sigma) - total * entropy over all distributions of rows; m are the expected
    counts and y the noisy counts. The dual has one variable per measured cell, (y - m) / (caution sigma), which is the
    log-potential. Noise of one sigma changes the log-potential by at most 1 / caution, so cells with negative noisy
    counts stay possible. The dual is strongly concave: its optimum is unique and independent of the start, and L-BFGS
    needs a few dozen passes. Sources: McKenna, Sheldon and Miklau 2019, "Graphical-model based estimation and inference
    for differential privacy", arXiv 1901.09136 (fit of marginals); Dudik, Phillips and Schapire 2007, "Maximum entropy
    density estimation with generalized regularization" (dual).

    Args:
        counts: Number of possible codes of each column.
        measurements: Noisy marginals.
        total: Number of rows, public.
        start: Model for a warm start, with some of the same marginals.
        rules: Allowed combinations; all others get probability 0.
        caution: Weight of the entropy; smaller values fit the noisy counts more closely.
        steps: Maximum number of L-BFGS steps.
        tolerance: Maximum gradient of the dual at convergence, with each cell scaled by the square root of its count.

    Raises:
        UsageError: If the total is not above 0.
    """
    check_number("total", total, gt=0, remedy="Use a table with rows")
    tables = merge(measurements)
    if not tables:
        return MarginalModel(counts, (), (), float(total), rules)
    cliques = tuple(table.columns for table in tables)
    scopes = (*cliques, *(columns for columns, _ in rules))
    bp = BeliefPropagation(counts, scopes, eliminate(counts, scopes))
    rule_factors = [allowed.double().log()[None] for _, allowed in rules]
    shapes = [tuple(table.values.shape) for table in tables]
    sizes = [math.prod(shape) for shape in shapes]
    targets = torch.cat([table.values.double().flatten() for table in tables])
    ridge = torch.cat(
        [torch.full((n,), caution * table.sigma, dtype=torch.float64) for n, table in zip(sizes, tables, strict=True)]
    )
    warm_potentials = dict(zip(start.cliques, start.potentials, strict=True)) if start else {}
    initial = [
        warm_potentials.get(clique, torch.zeros(shape)).flatten() for clique, shape in zip(cliques, shapes, strict=True)
    ]
    scale = (targets.clamp(min=0) + ridge).rsqrt()

    def split_by_table(flat: Tensor) -> list[Tensor]:
        return [entries.view(1, *shape) for entries, shape in zip(flat.split(sizes), shapes, strict=True)]

    def dual(x: np.ndarray) -> tuple[float, np.ndarray]:
        potentials = torch.from_numpy(x) * scale
        conditionals, log_z = bp.upward_pass([*split_by_table(potentials), *rule_factors])
        marginals = bp.marginals(bp.downward_pass(conditionals))[: len(cliques)]
        expected = torch.cat([entries.flatten() for entries in marginals])
        objective = total * log_z.item() + float(potentials @ (0.5 * ridge * potentials - targets))
        return objective, ((total * expected - targets + ridge * potentials) * scale).numpy()

    x_0 = (torch.cat(initial).double() / scale).numpy()
    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 20, "ftol": 0.0, "gtol": tolerance}
    optimum = scipy.optimize.minimize(dual, x_0, jac=True, method="L-BFGS-B", options=options)
    potentials = split_by_table(torch.from_numpy(optimum.x) * scale)
    return MarginalModel(counts, cliques, tuple(entries[0] for entries in potentials), float(total), rules)
