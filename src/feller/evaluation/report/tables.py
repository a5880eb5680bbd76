"""Tables for those who want to know it exactly, folded until then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from feller.evaluation.report.html import Child, element, prose
from feller.evaluation.report.metrics import Numbers, measure, why_missing
from feller.evaluation.report.wording import is_number, number, sentence

SETTINGS = 500
"""Rows of the table of settings, at most."""
LONG = 160
"""Letters of one setting, at most."""


def details(title: str, *children: Child) -> Element:
    """Fold what few want to see."""
    return element("details", None, element("summary", None, title), *children)


def all_numbers(numbers: Numbers, explanations: Mapping[str, str], missing: Mapping[str, str]) -> Element:
    """List every number under its name in report.json."""
    rows = []
    for name, value in numbers.items():
        kind, is_text = measure(name, numbers), isinstance(value, str)
        why = [] if is_text or is_number(value) else [sentence(why_missing(name, numbers, missing))]
        told = explanations.get(name, "")
        unit = sentence(f"in {kind.unit}") if kind.unit and kind.unit not in told else ""
        meaning = [str(value)] if is_text else [unit, told]
        rows.append(
            element(
                "tr",
                None,
                element("th", {"scope": "row"}, element("code", None, name)),
                element("td", {"class": "number"}, "" if is_text else kind.text(value)),
                element("td", None, *prose(" ".join(part for part in [*why, *meaning] if part))),
            )
        )
    titles = [("Name", ""), ("Value", "number"), ("Meaning", "")]
    heads = [element("th", {"scope": "col", "class": kind}, title) for title, kind in titles]
    table = element("table", {"class": "meanings"}, element("thead", None, element("tr", None, *heads)))
    table.append(element("tbody", None, *rows))
    return details("All numbers, by their names in --json", table)


def settings(values: Mapping[str, Any]) -> Element:
    """List settings by the names that the command line takes."""
    flat = list(_flat("", values))
    if not flat:
        return details("Settings", element("p", None, "No settings were recorded."))
    cut = len(flat) - SETTINGS
    more = element("p", {"class": "soft"}, f"{number(cut)} more are in report.json.") if cut > 0 else None
    return details("Settings", _pairs(flat[:SETTINGS]), more)


def versions(values: Mapping[str, str]) -> Element:
    """List the software that took part."""
    return details("Versions", _pairs([(name, value) for name, value in values.items()]))


def _pairs(rows: Sequence[tuple[str, Any]]) -> Element:
    """Make a table of names and values."""
    made = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, element("code", None, name)),
            element("td", None, _setting(value)),
        )
        for name, value in rows
    ]
    return element("table", {"class": "pairs"}, element("tbody", None, *made))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Name the leaves of nested settings by their path."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), inner)
    elif path:
        yield path, value


def _setting(value: Any) -> str:
    """Write a setting as it was given, shortened if it is long."""
    if value is None or value == {}:
        return "not set"
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    count = f" ({len(value)} in all)" if isinstance(value, list | tuple) else ""
    return text if len(text) <= LONG else f"{text[:LONG]}…{count}"
