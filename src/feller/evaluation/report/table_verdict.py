"""Rules of the verdict on tables about copies of real rows, impossible rows and target leakage."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from feller.evaluation.metrics import Numbers
from feller.evaluation.number_format import format_number, format_percent, is_number
from feller.evaluation.report.grades import (
    BROKEN,
    COPIES,
    FAIR_FRACTION,
    FAIR_RATIO,
    GOOD,
    GOOD_FRACTION,
    GOOD_RATIO,
    MAX_LOST_CELLS,
    POOR,
    UNDERTRAINED,
    USABLE,
)

MAX_COPIES, SOME_COPIES = 0.05, 0.01
"""Share of copies beyond that of held-out rows, above which the samples count as copies, or are not good."""
MAX_IMPOSSIBLE, SOME_IMPOSSIBLE = 0.05, 0.01
"""Share of impossible rows beyond that of real rows, above which a table counts as broken, or is not good."""
PERSON_DISTANCES = ("num_rows_ks", "transition_tv", "children_ks", "parent_child_tv", "sibling_tv", "row_tv2")
"""Distances between persons with several rows; the largest multiple of the distance of real persons is graded."""
EXACT = 0.01
"""Largest distance of persons that is as good as none where real persons do not differ, as in their number of rows."""
MIN_LEAK = 0.95
"""Score of a single column (area under the ROC curve, or R²) from which it gives the target away."""

MIN_JOINT_LEAK = 0.99
"""Score of a model of real rows from which the other columns together give the target away."""


@dataclass(frozen=True)
class Level:
    """Grade of a table, with the rule that leads to it."""

    grade: str
    rule: str
    is_current: bool
    """True for the grade of the report."""


def copies_excess(numbers: Numbers) -> float | None:
    """Return the fraction of copies of rows or persons beyond that of held-out data; None if it is not measured.

    Of rows, it is the fraction that is certainly beyond.
    """
    copied, held_out = numbers.get("persons_copied"), numbers.get("persons_copied_held_out")
    if is_number(copied) and is_number(held_out):
        return float(copied - held_out)
    value = numbers.get("copies_excess_low")
    return float(value) if "tv1" in numbers and is_number(value) else None


def impossible_excess(numbers: Numbers) -> float | None:
    """Return the fraction of impossible rows beyond that of real rows; None if it is not measured."""
    value, real = numbers.get("impossible"), numbers.get("impossible_real")
    return float(value - real) if is_number(value) and is_number(real) else None


def farthest_persons(numbers: Numbers) -> tuple[str, float] | None:
    """Return the distance of persons that is the largest multiple of its reference, and the multiple.

    Of a reference of 0, a distance above `EXACT` is an infinite multiple.
    """
    pairs = {name: (numbers.get(name), numbers.get(f"{name}_floor")) for name in PERSON_DISTANCES}
    ratios = {
        name: value / floor if floor > 0 else math.inf if value > EXACT else 1.0
        for name, (value, floor) in pairs.items()
        if is_number(value) and is_number(floor)
    }
    return max(ratios.items(), key=lambda item: item[1], default=None)


def row_grades(numbers: Numbers) -> Iterator[str]:
    """Yield the grades that distances of persons, copies and impossible rows allow at best."""
    if (farthest := farthest_persons(numbers)) is not None:
        yield GOOD if farthest[1] <= GOOD_RATIO else USABLE if farthest[1] <= FAIR_RATIO else POOR
    copies, impossible = copies_excess(numbers), impossible_excess(numbers)
    if copies is not None and copies > SOME_COPIES:
        yield COPIES if copies > MAX_COPIES else USABLE
    if impossible is not None and impossible > SOME_IMPOSSIBLE:
        yield BROKEN if impossible > MAX_IMPOSSIBLE else USABLE


def row_metrics(numbers: Numbers) -> tuple[str, ...]:
    """Return the keys of the metrics of copies and of impossible rows that lower the grade, and of persons."""
    copies, impossible = copies_excess(numbers), impossible_excess(numbers)
    farthest = farthest_persons(numbers)
    return (
        *((_copies_key(numbers),) if copies is not None and copies > SOME_COPIES else ()),
        *(("impossible",) if impossible is not None and impossible > SOME_IMPOSSIBLE else ()),
        *(() if farthest is None else (farthest[0],)),
    )


def _copies_key(numbers: Numbers) -> str:
    return "persons_copied" if is_number(numbers.get("persons_copied_held_out")) else "copies"


def row_cautions(numbers: Numbers) -> Iterator[str]:
    """Yield cautions about copies, impossible rows and target leakage."""
    lowering = row_metrics(numbers)
    if (key := _copies_key(numbers)) in lowering:
        unit = "row" if key == "copies" else "person"
        copies = float(numbers.get(key) or 0.0)
        others = float(numbers.get("persons_copied_held_out") or 0.0)
        others = copies - float(numbers.get("copies_excess") or 0.0) if key == "copies" else others
        yield (
            f"{format_percent(copies)} of the samples equal a training {unit}, against {format_percent(others)} of"
            f" other real {unit}s: the model repeats people it was trained on, so do not hand out its samples"
        )
    if "impossible" in lowering:
        value, real = (float(numbers.get(name) or 0.0) for name in ("impossible", "impossible_real"))
        worst = numbers.get("impossible_worst")
        yield (
            f"{format_percent(value)} of the samples are impossible: they break a fact that holds in the real table"
            f" ({format_percent(real)} of real rows do)" + (f". Most often: {worst}" if worst else "")
        )
    yield from _leak_caution(numbers)


def _leak_caution(numbers: Numbers) -> Iterator[str]:
    score, column = numbers.get("leak_score"), numbers.get("leak_column")
    target = numbers.get("told_column") or "the target"
    if not is_number(score) or not column:
        return
    if score >= MIN_LEAK:
        yield (
            f"the column {column} alone predicts {target} almost perfectly ({format_number(float(score))} of 1 on real"
            " rows): scores of utility say little. Drop the column, or choose another target"
        )
        return
    for name in ("auc_boosted_real", "r2_boosted_real"):
        if is_number(real := numbers.get(name)) and real >= MIN_JOINT_LEAK:
            yield (
                f"other columns give {target} away: a model of real rows scores {format_number(float(real))} of 1, and"
                f" {column} alone {format_number(float(score))}. Drop columns that are only known with the target, or"
                " choose another target"
            )


def levels(numbers: Numbers, grade: str) -> list[Level]:
    """Return all grades of a table with their rules, from best to worst; empty if the report is not about a table."""
    has_persons = farthest_persons(numbers) is not None
    if "tv1" not in numbers and not has_persons:
        return []
    persons = "Distances of persons and their rows at most {:g} times those of real persons."
    way = "of the way from real rows to independent columns, in the TV distance of column pairs"
    some, most = (format_percent(share) for share in (SOME_COPIES, MAX_COPIES))
    rules = {
        GOOD: f"At most {format_percent(round(1 - GOOD_FRACTION, 3))} {way}. Impossible rows and copies of training"
        f" rows each exceed those of real rows by at most {some} of the rows.",
        USABLE: f"At most {format_percent(FAIR_FRACTION)} {way}. Impossible rows and copies each exceed those of real"
        f" rows by at most {most}.",
        POOR: f"Farther {way}; or held-out rows are less likely than under independent columns; or empty cells exceed"
        f" those of the real table by more than {format_percent(MAX_LOST_CELLS)}.",
        BROKEN: f"Impossible rows exceed those of real rows by more than {format_percent(MAX_IMPOSSIBLE)}.",
        COPIES: f"Copies of training rows exceed those of held-out rows by more than {most}, beyond sampling error.",
        UNDERTRAINED: "Too few training steps to judge the model.",
    }
    if not is_number(numbers.get("tv2_half")) and not is_number(numbers.get("tv2")):
        rules[GOOD] = f"TV distance of columns at most {GOOD_RATIO:g} times that of real rows, and no impossible rows."
        rules[USABLE] = f"TV distance of columns at most {FAIR_RATIO:g} times that of real rows."
        rules[POOR] = "Farther."
    if "tv1" not in numbers:  # several tables
        copies = f"Copies of training persons exceed those of held-out persons by more than {most}."
        rules = {GOOD: "", USABLE: "", POOR: "Farther.", COPIES: copies, UNDERTRAINED: rules[UNDERTRAINED]}
    if has_persons:
        rules[GOOD] = f"{rules[GOOD]} {persons.format(GOOD_RATIO)}".strip()
        rules[USABLE] = f"{rules[USABLE]} {persons.format(FAIR_RATIO)}".strip()
    return [Level(word, rule, word == grade) for word, rule in rules.items()]
