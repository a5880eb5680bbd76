"""AIM: adaptive selection of marginals with differential privacy, and a variant for exact counts."""

import itertools
import math
from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.privacy.marginals.curator import Curator, MarginalRelease, epsilon_for, sigma_for
from feller.privacy.marginals.elimination import Clique, eliminate
from feller.privacy.marginals.estimate import MarginalMeasurement, estimate
from feller.privacy.marginals.marginal_model import AllowedCombinations, MarginalModel
from feller.privacy.noise.grid_noise import Noise


def fit_greedily(
    curator: Curator,
    measured: Sequence[MarginalMeasurement],
    weights: dict[Clique, float],
    candidates: Callable[[MarginalModel], Sequence[Clique]],
    label: str,
    rules: AllowedCombinations = (),
) -> MarginalModel:
    """Fit a graphical model to exact marginals that are selected greedily, and return it.

    The worst-fitting marginal is measured and the model refitted, until all errors are within sampling noise. The
    error of a marginal is the sum over its cells of |count - expected|, minus the mean of this sum if counts were
    Poisson.

    Args:
        curator: Holder of the rows, with an infinite budget.
        measured: Marginals that are already measured.
        weights: Factor of each marginal's error in the comparison with other marginals.
        candidates: Current model -> marginals that may be measured next.
        label: Label of the charged queries.
        rules: Allowed combinations of values, public.
    """
    measured, counts, total = [*measured], curator.counts, curator.total
    model = estimate(counts, measured, total, rules=rules)
    measured_tables = {table.columns for table in measured}
    while candidates_left := [table for table in candidates(model) if table not in measured_tables]:
        scores = {table: weights[table] * _excess_error(curator, model, table, label) for table in candidates_left}
        worst = max(candidates_left, key=scores.__getitem__)
        if scores[worst] <= 0:
            break
        measured.append(curator.measure(worst, 0.0, label))
        measured_tables.add(worst)
        model = estimate(counts, measured, total, model, rules=rules, tolerance=0.1)
    return estimate(counts, measured, total, model, rules=rules)


def _excess_error(curator: Curator, model: MarginalModel, table: Clique, label: str) -> float:
    """Return by how many rows the model is wrong about the marginal `table`, beyond chance.

    This is the L1 distance between exact and modelled counts, minus its mean if the counts were Poisson numbers with
    the modelled means. The curator has an infinite budget here, so the result is not private.
    """
    expected = curator.total * model.marginal(table)
    errors = (curator.measure(table, 0.0, label).values - expected).abs()
    return float((errors - mean_deviation(expected)).sum())


def mean_deviation(expected: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return E|N - m| of Poisson counts N with mean m.

    Source: Crow 1958, "The mean deviation of the Poisson distribution".
    """
    mean = expected.clamp(min=1e-300)
    floor = mean.floor()
    return 2 * ((floor + 1) * mean.log() - mean - (floor + 1).lgamma()).exp()


ONE_WAY, CHOICE, TABLES = "counts of each column", "choice of tables", "counts of the tables"
MEASURING = 0.9
"""Fraction of a round's budget spent on measuring the selected marginal; the rest is spent on selecting it."""
ROUNDS = 16
"""Planned number of rounds per column, which determines the initial noise."""
MEAN_ABS_NORMAL = math.sqrt(2 / math.pi)
"""Mean absolute value of a standard normal variable."""


def aim(
    codes: Int[Tensor, "n k"],
    counts: Sequence[int],
    rho: float,
    noise: Noise,
    *,
    degree: int = 2,
    size: float = 1.0,
    cells: int = 100_000,
    workload: Sequence[Clique] | None = None,
    rules: AllowedCombinations = (),
) -> MarginalRelease:
    """Fit a graphical model to adaptively selected noisy marginals (AIM).

    Each round selects a marginal by the exponential mechanism, measures it with Gaussian noise and refits the model. A
    marginal's weight is its overlap with the workload. If a round changes the model by less than the noise, the
    standard deviation of the noise is halved. With an infinite budget, selection and counts are exact: see
    `fit_greedily`.
    Source: McKenna, Mullins, Sheldon and Miklau 2022, "AIM: an adaptive and iterative mechanism for differentially
    private synthetic data", arXiv 2201.12677.

    Args:
        codes: Rows to protect, one integer code per column.
        counts: Number of possible codes of each column, public.
        rho: zCDP budget; infinite for exact counts without privacy.
        noise: Source of the noise.
        degree: Number of columns per marginal of the default workload.
        size: Maximum model size in MiB; in each round, the allowed size is proportional to the budget spent by its end.
        cells: Maximum number of cells (combinations of codes) of a workload marginal; larger marginals are dropped.
        workload: Marginals to fit (default: all of `degree` columns).
        rules: Allowed combinations of values, public.

    Raises:
        UsageError: If the degree is below 1, or the workload has unknown columns.
    """
    curator = Curator(codes, counts, rho, noise)
    columns, counts, total = curator.columns, curator.counts, curator.total
    weights = _weights(counts, _workload(counts, columns, degree, cells, workload))
    rounds = ROUNDS * max(1, len(columns))
    sigma, epsilon = sigma_for(MEASURING * rho, rounds), epsilon_for((1 - MEASURING) * rho, rounds)
    if not weights:
        sigma = sigma_for(rho, max(1, len(columns)))
    one_way = {j: curator.measure((j,), sigma, ONE_WAY) for j in columns}
    measured, max_entries = [*one_way.values()], size * 2**20 / 8
    if math.isinf(rho):
        exact_model = fit_greedily(
            curator, measured, weights, lambda model: _candidates(model, weights, max_entries), TABLES, rules
        )
        return curator.release(exact_model, one_way)
    model = estimate(counts, measured, total, rules=rules)
    is_last = not weights
    while not is_last:
        budget_left = rho - curator.rho_spent
        is_last = budget_left < 2 * (0.5 / sigma**2 + epsilon**2 / 8)
        if is_last:
            sigma, epsilon = sigma_for(MEASURING * budget_left), epsilon_for((1 - MEASURING) * budget_left)
        available_entries = max_entries * min(1.0, (rho - budget_left + 0.5 / sigma**2 + epsilon**2 / 8) / rho)
        expected = {table: total * model.marginal(table) for table in _candidates(model, weights, available_entries)}
        allowance = {table: MEAN_ABS_NORMAL * sigma * model_cells.numel() for table, model_cells in expected.items()}
        worst = curator.select_worst(expected, weights, allowance, epsilon, CHOICE)
        measured.append(curator.measure(worst, sigma, TABLES))
        model = estimate(counts, measured, total, model, rules=rules, tolerance=0.1)
        # annealing: the refit changed the marginal by less than the expected L1 noise, sqrt(2 / pi) sigma cells
        if float((total * model.marginal(worst) - expected[worst]).abs().sum()) <= allowance[worst]:
            sigma, epsilon = sigma / 2, epsilon * 2
    return curator.release(estimate(counts, measured, total, model, rules=rules), one_way)


def _workload(
    counts: Sequence[int], columns: Clique, degree: int, cells: int, workload: Sequence[Clique] | None
) -> list[Clique]:
    if workload is None:
        if degree < 1:
            raise UsageError("a degree (number of columns per marginal) of at least 1", degree)
        tables = list(itertools.combinations(columns, min(degree, len(columns))))
    else:
        unknown = {j for table in workload for j in table} - {*range(len(counts))}
        if unknown:
            raise UsageError(f"workload columns from 0 to {len(counts) - 1}", sorted(unknown))
        tables = [tuple(sorted({*table} & {*columns})) for table in workload]
    return [table for table in tables if table and math.prod(counts[j] for j in table) <= cells]


def _weights(counts: Sequence[int], workload: Sequence[Clique]) -> dict[Clique, float]:
    """Return the weight of each marginal in the workload and of each of its subsets, relative to the largest weight.

    The weight is the number of columns that the marginal shares with each workload marginal, summed.
    """
    subsets = {
        subset for table in workload for r in range(1, len(table) + 1) for subset in itertools.combinations(table, r)
    }
    ordered = sorted(subsets, key=lambda table: (len(table), table))
    overlaps = {table: float(sum(len({*table} & {*other}) for other in workload)) for table in ordered}
    max_overlap = max(overlaps.values(), default=1.0)
    return {table: weight / max_overlap for table, weight in overlaps.items()}


def _candidates(model: MarginalModel, weights: dict[Clique, float], max_entries: float) -> list[Clique]:
    """Return the marginals in `weights` that the model can contain without exceeding `max_entries` table cells."""
    scopes = model.scopes
    return [
        table
        for table in weights
        if any({*table} <= {*clique} for clique in scopes)
        or eliminate(model.counts, [*scopes, table]).cells <= max_entries
    ]
