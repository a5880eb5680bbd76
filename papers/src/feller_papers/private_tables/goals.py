"""Thresholds from results of other programs on Adult, and metrics against budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from feller_papers.claims import Claim, seeds_of, spread_of, untestable, verdict
from feller_papers.private_tables.figures import format_mean, metric_by_name, metric_values, nll, utility
from feller_papers.private_tables.methods import AIM, METHODS, MST, ROW_MODEL, Method
from feller_papers.private_tables.setting import NONE, STRONG, WEAK, Budget, Setting
from feller_papers.private_tables.tables import ADULT, available_tables

TOLERANCE = 0.002
"""Allowed increase of a metric with a larger budget."""
METRICS = {
    "TV1": metric_by_name("tv1"),
    "TV2": metric_by_name("tv2"),
    "TV3": metric_by_name("tv3"),
    "AUC": metric_by_name("auc_boosted"),
    "linear AUC": metric_by_name("auc_linear"),
    "nats": nll,
}


@dataclass(frozen=True)
class Goal:
    """Thresholds for a method on Adult."""

    method: Method
    budget: Budget
    max_values: dict[str, float]
    min_values: dict[str, float] = field(default_factory=dict)
    raked: bool = True

    @property
    def name(self) -> str:
        """Name in claims."""
        return f"{self.method.name}, {self.budget.name}{'' if self.raked else ', not raked'}"

    def format_thresholds(self) -> str:
        """Return the thresholds as text."""
        at_most = ", ".join(f"{name} {value:g}" for name, value in self.max_values.items())
        at_least = ", ".join(f"{name} {value:g}" for name, value in self.min_values.items())
        return f"at most {at_most}" + (f"; at least {at_least}" if at_least else "")

    def test(self, setting: Setting) -> Claim:
        """Return the claim that all seeds meet the thresholds."""
        results = {
            name: metric_values(setting, ADULT, self.method, self.budget, METRICS[name], raked=self.raked)
            for name in (*self.max_values, *self.min_values)
        }
        holds = all(max(results[name]) <= value for name, value in self.max_values.items())
        holds = holds and all(min(results[name]) >= value for name, value in self.min_values.items())
        ours = ", ".join(f"{name} {format_mean(values, 4)}" for name, values in results.items())
        return Claim(
            f"{ADULT}, {self.name}: as near as other programs come",
            f"not in the paper; {self.format_thresholds()}",
            ours,
            spread_of(next(iter(results.values()))),
            verdict(holds),
        )


ROW_MODEL_GOALS = (
    Goal(ROW_MODEL, STRONG, {"TV1": 0.010, "TV2": 0.036, "TV3": 0.078}, {"AUC": 0.870, "linear AUC": 0.880}),
    Goal(ROW_MODEL, STRONG, {"TV2": 0.026}, {"AUC": 0.896}),
    Goal(ROW_MODEL, STRONG, {"TV2": 0.052, "TV3": 0.090, "nats": 16.35}, {"AUC": 0.870}, raked=False),
    Goal(ROW_MODEL, WEAK, {"TV1": 0.005, "TV2": 0.021, "TV3": 0.054, "nats": 15.90}, {"AUC": 0.890}),
    Goal(ROW_MODEL, WEAK, {"TV2": 0.037, "TV3": 0.067}, raked=False),
    Goal(ROW_MODEL, NONE, {"TV2": 0.019, "TV3": 0.043, "nats": 15.65}, {"AUC": 0.905}),
)
MARGINAL_GOALS = (
    Goal(MST, STRONG, {"TV2": 0.043, "TV3": 0.094}, {"AUC": 0.82}),
    Goal(AIM, STRONG, {"TV2": 0.030, "TV3": 0.066}, {"AUC": 0.875, "linear AUC": 0.880}),
    Goal(AIM, WEAK, {"TV2": 0.020, "TV3": 0.050}, {"AUC": 0.900}),
)


def language_model(setting: Setting) -> Iterator[Claim]:
    """Thresholds for the row model, and its comparison with MST at epsilon 1."""
    yield from _test_goals(setting, ROW_MODEL_GOALS)
    if setting.is_full:
        tv2, auc = (
            [metric_values(setting, ADULT, method, STRONG, metric) for method in (ROW_MODEL, MST)]
            for metric in (metric_by_name("tv2"), utility)
        )
        tv2_gains = [mst - row for row, mst in zip(*tv2, strict=True)]
        auc_gains = [row - mst for row, mst in zip(*auc, strict=True)]
        yield Claim(
            f"{ADULT}, {STRONG.name}: the row model is better than MST, in TV2 and in what rows are worth",
            "not in the paper",
            f"TV2 {format_mean(tv2[0])}, MST {format_mean(tv2[1])};"
            f" AUC {format_mean(auc[0])}, MST {format_mean(auc[1])}",
            spread_of(tv2_gains),
            verdict(min(tv2_gains) > 0 and min(auc_gains) > 0),
        )


def marginals(setting: Setting) -> Iterator[Claim]:
    """Thresholds for methods of noisy marginals."""
    yield from _test_goals(setting, MARGINAL_GOALS)


def _test_goals(setting: Setting, goals: Sequence[Goal]) -> Iterator[Claim]:
    for goal in goals:
        if setting.is_full:
            yield goal.test(setting)
        else:
            yield untestable(
                f"{ADULT}, {goal.name}: as near as other programs come",
                f"not in the paper; {goal.format_thresholds()}",
                "these figures are of all rows and steps; run without --quick",
            )


def more_budget(setting: Setting) -> Iterator[Claim]:
    """TV2 and negative log-likelihood of the row model decrease with the budget."""
    for name in available_tables(setting):
        tv2, nlls = (
            [metric_values(setting, name, ROW_MODEL, budget, metric) for budget in setting.budgets]
            for metric in (metric_by_name("tv2"), nll)
        )
        order = ", ".join(budget.name for budget in setting.budgets)
        yield Claim(
            f"{name}: the more the row model may spend, the nearer it comes ({order})",
            "not in the paper",
            f"TV2 {', '.join(map(format_mean, tv2))};"
            f" nats of a held-out row {', '.join(format_mean(values, 4) for values in nlls)}",
            spread_of(tv2[0]),
            verdict(_decreases(tv2) and _decreases(nlls)),
        )


def all_methods(setting: Setting) -> Iterator[Claim]:
    """Metrics of all methods; TV2 of each decreases with the budget."""
    for name in available_tables(setting):
        lines, decreases = [], True
        for method in METHODS:
            tv2 = [metric_values(setting, name, method, budget, metric_by_name("tv2")) for budget in setting.budgets]
            decreases = decreases and _decreases(tv2)
            others = _format_other_metrics(setting, name, method)
            lines.append(f"{method.name}: TV2 {', '.join(map(format_mean, tv2))}, {others}")
        order = ", ".join(budget.name for budget in setting.budgets)
        yield Claim(
            f"{name}: TV2 of every method falls as its budget grows ({order})",
            "not in the paper",
            "; ".join(lines),
            seeds_of(setting.seeds),
            verdict(decreases),
        )


def _format_other_metrics(setting: Setting, name: str, method: Method) -> str:
    metrics = {"TV3": metric_by_name("tv3"), "worth": utility, "nats": nll, "copies": metric_by_name("copies")}
    rows = {
        label: [metric_values(setting, name, method, budget, metric) for budget in setting.budgets]
        for label, metric in metrics.items()
    }
    digits = {"nats": 4}
    return ", ".join(
        f"{label} {', '.join(format_mean(values, digits.get(label, 3)) for values in row)}"
        for label, row in rows.items()
    )


def _decreases(rows: Sequence[Sequence[float]]) -> bool:
    """Return True if the metric of each seed decreases from budget to budget, within the tolerance."""
    return all(b <= a + TOLERANCE for before, after in pairwise(rows) for a, b in zip(before, after, strict=True))
