"""Writing of the report of a run: an HTML page rendered from a template, and report.json."""

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
    grouped_metrics,
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
from feller.evaluation.report.table_verdict import levels
from feller.evaluation.report.verdict import Verdict, judge_numbers, level_key, metric_verdict

SETTINGS, MAX_SETTING_LETTERS = 500, 160
"""Maximum number of rows in the settings table, and maximum number of letters in one setting."""
MIN_EXPENSES_FOR_TOTAL = 3
"""Minimum number of privacy expenses at which the report explains the total of the expenses."""
SAMPLES = "Samples"
"""Heading of figures of samples, beside which real data should be shown."""
_FLAG = re.compile(r"(?<![\w-])(--[a-z][\w.-]*\w)")
"""Regular expression for a command-line flag in prose, without a full stop after it."""
Cell = str | float | int | None


@dataclass(frozen=True)
class ReportTable:
    """Table in a report, with title and caption."""

    title: str
    caption: str
    """Description of the table's content."""
    header: tuple[str, ...]
    """Column names."""
    rows: Sequence[tuple[Cell, ...]]
    """Rows of cells; the first cell of each is the name of the row."""
    is_first: bool = False
    """True to show the table above the metrics."""

    def rows_as_dicts(self) -> list[Mapping[str, Any]]:
        """Return the rows as JSON-compatible dicts from column names to cells."""
        return [dict(zip(self.header, row, strict=True)) for row in self.rows]

    def is_number(self, column: int) -> bool:
        """Return True if a column has no cell with text."""
        return all(not isinstance(row[column], str) for row in self.rows)


def today() -> str:
    """Return today's UTC date in ISO format."""
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
    """Date or datetime of the report in ISO format; default: today in UTC."""
    unfinished: str = ""
    """Sentence that says why the run is incomplete, and how to resume it; empty if the run is complete."""
    sketch: str = ""
    """Sentence that reports undertraining and how to resume the run; empty if the run is not undertrained."""
    verdict: Verdict | None = None
    """Verdict of the report; by default it is derived from the metrics."""
    compared: str = ""
    """Sentence that names the data with which the samples are compared."""
    numbers: Numbers = field(default_factory=dict)
    """Metrics by their keys in `--json`, in the order of the report page."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Reasons why metrics are None or not finite, by key; the default reasons are those of the metric registry."""
    guarantee: str = ""
    """Privacy guarantee, shown as a quotation; empty if the run is not private."""
    expenses: Sequence[str] = ()
    """Privacy budget spent on the rows: one line of text per event in the privacy ledger."""
    caveat: str = ""
    """Limits of the privacy guarantee."""
    notes: Sequence[str] = ()
    """Notes on data conversions, automatic choices and omitted parts."""
    row_metrics: frozenset[str] = frozenset()
    """Keys of metrics that are computed from real rows without noise, which the page marks; empty to mark none."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Nested dict of the recipe's settings."""
    curve: Curve | None = ()
    """Recorded training steps; if None, the report has no section on training."""
    pictures: Sequence[tuple[str, ReportPicture]] = ()
    """Figures with captions: figures of samples first, then those of real data."""
    heading: str = SAMPLES
    sounds: Sequence[tuple[str, bytes]] = ()
    """Captions and contents of .wav files, which are shown below the figures."""
    grids: Sequence[ReportTable] = ()
    """Tables that are shown below the figures."""
    next_steps: Sequence[tuple[str, str]] = ()
    """Suggested next commands, quoted for the shell, with descriptions."""
    versions: Mapping[str, str] = field(default_factory=software)
    """Software versions; by default those that are running now."""

    @property
    def judgement(self) -> Verdict:
        """Verdict of the report: `verdict` if given, else the verdict derived from the metrics."""
        return self.verdict or judge_numbers(self.numbers, is_undertrained=bool(self.sketch))


def write_report(folder: pathlib.Path, report: RunReport, name: str = "report") -> None:
    """Write `report.html`, a self-contained page, and `report.json`, the same content without figures."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", record(report))
        replace_file(folder / f"{name}.html", page(report))
    except OSError as error:
        raise cannot_write(f"the report to {folder}", error) from error


def record(report: RunReport) -> dict[str, Any]:
    """Return the content of report.json as a dict, in which non-finite numbers are None."""
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
    """Convert nested data to JSON types: infinite numbers become null, and other objects text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(element) for name, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    if isinstance(value, Real) and not isinstance(value, int):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def replace_illegible(text: str) -> str:
    """Replace control characters, bidirectional overrides and unpaired surrogates by U+FFFD."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def prose(text: str) -> Markup:
    """Escape text for HTML, and mark flags such as --train.steps so that lines do not break inside them."""
    return Markup(_FLAG.sub(r'<span class="flag">\1</span>', str(escape(replace_illegible(text)))))


def _finalize(value: Any) -> Any:
    """Return a value of the template as it is shown: None as empty text, and unreadable characters replaced."""
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
    """Render a report as an HTML page."""
    numbers, judgement = report.numbers, report.judgement
    return _template().render(
        report=report,
        grade=judgement.grade or ("" if _deciding(judgement, numbers) else "Not measured"),
        level=re.sub(r"\W+", "-", judgement.grade.lower()) or "none",
        deciding=_deciding(judgement, numbers),
        doubts=judgement.doubts,
        cautions=judgement.cautions,
        levels=levels(numbers, judgement.grade) if report.verdict is None else [],
        facts=_facts(numbers),
        groups=[(heading, [_row(name, report) for name in names]) for heading, names in grouped_metrics(numbers)],
        all_numbers=[_detail(name, report) for name in numbers],
        judge=numbers.get("judge"),
        pictures=_pictures(report),
        wide=_is_wide(report.pictures),
        alone=len(report.pictures) == 1 and report.heading == SAMPLES,
        sounds=[(caption, f"data:audio/wav;base64,{base64.b64encode(wav).decode()}") for caption, wav in report.sounds],
        curve=Markup("") if report.curve is None else Markup(loss_svg(report.curve)),
        training=None if report.curve is None else _training(report.curve, is_private=bool(report.guarantee)),
        settings=_settings(report.settings),
        several=MIN_EXPENSES_FOR_TOTAL,
        policy=CONTENT_SECURITY_POLICY,
        style=Markup(_resource("page.css")),
    )


def _deciding(judgement: Verdict, numbers: Numbers) -> list[dict[str, Any]]:
    names = [name for name in judgement.metrics if is_number(numbers.get(name))]
    return [
        {"label": metric(name, numbers).label, "level": numbers.get(level_key(name), ""), **_value(name, numbers)}
        for name in names
    ]


def _value(name: str, numbers: Numbers) -> dict[str, Any]:
    definition, reference_pair = metric(name, numbers), reference_value(name, numbers)
    return {
        "value": definition.text(numbers[name]),
        "unit": definition.unit if is_number(numbers[name]) else "",
        "reference": ""
        if reference_pair is None
        else MISSING
        if reference_pair[1] is None
        else definition.text(reference_pair[1]),
        "reference_label": "" if reference_pair is None else reference_pair[0],
        "interval": _interval(name, numbers),
        "independent": definition.text(numbers[f"{name}_independent"]) if f"{name}_independent" in numbers else "",
    }


def _interval(name: str, numbers: Numbers) -> str:
    """Return the 95 % interval of a metric as text; empty if it is not measured."""
    ends = [numbers.get(f"{name}_{end}") for end in ("low", "high")]
    return " to ".join(metric(name, numbers).text(end) for end in ends) if all(map(is_number, ends)) else ""


def _row(name: str, report: RunReport) -> dict[str, Any]:
    """Return one metric as a row of the main table; it has bars if metric and reference are nonnegative numbers."""
    numbers = report.numbers
    definition, reference_pair, value = metric(name, numbers), reference_value(name, numbers), numbers[name]
    bars: list[str] = []
    if (
        reference_pair is not None
        and reference_pair[1] is not None
        and is_number(value)
        and min(value, reference_pair[1]) >= 0
    ):
        largest = 1.0 if definition.is_percent else max(value, reference_pair[1])
        bars = [f"{100 * number / largest:.1f}" for number in (value, reference_pair[1])] if largest > 0 else []
    reason = "" if is_number(value) else f"Missing: {why_missing(name, numbers, report.missing)}."
    if not reason and reference_pair is not None and reference_pair[1] is None:
        reason = f"No reference: {why_missing(definition.reference, numbers, report.missing)}."
    return {
        "name": name,
        "label": definition.label,
        "help": replace_by_labels(definition.help, numbers),
        "why": reason,
        "bars": bars,
        "verdict": metric_verdict(name, numbers),
        "better": definition.better,
        "better_help": DIRECTIONS.get(definition.better, ""),
        **_value(name, numbers),
    }


def _detail(name: str, report: RunReport) -> dict[str, str]:
    numbers, value = report.numbers, report.numbers[name]
    if isinstance(value, str):
        return {"name": name, "value": "", "meaning": value}
    reason = "" if is_number(value) else f"Missing: {why_missing(name, numbers, report.missing)}."
    meaning = " ".join(filter(None, (reason, explanation(name, numbers))))
    return {"name": name, "value": metric(name, numbers).text(value), "meaning": meaning}


def _facts(numbers: Numbers) -> str:
    steps, seconds = numbers.get("steps"), numbers.get("seconds")
    facts = [f"{format_number(round(steps))} steps"] if is_number(steps) and steps else []
    return " in ".join([*facts, format_duration(seconds)] if is_number(seconds) else facts)


def _pictures(report: RunReport) -> list[EmbeddedPicture]:
    nonempty = [(caption, picture) for caption, picture in report.pictures if min(picture.size) > 0]
    scale = common_scale([picture for _, picture in nonempty])
    return [embed_picture(caption, picture, scale) for caption, picture in nonempty]


def _is_wide(pictures: Sequence[tuple[str, ReportPicture]]) -> bool:
    scale = common_scale([picture for _, picture in pictures])
    return any(page_width(picture, scale) > 1.5 * PAGE_PIXELS for _, picture in pictures)


def _training(curve: Curve, *, is_private: bool) -> str:
    """Return the text below the loss curve, or the text that replaces the curve."""
    steps, _ = finite_losses(curve)
    if is_private and not len(steps):
        return "Losses of private training are not recorded, since they depend on single rows."
    num_lost = len({entry.get("step") for entry in curve}) - len(steps)
    lost_note = f"Recorded steps with a loss that is not finite: {format_number(num_lost)}." if num_lost > 0 else ""
    if len(steps) < 2:
        message = "The loss was recorded at one step only." if len(steps) else "No loss was recorded."
        return f"{message} {lost_note}".strip()
    rates = [entry["lr"] for entry in curve if is_number(entry.get("lr"))]
    lr = f"Learning rate: {format_brief(max(rates))} at most, {format_brief(rates[-1])} at the end." if rates else ""
    return " ".join(filter(None, ("Dots: single steps. Line: moving average.", lr, lost_note)))


def _settings(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return flattened settings by their names on the command line."""
    rows = [(name, _setting(value)) for name, value in _flatten("", values)]
    more = [("more settings", f"{format_number(len(rows) - SETTINGS)}, in report.json")] if len(rows) > SETTINGS else []
    return [*rows[:SETTINGS], *more]


def _flatten(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, child in value.items():
            yield from _flatten(f"{path}.{name}" if path else str(name), child)
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
