"""Tables chosen and counted without noise, where nobody has to be protected."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from feller.privacy.marginals.curator import Curator
from feller.privacy.marginals.elimination import Clique
from feller.privacy.marginals.estimate import Measurement, estimate
from feller.privacy.marginals.marginal_model import Admitted, MarginalModel


def greedy(
    curator: Curator,
    measured: Sequence[Measurement],
    weights: dict[Clique, float],
    candidates: Callable[[MarginalModel], Sequence[Clique]],
    what: str,
    rules: Admitted = (),
) -> MarginalModel:
    """Count the table that the model knows worst, and fit the model anew, until all differ by no more than chance.

    How far a table is off is the sum of |count - expected|, beyond what it is on average for a sample of rows.

    Args:
        curator: Has an infinite budget.
        measured: Tables to begin with.
        weights: What each table counts for.
        candidates: Returns those that a model has room for.
        what: What tables are counted for.
        rules: What rows must keep.
    """
    measured, counts, total = [*measured], curator.counts, curator.total
    model = estimate(counts, measured, total, rules=rules)
    known = {table.columns for table in measured}
    while left := [table for table in candidates(model) if table not in known]:
        worth = {table: weights[table] * _beyond_chance(curator, model, table, what) for table in left}
        worst = max(left, key=worth.__getitem__)
        if worth[worst] <= 0:
            break
        measured.append(curator.measure(worst, 0.0, what))
        known.add(worst)
        model = estimate(counts, measured, total, model, rules=rules, tolerance=0.1)
    return estimate(counts, measured, total, model, rules=rules)


def _beyond_chance(curator: Curator, model: MarginalModel, table: Clique, what: str) -> float:
    """Return how far the counts of a table are from what is expected, in rows."""
    expected = curator.total * model.marginal(table)
    apart = (curator.measure(table, 0.0, what).values - expected).abs()
    return float((apart - mean_deviation(expected)).sum())


def mean_deviation(expected: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return the mean of |N - m| for counts N of Poisson's law with the mean m.

    Source: Crow 1958, "The mean deviation of the Poisson distribution".
    """
    mean = expected.clamp(min=1e-300)
    whole = mean.floor()
    return 2 * ((whole + 1) * mean.log() - mean - (whole + 1).lgamma()).exp()
