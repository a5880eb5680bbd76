"""Progress and log output on a terminal or in a notebook, with rich; written to standard error."""

import contextlib
import pathlib
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, TextIO

from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import feller
from feller.app.reporter import SILENT, Reporter, Warner, is_main_process
from feller.core.errors import FellerWarning
from feller.core.serialization import read_json

LOG_STEPS = 10
"""Number of progress lines per task if the output is not a terminal."""
QUIET_SECONDS = 5.0
"""Minimum time in seconds between two progress lines; a task that takes less time has no progress line."""
LABEL_WIDTH, VALUE_WIDTH = 36, 8
"""Minimum widths of the columns of a table of metrics, in characters."""


class TerminalReporter(Reporter):
    """Reporter on standard error: a progress bar on a terminal or in a notebook, otherwise occasional log lines."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self._notebook = self.console.is_jupyter
        if self._notebook and find_spec("ipywidgets") is None:  # otherwise each line would be a separate output block
            self.console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False, force_jupyter=False)
        self._bar: Progress | None = None
        self._task, self._spoke, self._part = "", 0.0, 0

    @property
    def is_interactive(self) -> bool:
        """True if the output is a terminal or a notebook."""
        return self.console.is_terminal or self._notebook

    @property
    def has_bar(self) -> bool:
        """True if a progress bar can be shown; in a notebook this requires ipywidgets."""
        return self.console.is_terminal or (self.console.is_jupyter and find_spec("ipywidgets") is not None)

    def log(self, text: str) -> None:
        self.console.print(text, markup=False, emoji=False)

    def start(self, name: str) -> None:
        self.finish()
        self._task, self._spoke, self._part = name, time.monotonic(), 0
        if self.has_bar:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=self.console)
            self._bar.add_task(name, total=1.0, text="")
            self._bar.start()
        else:
            self.log(f"{name} ...")

    def progress(self, fraction: float, text: str = "") -> None:
        """Update the progress bar, or log a line after each tenth of the task; fractions above 1 count as 1."""
        fraction = min(fraction, 1.0)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=fraction, text=text)
        elif int(LOG_STEPS * fraction) > self._part and time.monotonic() - self._spoke >= QUIET_SECONDS:
            self._spoke, self._part = time.monotonic(), int(LOG_STEPS * fraction)
            self.log(f"{self._task}: {fraction:4.0%}  {text}")

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def spinner(self, what: str) -> contextlib.AbstractContextManager[object]:
        """Show a spinner on a terminal; without a terminal, show nothing."""
        return self.console.status(escape(f"{what} ...")) if self.has_bar else contextlib.nullcontext()

    def table(self, numbers: dict[str, object]) -> None:
        """Show a table with the name and value of each number; numbers that are None are left out."""
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column()
        table.add_column()
        for name, value in numbers.items():
            if value is not None:
                table.add_row(escape(name), escape(f"{value:.4g}" if isinstance(value, float) else str(value)))
        self.console.print(table)


def make_reporter() -> Reporter:
    """Return a terminal reporter in the process with rank 0, and a silent reporter in all other processes."""
    return TerminalReporter() if is_main_process() else SILENT


@contextlib.contextmanager
def progress_reporter(verbose: bool | None) -> Iterator[Reporter]:
    """Yield the reporter for a call from Python; by default (None) it shows progress only in interactive sessions."""
    reporter = make_reporter()
    if isinstance(reporter, TerminalReporter) and (
        verbose is False or (verbose is None and not reporter.is_interactive)
    ):
        reporter = Warner()
    with show_own_warnings(reporter) if isinstance(reporter, TerminalReporter) else contextlib.nullcontext():
        try:
            yield reporter
        finally:
            reporter.finish()


@contextlib.contextmanager
def show_own_warnings(reporter: Reporter) -> Iterator[None]:
    """While the context is open, log feller's own warnings as single lines.

    Warnings of other packages are unchanged.
    """
    package_dir, original = pathlib.Path(feller.__file__).parent, warnings.showwarning

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, FellerWarning) or pathlib.Path(filename).is_relative_to(package_dir):
            reporter.log(str(message))
        else:
            original(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        yield


def show_numbers(numbers: dict[str, Any], reporter: Reporter) -> None:
    """Show numbers as a table, then the privacy guarantee (if training was private) and the path of the report."""
    if isinstance(reporter, TerminalReporter):
        sys.stdout.flush()
        reporter.table({name: value for name, value in numbers.items() if name != "report"})
    _show_guarantee(numbers, reporter)
    if numbers.get("report"):
        reporter.log(f"report: {numbers['report']}")


def show_metrics(metrics: dict[str, Any], reporter: Reporter) -> None:
    """Show the main metrics next to their references, the verdict, the privacy guarantee and the path of the report.

    Without a report, all metrics are shown, by their keys.
    """
    if not metrics.get("report"):
        show_numbers(metrics, reporter)
        return
    if reporter is SILENT:  # another process writes the report
        return
    report = pathlib.Path(metrics["report"])
    content = read_json(report.with_suffix(".json"))
    if isinstance(reporter, TerminalReporter):
        sys.stdout.flush()
        reporter.console.print(_metric_tables(metrics))
    reporter.log(f"verdict: {content['verdict']}")
    _show_guarantee(metrics, reporter)
    reporter.log(f"report: {report}; all metrics: {report.with_suffix('.json')}")


def _metric_tables(metrics: dict[str, Any]) -> Group:
    """Return the main metrics, a table for each group: label, value, reference with its value, and 95 % interval."""
    from feller.evaluation.metrics import grouped_metrics, metric, reference_value

    measured = {name: value for name, value in metrics.items() if value is not None}
    shown: list[str | Table] = []
    for heading, names in grouped_metrics(measured):
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=LABEL_WIDTH)
        table.add_column(min_width=VALUE_WIDTH, justify="right")
        for name in names:
            spec, reference = metric(name, measured), reference_value(name, measured)
            text = f"{reference[0]} {spec.text(reference[1])}" if reference and reference[1] is not None else ""
            ends = [spec.text(measured[end]) for end in (f"{name}_low", f"{name}_high") if end in measured]
            interval = f"interval {' to '.join(ends)}" if len(ends) == 2 else ""
            table.add_row(*map(escape, (spec.label, spec.text(measured[name]), text, interval)))
        shown += [f"[bold]{escape(heading)}[/bold]", table] if heading else [table]
    return Group(*shown)


def _show_guarantee(numbers: dict[str, Any], reporter: Reporter) -> None:
    if "rows_protected" in numbers:
        reporter.log(_guarantee_line(numbers))


def _guarantee_line(metrics: dict[str, Any]) -> str:
    """Return a line that states the privacy guarantee, and whether samples and model may be published."""
    from feller.privacy.accounting.ledger import MEANINGLESS_EPSILON, describe_weakness, format_exp_epsilon

    epsilon, delta = metrics["epsilon"], metrics["delta"]
    unit, weakness = metrics.get("protected_unit", "row"), describe_weakness(epsilon)
    rows_text = f"each of {metrics['rows_protected']:,} {unit}s"
    if epsilon >= MEANINGLESS_EPSILON:
        return (
            f"epsilon {epsilon:.4g} at delta {delta:.3g} {weakness} to {rows_text}: an inference about a {unit} may"
            f" become {format_exp_epsilon(epsilon)} times as likely; protect samples and model like the data"
        )
    weakness_text = f", which {weakness} (a factor of {format_exp_epsilon(epsilon)})" if weakness else ""
    return (
        f"{rows_text} is protected by epsilon {epsilon:.4g} at delta {delta:.3g}{weakness_text}; samples and model may"
        " be published, the report may not"
    )
