"""Registry of metrics, with the label, unit, direction and reference of each; the entries are in `metrics.toml`."""

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
"""Values of the metric `compared_with`, which names the real data with which the other metrics compare samples."""
TOO_FEW = "no held-out data, or too few"
MAIN, DETAIL, FACT = "main", "detail", "fact"
"""Place of a metric in the report: main table, table of all metrics only, or facts about the run."""
GROUPS = (
    "Disclosure risks",
    "Impossible rows and copies",
    "Columns and pairs",
    "Detection",
    "Usefulness: trained on samples, tested on real rows",
    "Coverage and empty cells",
    "Membership",
    "Bounds",
)
"""Headings of groups of metrics in a report, in their order; other metrics follow."""
OTHER = "Other metrics"
"""Heading of metrics without a group, next to groups."""
FIRST = ("impossible", "copies", "copies_written")
"""Metrics that come first in their group."""
DIRECTIONS = {"higher": "Higher is better.", "lower": "Lower is better.", "match": "Should match the reference."}


@dataclass(frozen=True)
class MetricSpec:
    """Label, unit, direction and reference of one metric."""

    label: str
    help: str = ""
    """Explanation of the metric, which refers to other metrics by their keys in `--json`."""
    better: str = ""
    """Direction of better values: "higher", "lower" or "match" (close to the reference); empty if there is none."""
    reference: str = ""
    """Key of the metric with which this metric is compared; empty if there is none."""
    reference_label: str = "real data"
    other_references: tuple[str, ...] = ()
    """Keys of further baselines; the best one that was measured becomes the reference."""
    level: float | None = None
    """Reference value that follows from the definition of the metric; None if the reference is measured."""
    unit: str = ""
    is_percent: bool = False
    """True if the metric is shown in percent."""
    missing: str = ""
    """Reason why the metric can be absent from a report."""
    place: str = MAIN
    group: str = ""
    """Heading of the metrics among which this one stands in the report; empty for none."""

    def text(self, value: object) -> str:
        """Format a value of the metric as text."""
        if isinstance(value, str):
            return value
        if not is_number(value):
            return MISSING
        return format_percent(value) if self.is_percent else format_number(value)


def _read_table() -> dict[str, MetricSpec]:
    text = resources.files("feller.evaluation").joinpath("metrics.toml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = tomllib.loads(text)
    for name, row in rows.items():
        row.setdefault("group", rows.get(name.partition(":")[0], {}).get("group", ""))
        row["reference"] = row.get("reference", "").replace("*", name)
        row["other_references"] = tuple(key.replace("*", name) for key in row.get("other_references", ()))
    return {name: MetricSpec(**row) for name, row in rows.items()}


_ROWS = _read_table()
METRICS = {name: row for name, row in _ROWS.items() if ":" not in name}
"""Specs of all metrics by their keys in `--json`; metrics that serve only as references need no entry."""
VARIANTS = [(*name.split(":"), row) for name, row in _ROWS.items() if ":" in name]
"""Entries (key, other key, spec): spec of the metric `key` in reports that also have the metric `other key`."""
USER_METRICS: list[str] = []
"""Keys of the metrics of user-defined modalities; the first one that was measured decides the verdict."""
SERIES = {"mae_constant": "", "mae": "", "r2": "", "w2": "time ", "sinkhorn": "time "}
"""Metrics with one value per column or time, which is appended to the key, such as `mae_mu` and `w2_0.5`."""
ENDS = {"_low": "lower", "_high": "upper"}
"""Suffixes of the ends of 95 % confidence intervals, which need no entry in the registry."""
PREREQUISITES = {
    "no molecule is valid and connected": ("bonds_sane", "rdkit is not installed"),
    "no crystal is plausible": ("crystal_plausible", "pymatgen or SMACT is not installed"),
}
"""Mapping from the reason why a metric is missing to a pair: another metric that this reason presupposes, and the
reason to give instead if the other metric is missing too."""


def metric(name: str, numbers: Numbers | None = None) -> MetricSpec:
    """Return the spec of a metric by its key.

    `numbers` are all metrics of the report. They decide which spec is returned for a metric with several variants, and
    which of several baselines is the reference: the best. The label of an unknown metric is derived from its key.
    """
    numbers = {} if numbers is None else numbers
    return _with_best_reference(_spec(name, numbers), numbers)


def _with_best_reference(spec: MetricSpec, numbers: Numbers) -> MetricSpec:
    """Return the spec with the best of its references in `numbers`, whose label follows from that of its own spec."""
    values = {key: numbers.get(key) for key in (spec.reference, *spec.other_references)}
    measured = {key: float(value) for key, value in values.items() if is_number(value)}
    if not spec.other_references or not measured:
        return spec
    best = (max if spec.better == "higher" else min)(measured, key=measured.__getitem__)
    if best == spec.reference:
        return spec
    return replace(spec, reference=best, reference_label=METRICS[best].label.removeprefix(f"{spec.label}, "))


def _spec(name: str, numbers: Numbers) -> MetricSpec:
    for variant, key, spec in VARIANTS:
        if key in numbers and name == variant:
            return spec
    if name in METRICS:
        return METRICS[name]
    referring = _referring_metric(name)
    if referring is None and name.endswith("_floor") and name.removesuffix("_floor") in numbers:
        referring = name.removesuffix("_floor")
    if referring is not None:
        base = metric(referring, numbers)
        label = f"{base.label}, {base.reference_label}"
        return replace(base, label=label, help="", reference="", level=None, better="", place=DETAIL)
    for end, word in ENDS.items():
        if name.endswith(end) and (base_name := name.removesuffix(end)) in METRICS:
            base = METRICS[base_name]
            label, help_ = f"{base.label}, {word}", "End of the 95 % confidence interval."
            return MetricSpec(label, help_, unit=base.unit, is_percent=base.is_percent, place=DETAIL)
    for prefix in SERIES:
        if name.startswith(f"{prefix}_"):
            suffix = name.removeprefix(f"{prefix}_")
            base = METRICS[prefix]
            label = base.label.removeprefix("endpoint ") if SERIES[prefix] else base.label
            floor = f"{name}_floor" if SERIES[prefix] else f"{base.reference}_{suffix}"
            return replace(base, label=f"{label}, {SERIES[prefix]}{suffix}", reference=floor if base.reference else "")
    return MetricSpec(name.replace("_", " "), reference=f"{name}_floor" if f"{name}_floor" in numbers else "")


def add_metric(name: str, doc: str) -> None:
    """Register a user-defined distance metric; its reference is `NAME_floor`, the distance between sets of real data.

    Args:
        name: Key of the metric.
        doc: Docstring of the metric function; its first line explains the metric in reports.

    Raises:
        InputError: If a built-in metric has the same name.
    """
    if name in METRICS and name not in USER_METRICS:
        problem = f"{name}, the name of a built-in metric"
        raise InputError(argument="metrics", expected="a new name", found=problem, remedy="Rename the function")
    if name not in METRICS:
        help_ = doc.strip().partition("\n")[0]
        label = "real vs real"
        METRICS[name] = MetricSpec(name.replace("_", " "), help_, "lower", f"{name}_floor", reference_label=label)
        USER_METRICS.append(name)


def _referring_metric(name: str) -> str | None:
    """Return the metric whose reference value is the metric `name`; None if there is none."""
    return next((referring for referring, spec in METRICS.items() if spec.reference == name), None)


def main_metrics(numbers: Numbers) -> list[str]:
    """Return the keys of the metrics in the report's main table.

    These are all metrics except facts about the run, details, references of other metrics, and texts.
    """
    references = {metric(name, numbers).reference for name in numbers}
    return [
        name
        for name, value in numbers.items()
        if name not in references and metric(name, numbers).place == MAIN and not isinstance(value, str)
    ]


def grouped_metrics(numbers: Numbers) -> list[tuple[str, list[str]]]:
    """Return the main metrics of a report in groups, each with its heading.

    Metrics without a group come last; if there are no others, or only one group, the heading is empty.
    """
    groups: dict[str, list[str]] = {heading: [] for heading in (*GROUPS, "")}
    for name in main_metrics(numbers):
        groups[metric(name, numbers).group].append(name)
    for names in groups.values():
        names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    found = [(heading or OTHER, names) for heading, names in groups.items() if names]
    return found if len(found) > 1 else [("", names) for _, names in found]


def reference_value(name: str, numbers: Numbers) -> tuple[str, Number | None] | None:
    """Return the label and value of a metric's reference; None if the metric has no reference."""
    spec = metric(name, numbers)
    if spec.level is not None:
        return spec.reference_label, spec.level
    if not spec.reference:
        return None
    value = numbers.get(spec.reference)
    is_training = spec.reference.endswith("_floor") and numbers.get("compared_with") == TRAINED
    label = f"{spec.reference_label}, from the training data" if is_training else spec.reference_label
    return label, value if is_number(value) else None


def why_missing(name: str, numbers: Numbers, reasons: Mapping[str, str] | None = None) -> str:
    """Return the reason why a metric is missing: the report's own in `reasons`, or else that of the registry."""
    if reasons and name in reasons:
        return reasons[name].removesuffix(".")
    if numbers.get(name) is not None:
        return "not finite"
    reason = metric(name, numbers).missing
    required, absent_reason = PREREQUISITES.get(reason, ("", ""))
    if required and numbers.get(required) is None:
        return absent_reason
    referring = _referring_metric(name) or name.removesuffix("_floor").removesuffix("_real")
    if name.endswith(("_floor", "_real")) and numbers.get(referring) is not None:
        return TOO_FEW
    return reason or (TOO_FEW if name.endswith(("_floor", "_real", "_held_out")) else "not measured")


def explanations(numbers: Numbers) -> dict[str, str]:
    """Return the explanation of each metric, with unit and direction, by its key."""
    return {name: text for name in numbers if (text := explanation(name, numbers))}


def explanation(name: str, numbers: Numbers) -> str:
    """Return the explanation of a metric, with unit and direction; empty if the registry has no explanation."""
    spec = metric(name, numbers)
    if name not in METRICS and not spec.help:
        base = _referring_metric(name)
        return f"{base}, for {METRICS[base].reference_label}." if base else ""
    unit = f"In {spec.unit}." if spec.unit else ""
    return " ".join(filter(None, (spec.help, unit, DIRECTIONS.get(spec.better, ""))))


def replace_by_labels(text: str, numbers: Numbers) -> str:
    """Replace the keys of metrics in a text by the labels of these metrics."""
    names = (name for name in numbers if "_" in name)
    labels = {name: f'"{metric(name, numbers).label}"' for name in names}
    return re.sub(r"\w+", lambda match: labels.get(match[0], match[0]), text)
