"""The table of metrics: what each number is called, its unit and direction, and what it is compared with.

Its rows are in `metrics.toml`; a modality of one's own adds to `METRICS`.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from feller.core.errors import InputError
from feller.evaluation.number_format import MISSING, Number, format_number, format_percent, is_number

Numbers = Mapping[str, Number | str | None]
HELD_OUT, TRAINED = "held-out data", "training data"
"""Values of `compared_with`: what samples were compared with, if the user named nothing else."""
TOO_FEW = "no held-out data, or too few"
MAIN, DETAIL, FACT = "main", "detail", "fact"
"""Where a number is shown: in the first table, in the table of all numbers only, or in the line about the run."""
DIRECTIONS = {"higher": "Higher is better.", "lower": "Lower is better.", "match": "Should match the reference."}


@dataclass(frozen=True)
class MetricSpec:
    """How to read one number."""

    label: str
    help: str = ""
    """What it means; other numbers are named as in `--json`."""
    better: str = ""
    """higher, lower or match (the reference); empty where no value is better than another."""
    reference: str = ""
    """Name of the number that it is compared with; empty if there is none."""
    reference_label: str = "real data"
    level: float | None = None
    """The reference, where it follows from the definition."""
    unit: str = ""
    is_percent: bool = False
    """Shown in percent."""
    missing: str = ""
    """Why it can be absent."""
    place: str = MAIN

    def text(self, value: object) -> str:
        """Format a value."""
        if isinstance(value, str):
            return value
        if not is_number(value):
            return MISSING
        return format_percent(value) if self.is_percent else format_number(value)


def _read_table() -> dict[str, MetricSpec]:
    """Read the table."""
    text = resources.files("feller.evaluation").joinpath("metrics.toml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {
        name: MetricSpec(**{**row, "reference": row.get("reference", "").replace("*", name)})
        for name, row in rows.items()
    }


_ROWS = _read_table()
METRICS = {name: row for name, row in _ROWS.items() if ":" not in name}
"""All metrics by their names in `--json`; references need no entry of their own."""
VARIANTS = [(*name.split(":"), row) for name, row in _ROWS.items() if ":" in name]
"""A name, a second one, and what the first means where the second is reported as well."""
USER_METRICS: list[str] = []
"""Names of the metrics of modalities of the user's own; the first that was measured decides a verdict."""
SERIES = {"mae_constant": "", "mae": "", "r2": "", "w2": "time ", "sinkhorn": "time "}
"""Metrics of several columns or times, whose names follow theirs: `mae_mu`, `w2_0.5`."""
PREREQUISITES = {
    "no molecule is valid and connected": ("bonds_sane", "rdkit is not installed"),
    "no crystal is plausible": ("crystal_plausible", "pymatgen or SMACT is not installed"),
}
"""A reason that only holds where another number is there, and the one that holds otherwise."""


def metric(name: str, numbers: Numbers | None = None) -> MetricSpec:
    """Return how to read a number of `--json`; others of the report decide between meanings of one name.

    One that is not in the table is called by its plain name.
    """
    numbers = {} if numbers is None else numbers
    for variant, sign, found in VARIANTS:
        if sign in numbers and name == variant:
            return found
    if name in METRICS:
        return METRICS[name]
    of = _referring_metric(name)
    if of is None and name.endswith("_floor") and name.removesuffix("_floor") in numbers:
        of = name.removesuffix("_floor")
    if of is not None:
        base = metric(of, numbers)
        label = f"{base.label}, {base.reference_label}"
        return replace(base, label=label, help="", reference="", level=None, better="", place=DETAIL)
    for prefix in SERIES:
        if name.startswith(f"{prefix}_"):
            one = name.removeprefix(f"{prefix}_")
            base = METRICS[prefix]
            label = base.label.removesuffix(" at the end") if SERIES[prefix] else base.label
            floor = f"{name}_floor" if SERIES[prefix] else f"{base.reference}_{one}"
            return replace(base, label=f"{label}, {SERIES[prefix]}{one}", reference=floor if base.reference else "")
    return MetricSpec(name.replace("_", " "), reference=f"{name}_floor" if f"{name}_floor" in numbers else "")


def add_metric(name: str, doc: str) -> None:
    """Add a distance of the user's own, which real data have, too: `NAME_floor`.

    InputError if one of ours has the name.
    """
    if name in METRICS and name not in USER_METRICS:
        problem = f"one that is called {name}, as one of feller's is"
        raise InputError(argument="metrics", expected="a new name", found=problem, remedy="Rename the function")
    if name not in METRICS:
        help_ = doc.strip().partition("\n")[0]
        label = "real vs real"
        METRICS[name] = MetricSpec(name.replace("_", " "), help_, "lower", f"{name}_floor", reference_label=label)
        USER_METRICS.append(name)


def _referring_metric(name: str) -> str | None:
    """Return the metric that a reference belongs to."""
    return next((of for of, one in METRICS.items() if one.reference == name), None)


def main_metrics(numbers: Numbers) -> list[str]:
    """Return the names of the numbers that are shown first: no facts, details or references, no words."""
    references = {metric(name, numbers).reference for name in numbers}
    return [
        name
        for name, value in numbers.items()
        if name not in references and metric(name, numbers).place == MAIN and not isinstance(value, str)
    ]


def reference_value(name: str, numbers: Numbers) -> tuple[str, Number | None] | None:
    """Return what a number is compared with, its label and value; None if there is nothing."""
    one = metric(name, numbers)
    if one.level is not None:
        return one.reference_label, one.level
    if not one.reference:
        return None
    value = numbers.get(one.reference)
    trained = one.reference.endswith("_floor") and numbers.get("compared_with") == TRAINED
    label = f"{one.reference_label}, from the training data" if trained else one.reference_label
    return label, value if is_number(value) else None


def why_missing(name: str, numbers: Numbers, reasons: Mapping[str, str] | None = None) -> str:
    """Say why a number is missing: as the report knows, as the table says, or for the reason of its metric."""
    if reasons and name in reasons:
        return reasons[name].removesuffix(".")
    if numbers.get(name) is not None:
        return "not finite"
    why = metric(name, numbers).missing
    needed, absent = PREREQUISITES.get(why, ("", ""))
    if needed and numbers.get(needed) is None:
        return absent
    of = _referring_metric(name) or name.removesuffix("_floor").removesuffix("_real")
    if name.endswith(("_floor", "_real")) and numbers.get(of) is not None:
        return TOO_FEW
    return why or (TOO_FEW if name.endswith(("_floor", "_real", "_held_out")) else "not measured")


def explanations(numbers: Numbers) -> dict[str, str]:
    """Return what each number means, with its unit and direction, by the names in `--json`."""
    return {name: text for name in numbers if (text := explanation(name, numbers))}


def explanation(name: str, numbers: Numbers) -> str:
    """Return what a number means, with its unit and direction; empty where the table says nothing."""
    one = metric(name, numbers)
    if name not in METRICS and not one.help:
        base = _referring_metric(name)
        return f"{base}, for {METRICS[base].reference_label}." if base else ""
    unit = f"In {one.unit}." if one.unit else ""
    return " ".join(filter(None, (one.help, unit, DIRECTIONS.get(one.better, ""))))


def replace_by_labels(text: str, numbers: Numbers) -> str:
    """Replace names of numbers in an explanation by the labels that people see."""
    names = (name for name in numbers if "_" in name)
    named = {name: f'"{metric(name, numbers).label}"' for name in names}
    return re.sub(r"\w+", lambda word: named.get(word[0], word[0]), text)
