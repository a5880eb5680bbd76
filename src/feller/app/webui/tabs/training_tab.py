"""Tab "Training": progress, loss curve and preview of a fit that is running."""

import contextlib
import pathlib
import shlex
import shutil
import tempfile
from typing import Any

from feller.app.reporter import Reporter, format_duration
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.tab import Answers, CaptionedImage, OutputKind, PageContext, Tab, TabResult
from feller.app.workflows.run_config import read_train_config
from feller.core.errors import InputError
from feller.core.serialization import read_json
from feller.training.callbacks import read_metrics

EVERY = 3.0
"""Interval between refreshes in seconds."""
AGAIN = "This tab refreshes every few seconds."


def follow_tab(run: LoadedRun, page: PageContext) -> Tab:
    """Return the tab that shows the progress of training."""
    room = pathlib.Path(tempfile.mkdtemp(prefix="preview-", dir=page.folder))

    def look(answers: Answers, reporter: Reporter) -> TabResult:
        from feller.evaluation.report.loss_curve import loss_svg  # takes long to load

        rows = [row for row in read_metrics(run.run.metrics) if "step" in row]
        curve = [row for row in rows if "loss" in row]
        drawing = loss_svg(curve)
        message, over = _status(run, rows)
        message += "" if over else f"\n{AGAIN}"
        return TabResult(message=message, drawing=drawing, pictures=_preview(run, room), is_finished=over)

    return Tab(
        name="Training",
        description="Progress of training.",
        controls={},
        handler=look,
        outputs=(OutputKind.DRAWING, OutputKind.PICTURES),
        button="Refresh",
        refresh_seconds=EVERY,
        is_read_only=True,
    )


def _preview(run: LoadedRun, room: pathlib.Path) -> tuple[CaptionedImage, ...]:
    """Return a copy of the preview image in the folder `room`, since training may replace the file at any time."""
    there = run.run.preview
    if not there.is_file() or there.is_symlink():
        return ()
    copy = room / f"preview-{there.stat().st_mtime_ns}.png"
    if not copy.is_file():
        for old in room.glob("preview-*.png"):
            old.unlink(missing_ok=True)
        shutil.copyfile(there, copy)
    return (CaptionedImage("Preview", copy),)


def _status(run: LoadedRun, rows: list[dict[str, Any]]) -> tuple[str, bool]:
    """Return a status message, and whether training and its report are finished."""
    counters = {}
    with contextlib.suppress(InputError):
        counters = read_json(run.run.progress)
    train = None if run.is_bridge else read_train_config(run.run)
    last = {**counters, **(rows[-1] if rows else {})}
    saved, step = (int(max(found.get("step", 0) for found in group)) for group in ((counters,), (counters, last)))
    if not step:
        return f"{run.summary}: no saved step yet", False
    steps, minutes = (None, None) if train is None else (train.steps, train.minutes)
    progress_pairs = [
        (saved, step, steps),
        (counters.get("seconds", 0.0), last.get("seconds", 0.0), 60 * (minutes or 0)),
    ]
    done, now = next(((first / whole, later / whole) for first, later, whole in progress_pairs if whole), (0.0, 0.0))
    report = run.run.path / "report.html"
    fresh = report.is_file() and run.run.progress.is_file()
    if fresh and report.stat().st_mtime >= run.run.progress.stat().st_mtime and (run.is_bridge or done >= 1):
        return f"{run.summary}: finished after {step:,} steps; see the report in the tab Reports", True
    if done >= 1:
        report_status = f"is missing; create it with: feller evaluate {shlex.quote(run.folder)}"
        report_status = "is being written" if run.run.is_locked else report_status
        return f"{run.summary}: all {step:,} steps are done; the report {report_status}", False
    parts = [f"step {step:,}"]
    if steps and now <= 1:
        parts = [f"step {step:,} of {steps:,}", f"{int(100 * now)} %"]
    if run.run.is_locked and 0 < now <= 1 and "seconds" in last:
        remaining = format_duration(last["seconds"] * (1 - now) / now)
        parts.append(f"about {remaining} of training left, then the report")
    parts += [f"loss {last['loss']:.4g}"] if "loss" in last else []
    weights = "" if run.run.ema_weights.is_file() else "; no saved weights yet"
    idle = "" if run.run.is_locked else "; not running now"
    return f"{run.summary}: {', '.join(parts)}{weights}{idle}", False
