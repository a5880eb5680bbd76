"""Sections of the report: figures, sounds, commands, settings, versions, all numbers."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from feller.evaluation.report.figure import SHOWN, Picture, common_scale, figure, shown_width
from feller.evaluation.report.html import Child, element, prose, section
from feller.evaluation.report.loss_curve import Curve, draw, losses
from feller.evaluation.report.metrics import Numbers, measure, why_missing
from feller.evaluation.report.wording import Number, brief, is_number, number, sentence

SAMPLES = "Samples"
"""Heading of pictures of samples, which ask for real data beside them."""
PRIVATE = "Losses of a private training are not kept, since they tell of rows."


def pictures(shown: Sequence[tuple[str, Picture]], heading: str) -> Element | None:
    """Set pictures side by side, samples and real data at the same scale; nothing where none of samples are missed."""
    there = [(caption, picture) for caption, picture in shown if min(picture.size) > 0]
    if not there and heading != SAMPLES:
        return None
    if not there:
        return section(heading, element("p", None, "No samples were drawn, so there is nothing to see yet."))
    scale = common_scale([picture for _, picture in there])
    said = "There are no real data to set beside the samples."
    alone = element("p", {"class": "soft"}, said) if len(there) == 1 and heading == SAMPLES else None
    wide = any(shown_width(picture, scale) > 1.5 * SHOWN for _, picture in there)
    figures = [figure(caption, picture, scale) for caption, picture in there]
    return section(heading, element("div", {"class": "pictures wide" if wide else "pictures"}, *figures), alone)


def sounds(heard: Sequence[tuple[str, bytes]]) -> Element:
    """Set sounds side by side, to be listened to."""
    players = []
    for caption, wav in heard:
        source = f"data:audio/wav;base64,{base64.b64encode(wav).decode()}"
        player = element("audio", {"controls": "", "preload": "metadata", "src": source})
        players.append(element("figure", None, player, element("figcaption", None, caption)))
    return section("To listen to", element("div", {"class": "sounds"}, *players))


def loss_curve(curve: Curve, unit: str, *, private: bool = False) -> Element:
    """Draw the loss, or say why there is none: of a private training none is kept."""
    steps, loss = losses(curve)
    if private and not len(steps):
        return section("Training", element("p", None, PRIVATE))
    lost = len({entry.get("step") for entry in curve}) - len(steps)
    broken = f"Recorded steps whose loss was no finite number: {number(lost)}." if lost > 0 else ""
    if len(steps) < 2:
        few = "The loss was recorded at one step only, too few for a curve." if len(steps) else "No loss was recorded."
        return section("Training", element("p", None, f"{few} {broken}".strip()))
    rates = [entry["lr"] for entry in curve if is_number(entry.get("lr"))]
    caption = "Dots are single steps; the line is their average over the steps around."
    words = element("p", {"class": "soft"}, " ".join(part for part in [caption, _rates(rates), broken] if part))
    return section("Training", element("figure", None, draw(steps, loss, unit)), words)


def _rates(rates: Sequence[Number]) -> str:
    """Say how the learning rate went."""
    if not rates:
        return ""
    if min(rates) == max(rates):
        return f"The learning rate was {brief(rates[0])}."
    return f"The learning rate was {brief(max(rates))} at most and {brief(rates[-1])} at the end."


def command(text: str) -> Element:
    """Show a command that one click selects whole and that no line breaks inside a word."""
    words = [element("span", None, word) for word in text.split(" ")]
    spaced: list[Child] = [part for word in words for part in (word, " ")]
    return element("code", {"class": "command"}, *spaced[:-1])


def next_steps(steps: Sequence[tuple[str, str]]) -> Element:
    """List commands, each selected whole by one click."""
    items = [element("li", None, meaning, command(line)) for line, meaning in steps]
    return section("How to go on", element("ul", {"class": "steps"}, *items))


APART = (
    "What each line would cost alone does not add up to the total, which is less: for the worst of one noise to meet"
    " the worst of another is rarer than either."
)
"""Why a total is no sum."""
SEVERAL = 3
"""Lines from which on there are several expenses, and one for all together."""


def promise(text: str, spent: Sequence[str], beware: str) -> Element:
    """Say what is guaranteed, what it cost, and what it does not cover."""
    return section(
        "What is guaranteed",
        element("blockquote", None, text),
        element("p", None, element("strong", None, beware)) if beware else None,
        element("ul", {"class": "notes"}, *(element("li", None, line) for line in spent)) if spent else None,
        element("p", {"class": "soft"}, APART) if len(spent) >= SEVERAL else None,
    )


def notes(texts: Sequence[str]) -> Element:
    """List what was converted and chosen."""
    title = "What was converted and chosen"
    if not texts:
        return section(title, element("p", None, "Nothing had to be converted, chosen or left out."))
    items = [element("li", None, *prose(text)) for text in texts]
    return section(title, element("ul", {"class": "notes"}, *items))


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
