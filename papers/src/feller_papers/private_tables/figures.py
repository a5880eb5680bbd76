"""Metrics over seeds, and their format in claims."""

import math
import statistics
from collections.abc import Callable, Sequence

from feller_papers.claims import mean_of
from feller_papers.private_tables.measured import Evaluation, evaluate_method, evaluate_nll
from feller_papers.private_tables.methods import Method
from feller_papers.private_tables.setting import Budget, Setting

Metric = Callable[[Evaluation], float]
"""Function from an evaluation to a number."""


def metric_by_name(name: str) -> Metric:
    """Return the function that reads a metric of `samples_quality`."""
    return lambda evaluation: evaluation.metric(name)


def utility(evaluation: Evaluation) -> float:
    """Return AUC or R^2 on real rows of trees trained on samples."""
    return evaluation.utility


def nll(evaluation: Evaluation) -> float:
    """Return the negative log-likelihood of a held-out row, in nats; NaN if the model has no likelihood."""
    return math.nan if evaluation.nll is None else evaluation.nll


def metric_values(
    setting: Setting, name: str, method: Method, budget: Budget, metric: Metric, *, raked: bool = True
) -> list[float]:
    """Return a metric for each seed."""
    return [metric(evaluate_method(setting, name, method, budget, seed, raked=raked)) for seed in setting.seeds]


def format_mean(values: Sequence[float], digits: int = 3) -> str:
    """Return the formatted mean; "-" if a value is NaN."""
    return "-" if any(map(math.isnan, values)) else mean_of(values, digits)


def format_nll(setting: Setting, name: str, method: Method, budget: Budget) -> str:
    """Return the formatted negative log-likelihood of a held-out row, with its standard error over rows."""
    results = [evaluate_nll(setting, name, method, budget, seed) for seed in setting.seeds]
    errors = [error for _, error in results if error is not None]
    mean = format_mean(nll_values(setting, name, method, budget), 4)
    return f"{mean} +- {statistics.fmean(errors):.2g}" if errors else "-"


def nll_values(setting: Setting, name: str, method: Method, budget: Budget) -> list[float]:
    """Return the negative log-likelihood of a held-out row for each seed, in nats, without sampling."""
    results = [evaluate_nll(setting, name, method, budget, seed)[0] for seed in setting.seeds]
    return [math.nan if value is None else value for value in results]


def utility_name(setting: Setting, name: str, method: Method, budget: Budget) -> str:
    """Return the name of the utility metric: "AUC", or "R^2" for a numerical target."""
    first = evaluate_method(setting, name, method, budget, setting.seeds[0])
    return "AUC" if "auc_boosted" in first.metrics else "R^2"


def small_run_note(setting: Setting) -> str:
    """Return a note that rows and steps are too few; empty for a full run."""
    if setting.is_full:
        return ""
    return f" With {setting.rows or 0:,} rows and {setting.steps or 0:,} steps, too few for the claim."
