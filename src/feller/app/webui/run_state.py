"""State of a run on the web page: progress of training, and verdict of the report. All tabs show this one state.

Flow of the state:

1. `read_state` reads the run folder (lock, recipe, counters, last metrics, report) and returns one `RunState`.
2. A fit that holds the lock gives STARTING until a step is logged, then TRAINING, then REPORTING.
3. Without the lock, incomplete training gives STOPPED, complete training UNREPORTED, and a report of it REPORTED.
4. The header above all tabs of the run shows the state; it is read again on opening the page or a tab, and every few
   seconds until the state is final.
5. Tabs take facts on training and report from this state only, so two tabs cannot contradict each other.
"""

import contextlib
import enum
import html
import json
import pathlib
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from feller.app.reporter import format_duration
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.run_request import page_without_folders
from feller.app.workflows.bridges.bridge_detection import BRIDGE_KEY
from feller.app.workflows.fine_tuned_run import read_tuning_record
from feller.app.workflows.fitting.closed_form import is_closed_form
from feller.app.workflows.run_config import read_fit_record, read_import_conventions, read_train_config
from feller.app.workflows.run_status import ReportSummary, is_spent, is_stopped_early, read_report_summary
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.evaluation.number_format import Number, is_number
from feller.training.checkpoint import STOPPED_KEY, read_counters

REFRESH_SECONDS = 3.0
"""Interval in seconds at which the page reads a state that may change by itself."""
TAIL_BYTES = 8192
"""Number of bytes at the end of metrics.jsonl in which the last row is searched."""
REPORT_FILE = "report.html"


class Phase(enum.Enum):
    """Phases of a run."""

    STARTING = "starting"
    """A fit runs, and has not logged a step yet."""
    TRAINING = "training"
    STOPPED = "stopped"
    """Training is incomplete, and no fit runs."""
    REPORTING = "reporting"
    """Training is complete, and a process works on the run, which has no current report yet."""
    UNREPORTED = "unreported"
    """Training is complete, without a current report."""
    REPORTED = "reported"
    """The report is current, that is, made at the present step."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Snapshot of the state of a run: phase, progress of training, and report, as its folder shows them."""

    phase: Phase
    step: int = 0
    """Last logged or saved step; rounds for a bridge."""
    steps: int | None = None
    """Planned number of steps; None for a time limit."""
    fraction: float | None = None
    """Completed fraction of the training, from 0 to 1; None if unknown."""
    seconds_left: float | None = None
    """Estimated time until training is complete, in seconds; None if unknown."""
    loss: float | None = None
    has_weights: bool = True
    """True if weights are saved, so that samples can be drawn."""
    report: ReportSummary = field(default_factory=ReportSummary)
    """Current report; empty if there is none."""
    resume: str = ""
    """Command that resumes a stopped training; empty while another process works on the run."""
    evaluate: str = ""
    """Command that writes the report."""
    unit: str = "step"

    @property
    def is_final(self) -> bool:
        """True if the state changes only if someone works on the run again."""
        return self.phase is Phase.REPORTED

    @property
    def is_training(self) -> bool:
        """True if a fit trains the model now."""
        return self.phase in (Phase.STARTING, Phase.TRAINING)

    @property
    def training(self) -> str:
        """Progress of training in one line."""
        whole = "" if self.steps is None or self.step >= self.steps else f" of {self.steps:,}"
        count = f"{self.step:,}{whole}"
        if self.phase is Phase.STARTING:
            return f"Training has started; no {self.unit} is logged yet."
        if self.phase is Phase.STOPPED:
            if not self.step:
                return f"Training stopped before the first {self.unit} was logged."
            resume = f"Resume with: {self.resume}" if self.resume else "Another process works on this run."
            return f"Training stopped at {self.unit} {count}. {resume}"
        if self.phase is not Phase.TRAINING:
            return f"Trained for {count} {self.unit}{'' if self.step == 1 else 's'}." if self.step else "Fitted."
        parts = [f"Training: {self.unit} {count}"]
        parts += [f"{int(100 * self.fraction)} %"] if self.fraction is not None else []
        if self.seconds_left is not None:
            parts.append(f"about {format_duration(self.seconds_left)} left, then the report")
        parts += [f"loss {self.loss:.4g}"] if self.loss is not None else []
        return f"{', '.join(parts)}."

    @property
    def reporting(self) -> str:
        """State of the report in one line; empty if the report is current, since its verdict says more."""
        return {
            Phase.REPORTING: "The report is being written.",
            Phase.UNREPORTED: f"No report yet; create it with: {self.evaluate}",
            Phase.REPORTED: "",
        }.get(self.phase, "The report follows after training.")

    @property
    def weights(self) -> str:
        """Note that weights are missing; empty if they are there."""
        return "" if self.has_weights else "No weights are saved yet."

    @property
    def text(self) -> str:
        """Progress of training, state of the report after training, and a note if no weights are saved, in one line."""
        is_trained = self.phase in (Phase.REPORTING, Phase.UNREPORTED)
        return " ".join(filter(None, (self.training, self.reporting if is_trained else "", self.weights)))

    @property
    def html(self) -> str:
        """Header of the run: verdict and cautions of the current report, or else progress."""
        head, colon, numbers = self.report.verdict.partition(": ")
        grade, opening, doubts = head.partition(" (") if colon else (head, "", "")
        level = re.sub(r"\W+", "-", grade.lower()) if colon or grade else ""
        lines = []
        if grade:
            shown = f"<strong>{html.escape(grade)}</strong>{html.escape(opening + doubts + colon + numbers)}"
            lines.append(f'<p class="verdict {level}">{shown}</p>')
            sketch = (self.report.sketch,) if self.report.sketch else ()
            cautions = [f"{one[:1].upper()}{one[1:].removesuffix('.')}." for one in (*self.report.cautions, *sketch)]
            lines += [f'<p class="caution">{html.escape(caution)}</p>' for caution in cautions]
        if not grade or self.fraction is not None:
            lines.append(f'<p class="progress">{html.escape(self.text)}</p>')
        if self.phase is Phase.TRAINING and self.fraction is not None:
            lines.append(f'<progress max="1" value="{self.fraction:.3f}" aria-label="Progress of training"></progress>')
        inside = page_without_folders("".join(lines))
        return f'<div class="state" data-phase="{self.phase.value}">{inside}</div>'


def read_state(run: LoadedRun) -> RunState:
    """Read the state of a run from its folder."""
    folder, place = run.run, shlex.quote(run.folder)
    counters: dict[str, Any] = {}
    with contextlib.suppress(InputError):  # missing before the first checkpoint
        read = read_counters(folder)
        counters = {name: value for name, value in read.items() if is_number(value) or name == STOPPED_KEY}
    row = _last_row(folder.metrics)
    last = {**counters, **row}
    steps, minutes = _budget(run)
    unit, key = ("round", "rounds") if run.is_bridge else ("step", "step")
    saved, seconds = int(counters.get(key, 0)), float(counters.get("seconds", 0.0))
    step = max(saved, int(row.get("step", 0)))
    is_done = "step" in counters and _is_done(run, counters, _fraction(saved, seconds, steps, minutes))
    fraction = None if is_done else _fraction(step, float(last.get("seconds", 0.0)), steps, minutes)
    fraction = None if fraction is None or not 0 < fraction <= 1 else fraction
    is_locked, is_fitting = folder.is_locked, holds_fit(folder)
    report = _current_report(folder, None if run.is_bridge else counters.get("step"))
    if is_fitting and not is_done:
        phase = Phase.TRAINING if step else Phase.STARTING
    elif report is not None:
        phase = Phase.REPORTED
    elif is_done:
        phase = Phase.REPORTING if is_locked else Phase.UNREPORTED
    else:
        phase = Phase.STOPPED
    spent = last.get("seconds")
    return RunState(
        phase=phase,
        step=step,
        steps=steps,
        fraction=fraction,
        seconds_left=None if fraction is None or spent is None else float(spent) * (1 - fraction) / fraction,
        loss=last.get("loss"),
        has_weights=folder.ema_weights.is_file(),
        report=report if phase is Phase.REPORTED and report is not None else ReportSummary(),
        resume="" if is_locked else f"feller {_command(run)} --resume --out {place}",
        evaluate=f"feller evaluate {place}",
        unit=unit,
    )


def holds_fit(run: Run) -> bool:
    """Return True if a command that fits a model holds the lock of the run.

    Other commands take the lock too, but only fits write the recipe after taking it. Therefore only during a fit is
    the recipe file newer than the lock file.
    """
    if not run.is_locked:
        return False
    with contextlib.suppress(FileNotFoundError):
        return run.recipe.stat().st_mtime_ns >= (run.path / "lock").stat().st_mtime_ns
    return False


def _command(run: LoadedRun) -> str:
    if run.is_bridge:
        return "bridge"
    return "fit" if read_tuning_record(run.run) is None else "tune"


def _budget(run: LoadedRun) -> tuple[int | None, Number | None]:
    """Return the planned number of steps (rounds of a bridge) and the time limit in minutes; None where not set."""
    if not run.is_bridge:
        train = read_train_config(run.run)
        return train.steps, train.minutes
    record = run.run.read_record(run.run.recipe)
    minutes, rounds = record[BRIDGE_KEY].get("minutes"), run.run.read_field(run.run.recipe, "recipe", "rounds")
    return (None if minutes or not is_number(rounds) else int(rounds)), minutes if is_number(minutes) else None


def _fraction(step: int, seconds: float, steps: int | None, minutes: Number | None) -> float | None:
    return step / steps if steps else seconds / (60 * minutes) if minutes else None


def _is_done(run: LoadedRun, counters: dict[str, Any], fraction: float | None) -> bool:
    """Return True if training is complete, as far as the counters of the last checkpoint tell."""
    if run.is_bridge:  # with a time limit, the next round would exceed it
        late = fraction is not None and fraction * (1 + 2 / max(counters.get("rounds", 0), 1)) > 1
        return (fraction is not None and fraction >= 1) or (_budget(run)[0] is None and late)
    if read_import_conventions(run.run) is not None or is_closed_form(counters):
        return True
    is_early = is_stopped_early(read_train_config(run.run), counters)
    return is_early or (fraction is not None and fraction >= 1) or is_spent(run.run, read_fit_record(run.run))


def _last_row(file: pathlib.Path) -> dict[str, Any]:
    """Return the finite numbers in the last whole row of metrics.jsonl; empty if there is none."""
    if not file.is_file():
        return {}
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - TAIL_BYTES))
        tail = lines.read().decode("utf-8", errors="replace").splitlines()
    for line in reversed(tail):
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and type(row.get("step")) is int:
                return {name: value for name, value in row.items() if is_number(value)}
    return {}


def _current_report(run: Run, step: Number | None) -> ReportSummary | None:
    """Return the summary of the report if it was made at this step; None without such a report or if it is damaged."""
    if not (run.path / REPORT_FILE).is_file():
        return None
    try:
        report = read_report_summary(run)
    except InputError:
        return None
    return report if step is None or report.numbers.get("steps", step) == step else None
