"""Figures over seeds, and how people read them."""

import math
import statistics
from collections.abc import Callable, Sequence

from feller_papers.claims import mean_of
from feller_papers.private_tables.measured import Measured, measured, surprised
from feller_papers.private_tables.methods import Way
from feller_papers.private_tables.setting import Budget, Setting

Figure = Callable[[Measured], float]
"""What is read off a measurement."""


def number(name: str) -> Figure:
    """Return what reads one of the numbers of samples."""
    return lambda one: one.number(name)


def worth(one: Measured) -> float:
    """Read how well trees that learn from the rows tell real ones."""
    return one.worth


def nll(one: Measured) -> float:
    """Read what a held-out row takes in nats; not a number where a model cannot tell."""
    return math.nan if one.nll is None else one.nll


def read_off(
    setting: Setting, name: str, way: Way, budget: Budget, figure: Figure, *, raked: bool = True
) -> list[float]:
    """Return a figure for each seed."""
    return [figure(measured(setting, name, way, budget, seed, raked=raked)) for seed in setting.seeds]


def told(values: Sequence[float], digits: int = 3) -> str:
    """Return a mean for people, a dash where there is none."""
    return "-" if any(map(math.isnan, values)) else mean_of(values, digits)


def nats(setting: Setting, name: str, way: Way, budget: Budget) -> str:
    """Return what a held-out row takes, with the standard error over rows, for people."""
    found = [surprised(setting, name, way, budget, seed) for seed in setting.seeds]
    errors = [error for _, error in found if error is not None]
    return f"{told(surprises(setting, name, way, budget), 4)} +- {statistics.fmean(errors):.2g}" if errors else "-"


def surprises(setting: Setting, name: str, way: Way, budget: Budget) -> list[float]:
    """Return what a held-out row takes in nats for each seed, without drawing rows."""
    found = [surprised(setting, name, way, budget, seed)[0] for seed in setting.seeds]
    return [math.nan if one is None else one for one in found]


def called(setting: Setting, name: str, way: Way, budget: Budget) -> str:
    """Say what `worth` is: of a class, or of a number."""
    first = measured(setting, name, way, budget, setting.seeds[0])
    return "AUC" if "auc_boosted" in first.numbers else "R^2"


def caution(setting: Setting) -> str:
    """Say that rows and steps are too few, where they are."""
    if setting.whole:
        return ""
    return f" With {setting.rows or 0:,} rows and {setting.steps or 0:,} steps, too few for the claim."
