"""The report of a run: an HTML page for people and report.json for programs, with key numbers."""

import datetime
import math
import pathlib
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from numbers import Real
from typing import Any
from xml.etree.ElementTree import Element

import torch

from feller import __version__
from feller.core.errors import cannot_write
from feller.core.run_folder import POLICY
from feller.core.serialization import replace_file, write_json
from feller.evaluation.report import sections
from feller.evaluation.report.figure import Picture
from feller.evaluation.report.html import Child, Grid, drawn, element, prose, render, section
from feller.evaluation.report.loss_curve import Curve
from feller.evaluation.report.metrics import (
    Measure,
    Numbers,
    audits,
    continues,
    copies,
    facts,
    joins,
    leading,
    measure,
    real,
    resynthesises,
    speaks,
    spoken,
    tells,
    why_missing,
)
from feller.evaluation.report.verdict import verdict
from feller.evaluation.report.verdict_thresholds import SKETCH
from feller.evaluation.report.wording import MISSING, Number, capital, date, is_number, sentence

GREY = "Grey is what real data reach when they are measured in the same way, which is as good as one can hope for."
JOINED = (
    "Grey is what members of the populations reach among themselves, measured in the same way; beside the cost of the"
    " journey it is what plain bridges cost, which do not mind yours."
)
AUDITED = "Grey is what stands beside it: guessing, an answer without the model, or the bound."
CONSTANT = "Grey is what one answer for all examples reaches."
CONTINUED = (
    "Grey is what stands beside it: the pictures that belong to the words, always the same answer, or, of copies,"
    " pictures whose cells of pixels, each with its code, become their mean colours."
)
OWN = {"before", "those that the model knows", "any samples"}
WITHOUT_DATA = (
    "Grey is what stands beside it: samples before, sources that the model knows, or any samples of the model."
)
SHRUNK = "Grey is what needs no learning: each cell of pixels that has a code becomes its mean colour."
PHASES = "Grey is what needs no learning: Griffin-Lim, 32 times back and forth."


def key_numbers(
    numbers: Numbers, explanations: Mapping[str, str], missing: Mapping[str, str], heading: str = ""
) -> Element:
    """Set each number that says how good the samples are beside what real data reach."""
    names = leading(numbers)
    heading = heading or f"How {_judged(numbers)}"
    if not names:
        return section(heading, element("p", None, "No number was measured."))
    cards = [_card(name, numbers, explanations, missing) for name in names]
    barred = [
        name for name, card in zip(names, cards, strict=True) if any(part.get("class") == "bars" for part in card)
    ]
    judge = numbers.get("judge")
    words = [_grey(numbers, {measure(name, numbers).real for name in barred})] if barred else []
    words += [f"Judge: {judge.removesuffix('.')}."] if isinstance(judge, str) else []
    note = element("p", {"class": "soft"}, " ".join(words)) if words else None
    return section(heading, note, element("dl", {"class": "numbers"}, *cards))


def _grey(numbers: Numbers, beside: set[str]) -> str:
    """Say what the second bars are, some of which may be of no real data."""
    if beside <= OWN:
        return WITHOUT_DATA
    if tells(numbers):
        return CONSTANT
    if copies(numbers):
        return SHRUNK
    if resynthesises(numbers):
        return PHASES
    if continues(numbers):
        return CONTINUED
    if joins(numbers):
        return JOINED
    return AUDITED if audits(numbers) else GREY


def _judged(numbers: Numbers) -> str:
    """Say what the numbers are to tell."""
    if tells(numbers):
        return "right the answers are"
    if copies(numbers) or resynthesises(numbers):
        return "good the copies are"
    if continues(numbers):
        return "well it knows documents"
    if speaks(numbers):
        return "well it speaks"
    return "good the bridge is" if joins(numbers) else "good the samples are"


def _card(name: str, numbers: Numbers, explanations: Mapping[str, str], missing: Mapping[str, str]) -> Element:
    kind, value = measure(name, numbers), numbers[name]
    unit = element("small", None, f" {kind.unit}") if kind.unit and is_number(value) else None
    parts: list[Child] = [
        element("dt", None, capital(kind.label)),
        element("dd", {"class": "value"}, kind.text(value), unit),
    ]
    if not is_number(value):
        parts.append(element("dd", {"class": "floor"}, sentence(why_missing(name, numbers, missing))))
    elif kind.floor or kind.level is not None:
        parts += _beside(kind, value, numbers, missing)
    if name in explanations:
        parts.append(element("dd", {"class": "meaning"}, *prose(spoken(name, numbers, explanations))))
    return element("div", None, *parts)


def _beside(kind: Measure, value: Number, numbers: Numbers, missing: Mapping[str, str]) -> Iterator[Element]:
    """Compare a number with what real data reach, in words and as two bars."""
    reached = numbers.get(kind.floor) if kind.level is None else kind.level
    if not is_number(reached):
        why = why_missing(kind.floor, numbers, missing)
        yield element("dd", {"class": "floor"}, element("b", None, kind.real), f" {MISSING} ({why})")
        return
    largest = 1.0 if kind.is_share else max(value, reached)
    if min(value, reached) >= 0 and largest > 0:
        bars = [element("i", {"style": f"width:{100 * part / largest:.1f}%"}) for part in (value, reached)]
        yield element("dd", {"class": "bars", "aria-hidden": "true"}, *bars)
    text = kind.text(reached) if kind.level is None else f"{kind.level:g}"
    yield element("dd", {"class": "floor"}, element("b", None, real(kind, numbers)), f" {text}")


_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z])")
LONG, WORD = 140, 40
"""Letters from which a first sentence is cut, and those at its beginning among which a colon is that of its word."""


def today() -> str:
    """Return the date in UTC, as ISO writes it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def software() -> dict[str, str]:
    """Return the versions of what runs now."""
    return {"feller": __version__, "torch": torch.__version__, "python": platform.python_version()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that a report shows, as plain data."""

    title: str
    """What was fitted, for the top of the page."""
    command: str = ""
    """The command line that made what is reported."""
    made: str = field(default_factory=today)
    """ISO date, or date and time; by default today, in UTC."""
    unfinished: str = ""
    """Why the run is not complete, how far it came and how to go on; empty if it is complete."""
    sketch: str = ""
    """That a run had little training, and how to go on; empty if it had enough."""
    said: str = ""
    """The one sentence on top; by default that which the numbers give."""
    described: bool = False
    """Whether a schema was given, so that no page advises one."""
    judged: str = ""
    """Which samples were looked at, and beside which real data."""
    numbers: Numbers = field(default_factory=dict)
    """By their names in --json, in the order of the page."""
    explanations: Mapping[str, str] = field(default_factory=dict)
    """One plain sentence for a number."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a number is None or not finite; words of the page's own where there is no entry."""
    promise: str = ""
    """What is guaranteed about the rows, to be quoted; empty of a run that is not private."""
    spent: Sequence[str] = ()
    """What was paid for in privacy, line by line."""
    beware: str = ""
    """What is not covered by the promise."""
    notes: Sequence[str] = ()
    """What was converted, chosen or left out."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Nested as in the recipe."""
    curve: Curve | None = ()
    """`step`, `loss`, `lr` and `seconds` of recorded steps; None where there were none, or the samples are no run's."""
    loss_unit: str = ""
    """Unit of the loss, as in "nats per token"."""
    pictures: Sequence[tuple[str, Picture]] = ()
    """Captions and pictures: the samples first, real data next."""
    measured: str = ""
    """Heading of the numbers; by default what they tell of."""
    seen: str = sections.SAMPLES
    """Heading of the pictures."""
    sounds: Sequence[tuple[str, bytes]] = ()
    """Captions and .wav files, below the pictures."""
    grids: Sequence[Grid] = ()
    """Tables, below the pictures."""
    next_steps: Sequence[tuple[str, str]] = ()
    """Commands, quoted for a shell, and what they do."""
    versions: Mapping[str, str] = field(default_factory=software)
    """Of the software that took part; by default what runs now."""


def write_report(folder: pathlib.Path, findings: Findings, name: str = "report") -> None:
    """Write `report.html`, one file that loads nothing, and `report.json`, the same without pictures.

    Args:
        folder: Where they go.
        findings: What they show.
        name: Of both files, without their endings.

    Raises:
        InputError: If the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", record(findings))
        replace_file(folder / f"{name}.html", page(findings))
    except OSError as error:
        raise cannot_write(f"the report to {folder}", error) from error


def record(findings: Findings) -> dict[str, Any]:
    """Return what report.json holds; numbers that are not finite are null there."""
    shown = ("pictures", "described", "measured", "seen", "sounds", "curve", "said", "grids")
    names = [one.name for one in fields(findings) if one.name not in shown]
    sections = {grid.title: _plain(grid.plain()) for grid in findings.grids}
    plain = {name: _plain(getattr(findings, name)) for name in names}
    return {"verdict": _verdict(findings), **plain, **({"tables": sections} if sections else {})}


def _verdict(findings: Findings) -> str:
    if findings.said:
        return f"{SKETCH}: {findings.said}" if findings.sketch else findings.said
    return verdict(findings.numbers, findings.sketch, described=findings.described)


def page(findings: Findings) -> str:
    """Return the page as HTML."""
    numbers, explanations, missing = findings.numbers, findings.explanations, findings.missing
    body = [
        _header(findings),
        element(
            "main",
            None,
            sections.promise(findings.promise, findings.spent, findings.beware) if findings.promise else None,
            key_numbers(numbers, explanations, missing, findings.measured),
            sections.pictures(findings.pictures, findings.seen),
            sections.sounds(findings.sounds) if findings.sounds else None,
            *map(drawn, findings.grids),
            None if findings.curve is None else _training(findings, findings.curve),
            sections.next_steps(findings.next_steps) if findings.next_steps else None,
            sections.notes(findings.notes),
            section(
                "Details",
                sections.all_numbers(numbers, explanations, missing) if numbers else None,
                None if findings.curve is None and not findings.settings else sections.settings(findings.settings),
                sections.versions(findings.versions) if findings.versions else None,
            ),
        ),
        element("footer", None, "Written by feller. This page is one file: it loads nothing and runs no script."),
    ]
    style = resources.files("feller.evaluation.report").joinpath("page.css").read_text(encoding="utf-8")
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", None, f"{findings.title}: report"),
        element("link", {"rel": "icon", "href": "data:,"}),
        element("style", None, style),
    )
    return render(element("html", {"lang": "en"}, head, element("body", None, *body)))


def _training(findings: Findings, curve: Curve) -> Element:
    return sections.loss_curve(curve, findings.loss_unit, private=bool(findings.promise))


def _header(findings: Findings) -> Element:
    """Say what was run and, in one sentence, how good it is."""
    when = element("time", {"datetime": findings.made}, date(findings.made)) if findings.made else None
    run = facts(findings.numbers)
    about = element("p", {"class": "about"}, when, " · " if when is not None and run else None, run)
    command = sections.command(findings.command) if findings.command else "a command that was not recorded"
    stop = [element("strong", None, "This run is not complete. "), findings.unfinished] if findings.unfinished else []
    return element(
        "header",
        None,
        element("h1", None, findings.title),
        _said(_verdict(findings)),
        about if when is not None or run else None,
        element("p", {"class": "about"}, "Made by ", command),
        element("p", {"class": "about"}, *prose(findings.judged)) if findings.judged else None,
        element("p", {"class": "unfinished"}, *stop) if stop else None,
        element("p", {"class": "unfinished"}, findings.sketch) if findings.sketch else None,
    )


def _said(told: str) -> Element:
    """Return the verdict, its first sentence large; of a long one what stands before its numbers."""
    first, *others = _SENTENCE.split(told, maxsplit=1)
    colon = first.find(": ", WORD)
    if len(first) > LONG and colon > 0:
        first, numbers = first[: colon + 1], first[colon + 2 :]
        others = [" ".join([numbers, *others])]
    further = [" ", element("span", {"class": "further"}, *prose(others[0]))] if others else []
    return element("p", {"class": "verdict"}, *prose(first), *further)


def _plain(value: Any) -> Any:
    """Turn nested data into what JSON has words for."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Real) and not isinstance(value, int):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
