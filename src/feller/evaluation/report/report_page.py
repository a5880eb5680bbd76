"""Report of a run: an HTML page from a template, and report.json."""

import base64
import datetime
import functools
import math
import pathlib
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from numbers import Real
from typing import Any

import jinja2
import torch
from markupsafe import Markup, escape

from feller import __version__
from feller.core.errors import cannot_write
from feller.core.run_folder import CONTENT_SECURITY_POLICY
from feller.core.serialization import replace_file, write_json
from feller.evaluation.metrics import (
    DIRECTIONS,
    Numbers,
    explanation,
    explanations,
    main_metrics,
    metric,
    reference_value,
    replace_by_labels,
    why_missing,
)
from feller.evaluation.number_format import (
    MISSING,
    format_brief,
    format_date,
    format_duration,
    format_number,
    is_number,
)
from feller.evaluation.report.embedded_picture import (
    PAGE_PIXELS,
    EmbeddedPicture,
    ReportPicture,
    common_scale,
    embed_picture,
    page_width,
)
from feller.evaluation.report.loss_curve import Curve, finite_losses, loss_svg
from feller.evaluation.report.verdict import Verdict, judge_numbers, metric_verdict

SETTINGS, MAX_SETTING_LETTERS = 500, 160
"""Maximum number of rows of the settings table, and of letters of one setting."""
MIN_EXPENSES_FOR_TOTAL = 3
"""Minimum number of privacy expenses for which the report explains their total."""
SAMPLES = "Samples"
"""Heading of figures of samples, which should have real data next to them."""
_FLAG = re.compile(r"(?<![\w-])(--[a-z][\w.-]*\w)")
"""Flag of the command line in prose, without a trailing full stop."""
Cell = str | float | int | None


@dataclass(frozen=True)
class ReportTable:
    """Table of a report, with title and caption."""

    title: str
    caption: str
    """Description of the content."""
    header: tuple[str, ...]
    """Column names."""
    rows: Sequence[tuple[Cell, ...]]
    """The first cell names the row."""

    def rows_as_dicts(self) -> list[Mapping[str, Any]]:
        """Return the rows as dictionaries by column name, for JSON."""
        return [dict(zip(self.header, row, strict=True)) for row in self.rows]

    def is_number(self, column: int) -> bool:
        """Return True if a column has no text."""
        return all(not isinstance(row[column], str) for row in self.rows)


def today() -> str:
    """Return today's date in UTC in ISO format."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def software() -> dict[str, str]:
    """Return the versions of feller, torch and Python."""
    return {"feller": __version__, "torch": torch.__version__, "python": platform.python_version()}


@dataclass(frozen=True, kw_only=True, eq=False)
class RunReport:
    """Content of a report as plain data."""

    title: str
    command: str = ""
    """Command line that produced the results."""
    made: str = field(default_factory=today)
    """ISO date or datetime; default: today in UTC."""
    unfinished: str = ""
    """Reason why the run is incomplete, and how to resume; empty if complete."""
    sketch: str = ""
    """Note that the run is undertrained, and how to resume; empty if it is not."""
    verdict: Verdict | None = None
    """Verdict; default: derived from the metrics."""
    compared: str = ""
    """Sentence that states with which data the samples are compared."""
    numbers: Numbers = field(default_factory=dict)
    """Metrics by their keys in `--json`, in the order of the page."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Reasons for metrics that are None or not finite; default: those of the metric registry."""
    guarantee: str = ""
    """Privacy guarantee, shown as a quotation; empty if the run is not private."""
    expenses: Sequence[str] = ()
    """Lines of the privacy ledger."""
    caveat: str = ""
    """Limits of the guarantee."""
    notes: Sequence[str] = ()
    """Notes on conversions, choices and omissions."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Nested settings of the recipe."""
    curve: Curve | None = ()
    """Recorded training steps; None for no section on training."""
    pictures: Sequence[tuple[str, ReportPicture]] = ()
    """Captions and figures: samples first, then real data."""
    heading: str = SAMPLES
    """Heading of the figures."""
    sounds: Sequence[tuple[str, bytes]] = ()
    """Captions and contents of .wav files, below the figures."""
    grids: Sequence[ReportTable] = ()
    """Tables, below the figures."""
    next_steps: Sequence[tuple[str, str]] = ()
    """Suggested commands, shell-quoted, with descriptions."""
    versions: Mapping[str, str] = field(default_factory=software)
    """Software versions; default: the current ones."""

    @property
    def judgement(self) -> Verdict:
        """Verdict of the report: the given one, or else the one derived from the metrics."""
        return self.verdict or judge_numbers(self.numbers, is_undertrained=bool(self.sketch))


def write_report(folder: pathlib.Path, report: RunReport, name: str = "report") -> None:
    """Write `report.html`, a self-contained page, and `report.json`, the same without figures.

    Args:
        folder: Output folder.
        report: Content.
        name: Stem of both files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", record(report))
        replace_file(folder / f"{name}.html", page(report))
    except OSError as error:
        raise cannot_write(f"the report to {folder}", error) from error


def record(report: RunReport) -> dict[str, Any]:
    """Return the content of report.json, in which non-finite numbers are null."""
    tables = {grid.title: grid.rows_as_dicts() for grid in report.grids}
    return _plain(
        {
            "verdict": report.judgement.text(report.numbers),
            "cautions": report.judgement.cautions,
            "title": report.title,
            "command": report.command,
            "made": report.made,
            "unfinished": report.unfinished,
            "sketch": report.sketch,
            "judged": report.compared,
            "numbers": report.numbers,
            "explanations": explanations(report.numbers),
            "missing": report.missing,
            "promise": report.guarantee,
            "spent": report.expenses,
            "beware": report.caveat,
            "notes": report.notes,
            "settings": report.settings,
            "next_steps": report.next_steps,
            "versions": report.versions,
            **({"tables": tables} if tables else {}),
        }
    )


def _plain(value: Any) -> Any:
    """Convert nested data to JSON types."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Real) and not isinstance(value, int):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def replace_illegible(text: str) -> str:
    """Replace control characters, bidirectional overrides and unpaired surrogates by U+FFFD."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def prose(text: str) -> Markup:
    """Escape text for HTML, without line breaks inside flags such as --train.steps."""
    return Markup(_FLAG.sub(r'<span class="flag">\1</span>', str(escape(replace_illegible(text)))))


def _finalize(value: Any) -> Any:
    """Clean a template value before it is escaped."""
    if value is None:
        return ""
    return replace_illegible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _resource(name: str) -> str:
    return resources.files("feller.evaluation.report").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"prose": prose, "date": format_date, "cell": _cell}
    return environment.from_string(_resource("page.html"))


def page(report: RunReport) -> str:
    """Render the report as HTML."""
    numbers, judgement = report.numbers, report.judgement
    return _template().render(
        report=report,
        grade=judgement.grade or ("" if _deciding(judgement, numbers) else "Not measured"),
        level=re.sub(r"\W+", "-", judgement.grade.lower()) or "none",
        deciding=_deciding(judgement, numbers),
        cautions=judgement.cautions,
        facts=_facts(numbers),
        metrics=[_row(name, report) for name in main_metrics(numbers)],
        all_numbers=[_detail(name, report) for name in numbers],
        judge=numbers.get("judge"),
        pictures=_pictures(report),
        wide=_is_wide(report.pictures),
        alone=len(report.pictures) == 1 and report.heading == SAMPLES,
        sounds=[(words, f"data:audio/wav;base64,{base64.b64encode(wav).decode()}") for words, wav in report.sounds],
        curve=Markup("") if report.curve is None else Markup(loss_svg(report.curve)),
        training=None if report.curve is None else _training(report.curve, is_private=bool(report.guarantee)),
        settings=_settings(report.settings),
        several=MIN_EXPENSES_FOR_TOTAL,
        policy=CONTENT_SECURITY_POLICY,
        style=Markup(_resource("page.css")),
    )


def _deciding(judgement: Verdict, numbers: Numbers) -> list[dict[str, Any]]:
    names = [name for name in judgement.metrics if is_number(numbers.get(name))]
    return [{"label": metric(name, numbers).label, **_value(name, numbers)} for name in names]


def _value(name: str, numbers: Numbers) -> dict[str, Any]:
    one, reference_pair = metric(name, numbers), reference_value(name, numbers)
    return {
        "value": one.text(numbers[name]),
        "unit": one.unit if is_number(numbers[name]) else "",
        "reference": ""
        if reference_pair is None
        else MISSING
        if reference_pair[1] is None
        else one.text(reference_pair[1]),
        "reference_label": "" if reference_pair is None else reference_pair[0],
    }


def _row(name: str, report: RunReport) -> dict[str, Any]:
    """Return one row of the main table, with bars if both the metric and its reference are nonnegative numbers."""
    numbers = report.numbers
    one, reference_pair, value = metric(name, numbers), reference_value(name, numbers), numbers[name]
    bars: list[str] = []
    if (
        reference_pair is not None
        and reference_pair[1] is not None
        and is_number(value)
        and min(value, reference_pair[1]) >= 0
    ):
        largest = 1.0 if one.is_percent else max(value, reference_pair[1])
        bars = [f"{100 * part / largest:.1f}" for part in (value, reference_pair[1])] if largest > 0 else []
    why = "" if is_number(value) else f"Missing: {why_missing(name, numbers, report.missing)}."
    if not why and reference_pair is not None and reference_pair[1] is None:
        why = f"No reference: {why_missing(one.reference, numbers, report.missing)}."
    return {
        "name": name,
        "label": one.label,
        "help": replace_by_labels(one.help, numbers),
        "why": why,
        "bars": bars,
        "verdict": metric_verdict(name, numbers),
        "better": one.better,
        "better_help": DIRECTIONS.get(one.better, ""),
        **_value(name, numbers),
    }


def _detail(name: str, report: RunReport) -> dict[str, str]:
    numbers, value = report.numbers, report.numbers[name]
    if isinstance(value, str):
        return {"name": name, "value": "", "meaning": value}
    why = "" if is_number(value) else f"Missing: {why_missing(name, numbers, report.missing)}."
    meaning = " ".join(filter(None, (why, explanation(name, numbers))))
    return {"name": name, "value": metric(name, numbers).text(value), "meaning": meaning}


def _facts(numbers: Numbers) -> str:
    steps, seconds = numbers.get("steps"), numbers.get("seconds")
    parts = [f"{format_number(round(steps))} steps"] if is_number(steps) and steps else []
    return " in ".join([*parts, format_duration(seconds)] if is_number(seconds) else parts)


def _pictures(report: RunReport) -> list[EmbeddedPicture]:
    shown = [(caption, picture) for caption, picture in report.pictures if min(picture.size) > 0]
    scale = common_scale([picture for _, picture in shown])
    return [embed_picture(caption, picture, scale) for caption, picture in shown]


def _is_wide(pictures: Sequence[tuple[str, ReportPicture]]) -> bool:
    scale = common_scale([picture for _, picture in pictures])
    return any(page_width(picture, scale) > 1.5 * PAGE_PIXELS for _, picture in pictures)


def _training(curve: Curve, *, is_private: bool) -> str:
    """Return the text below the loss curve, or the text that replaces the curve."""
    steps, _ = finite_losses(curve)
    if is_private and not len(steps):
        return "Losses of private training are not recorded, since they depend on single rows."
    lost = len({entry.get("step") for entry in curve}) - len(steps)
    broken = f"Recorded steps with a loss that is not finite: {format_number(lost)}." if lost > 0 else ""
    if len(steps) < 2:
        few = "The loss was recorded at one step only." if len(steps) else "No loss was recorded."
        return f"{few} {broken}".strip()
    rates = [entry["lr"] for entry in curve if is_number(entry.get("lr"))]
    rate = f"Learning rate: {format_brief(max(rates))} at most, {format_brief(rates[-1])} at the end." if rates else ""
    return " ".join(filter(None, ("Dots: single steps. Line: moving average.", rate, broken)))


def _settings(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return flattened settings by their names on the command line."""
    flat = [(name, _setting(value)) for name, value in _flatten("", values)]
    more = [("more settings", f"{format_number(len(flat) - SETTINGS)}, in report.json")] if len(flat) > SETTINGS else []
    return [*flat[:SETTINGS], *more]


def _flatten(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flatten(f"{path}.{name}" if path else str(name), inner)
    elif path:
        yield path, value


def _setting(value: Any) -> str:
    if value is None or value == {}:
        return "not set"
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    count = f" ({len(value)} in all)" if isinstance(value, list | tuple) else ""
    return text if len(text) <= MAX_SETTING_LETTERS else f"{text[:MAX_SETTING_LETTERS]}…{count}"


def _cell(cell: Cell) -> str:
    if cell is None:
        return MISSING
    return format_number(cell) if is_number(cell) else str(cell)
