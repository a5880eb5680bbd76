"""Figures that other programs reached on Adult, which ours must reach too, and what more budget brings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from feller_papers.claims import Claim, seeds_of, spread_of, untestable, verdict
from feller_papers.private_tables.figures import nll, number, read_off, told, worth
from feller_papers.private_tables.methods import AIM, COMPARED, MST, ROWS, Way
from feller_papers.private_tables.setting import NONE, STRONG, WEAK, Budget, Setting
from feller_papers.private_tables.tables import ADULT, there

SLACK = 0.002
"""By how much a figure may become worse with more budget."""
FIGURES = {
    "TV1": number("tv1"),
    "TV2": number("tv2"),
    "TV3": number("tv3"),
    "AUC": number("auc_boosted"),
    "linear AUC": number("auc_linear"),
    "nats": nll,
}


@dataclass(frozen=True)
class Goal:
    """What a model of Adult must reach."""

    way: Way
    budget: Budget
    most: dict[str, float]
    least: dict[str, float] = field(default_factory=dict)
    raked: bool = True

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.way.name}, {self.budget.name}{'' if self.raked else ', not raked'}"

    def wanted(self) -> str:
        """Say what is wanted."""
        at_most = ", ".join(f"{name} {value:g}" for name, value in self.most.items())
        at_least = ", ".join(f"{name} {value:g}" for name, value in self.least.items())
        return f"at most {at_most}" + (f"; at least {at_least}" if at_least else "")

    def test(self, setting: Setting) -> Claim:
        """Hold figures against it."""
        found = {
            name: read_off(setting, ADULT, self.way, self.budget, FIGURES[name], raked=self.raked)
            for name in (*self.most, *self.least)
        }
        holds = all(max(found[name]) <= value for name, value in self.most.items())
        holds = holds and all(min(found[name]) >= value for name, value in self.least.items())
        ours = ", ".join(f"{name} {told(values, 4)}" for name, values in found.items())
        return Claim(
            f"{ADULT}, {self.name}: as near as other programs come",
            f"not in the paper; {self.wanted()}",
            ours,
            spread_of(next(iter(found.values()))),
            verdict(holds),
        )


LANGUAGE = (
    Goal(ROWS, STRONG, {"TV1": 0.010, "TV2": 0.036, "TV3": 0.078}, {"AUC": 0.870, "linear AUC": 0.880}),
    Goal(ROWS, STRONG, {"TV2": 0.026}, {"AUC": 0.896}),
    Goal(ROWS, STRONG, {"TV2": 0.052, "TV3": 0.090, "nats": 16.35}, {"AUC": 0.870}, raked=False),
    Goal(ROWS, WEAK, {"TV1": 0.005, "TV2": 0.021, "TV3": 0.054, "nats": 15.90}, {"AUC": 0.890}),
    Goal(ROWS, WEAK, {"TV2": 0.037, "TV3": 0.067}, raked=False),
    Goal(ROWS, NONE, {"TV2": 0.019, "TV3": 0.043, "nats": 15.65}, {"AUC": 0.905}),
)
COUNTS = (
    Goal(MST, STRONG, {"TV2": 0.043, "TV3": 0.094}, {"AUC": 0.82}),
    Goal(AIM, STRONG, {"TV2": 0.030, "TV3": 0.066}, {"AUC": 0.875, "linear AUC": 0.880}),
    Goal(AIM, WEAK, {"TV2": 0.020, "TV3": 0.050}, {"AUC": 0.900}),
)


def language_model(setting: Setting) -> Iterator[Claim]:
    """The row model's figures, and that it beats a tree of pairs at epsilon 1."""
    yield from _tested(setting, LANGUAGE)
    if setting.whole:
        tv, value = (
            [read_off(setting, ADULT, way, STRONG, figure) for way in (ROWS, MST)] for figure in (number("tv2"), worth)
        )
        gains = [b - a for a, b in zip(*tv, strict=True)]
        more = [a - b for a, b in zip(*value, strict=True)]
        yield Claim(
            f"{ADULT}, {STRONG.name}: the row model is better than MST, in TV2 and in what rows are worth",
            "not in the paper",
            f"TV2 {told(tv[0])}, MST {told(tv[1])}; AUC {told(value[0])}, MST {told(value[1])}",
            spread_of(gains),
            verdict(min(gains) > 0 and min(more) > 0),
        )


def marginals(setting: Setting) -> Iterator[Claim]:
    """The figures of methods that count."""
    yield from _tested(setting, COUNTS)


def _tested(setting: Setting, goals: Sequence[Goal]) -> Iterator[Claim]:
    for goal in goals:
        if setting.whole:
            yield goal.test(setting)
        else:
            yield untestable(
                f"{ADULT}, {goal.name}: as near as other programs come",
                f"not in the paper; {goal.wanted()}",
                "these figures are of all rows and steps; run without --quick",
            )


def more_budget(setting: Setting) -> Iterator[Claim]:
    """Less noise must show."""
    for name in there(setting):
        tv, surprise = (
            [read_off(setting, name, ROWS, budget, figure) for budget in setting.budgets]
            for figure in (number("tv2"), nll)
        )
        order = ", ".join(budget.name for budget in setting.budgets)
        yield Claim(
            f"{name}: the more the row model may spend, the nearer it comes ({order})",
            "not in the paper",
            f"TV2 {', '.join(map(told, tv))}; nats of a held-out row {', '.join(told(one, 4) for one in surprise)}",
            spread_of(tv[0]),
            verdict(_falls(tv) and _falls(surprise)),
        )


def all_methods(setting: Setting) -> Iterator[Claim]:
    """All figures of all methods, and that each method uses what it is given."""
    for name in there(setting):
        lines, falls = [], True
        for way in COMPARED:
            tv = [read_off(setting, name, way, budget, number("tv2")) for budget in setting.budgets]
            falls = falls and _falls(tv)
            lines.append(f"{way.name}: TV2 {', '.join(map(told, tv))}, {_rest(setting, name, way)}")
        order = ", ".join(budget.name for budget in setting.budgets)
        yield Claim(
            f"{name}: TV2 of every method falls as its budget grows ({order})",
            "not in the paper",
            "; ".join(lines),
            seeds_of(setting.seeds),
            verdict(falls),
        )


def _rest(setting: Setting, name: str, way: Way) -> str:
    others = {"TV3": number("tv3"), "worth": worth, "nats": nll, "copies": number("copies")}
    rows = {
        what: [read_off(setting, name, way, budget, one) for budget in setting.budgets] for what, one in others.items()
    }
    digits = {"nats": 4}
    return ", ".join(f"{what} {', '.join(told(one, digits.get(what, 3)) for one in row)}" for what, row in rows.items())


def _falls(rows: Sequence[Sequence[float]]) -> bool:
    """Tell whether every seed's figure falls from budget to budget, but for some slack."""
    return all(b <= a + SLACK for before, after in pairwise(rows) for a, b in zip(before, after, strict=True))
