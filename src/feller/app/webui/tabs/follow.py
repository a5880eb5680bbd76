"""Follow a running fit: how far it is, its loss, and a preview."""

import pathlib
import shlex
import shutil
import time
from typing import Any

from feller.app.reporter import Tell, in_words
from feller.app.webui.loaded_run import Opened
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Shown, Tab
from feller.core.errors import InputError
from feller.core.serialization import read_json
from feller.training.callbacks import read_metrics

EVERY = 3.0
"""Seconds."""
AGAIN = "This tab looks again every few seconds."
RECENT, STILL = 10, 60.0
"""Rows of metrics that tell the pace; seconds without one after which a fit may have stopped."""


def _tab(one: Opened, place: Place) -> Tab:
    room = place.scratch.lasting()

    def does(answers: Answers, tell: Tell) -> Outcome:
        from feller.evaluation.report import sections  # takes long to load
        from feller.evaluation.report.html import render

        rows = [row for row in read_metrics(one.run.metrics) if "step" in row]
        curve = [row for row in rows if "loss" in row]
        drawing = render(sections.loss_curve(curve, "")).partition("\n")[2] if len(curve) > 1 else ""
        said, over = _told(one, rows), finished(one)
        said += "" if over else f"\n{AGAIN}"
        return Outcome(said=said, drawing=drawing, pictures=_preview(one, room), over=over)

    return Tab(
        about="How the fit goes.",
        controls={},
        does=does,
        shows=(Kind.DRAWING, Kind.PICTURES),
        button="Look again",
        every=EVERY,
        looks=True,
    )


def _preview(one: Opened, room: pathlib.Path) -> tuple[Shown, ...]:
    """Return a copy of the preview, which the fit may replace at any moment."""
    there = one.run.preview
    if not there.is_file() or there.is_symlink():
        return ()
    copy = room / f"preview-{there.stat().st_mtime_ns}.png"
    if not copy.is_file():
        for old in room.glob("preview-*.png"):
            old.unlink(missing_ok=True)
        shutil.copyfile(there, copy)
    return (Shown("Preview", copy),)


def _told(one: Opened, rows: list[dict[str, Any]]) -> str:
    """Say how far a fit is."""
    what, done = one.asked, int(_saved(one)[0])
    last = rows[-1] if rows else {}
    step = max(done, int(last.get("step", 0)))
    if not step:
        return f"{what}: no step has been saved yet"
    if finished(one):
        return f"{what}: finished after {step:,} steps; its report is under Reports"
    is_worked_on = one.run.is_locked
    if _share(one, *_saved(one)) >= 1:
        how = (
            "is being made" if is_worked_on else f"is missing; make it with: feller evaluate {shlex.quote(one.folder)}"
        )
        return f"{what}: all {step:,} steps are done; its report {how}"
    progress = _progress(one, step, [row for row in rows if "seconds" in row] if is_worked_on else [])
    loss = f", loss {last['loss']:.4g}" if "loss" in last else ""
    weights = "" if one.run.average.is_file() else "; weights are not saved yet"
    still = "" if is_worked_on else "; nobody works on it now"
    return f"{what}: step {step:,}{progress}{loss}{weights}{still}"


def _saved(one: Opened) -> tuple[float, float]:
    """Return the steps and the seconds of a fit that are saved."""
    try:
        counters = read_json(one.run.counters)
        return float(counters["step"]), float(counters.get("seconds", 0.0))
    except (InputError, KeyError, TypeError, ValueError):
        return 0.0, 0.0


def _budget(one: Opened) -> dict[str, Any]:
    """Return what was planned: steps, or minutes."""
    return one.run.read_record(one.run.recipe).get("recipe", {}).get("train", {})


def _share(one: Opened, steps: float, seconds: float) -> float:
    """Return the share of what was planned that is done; zero where nobody knows."""
    train = {} if one.is_bridge else _budget(one)
    planned, minutes = train.get("steps"), train.get("minutes")
    if isinstance(planned, int) and planned > 0:
        return steps / planned
    return seconds / (60 * minutes) if isinstance(minutes, int | float) and minutes > 0 else 0.0


def finished(one: Opened) -> bool:
    """Tell whether a fit has done all its steps and written its report since."""
    report, counters = one.run.path / "report.html", one.run.counters
    if not report.is_file() or not counters.is_file() or report.stat().st_mtime < counters.stat().st_mtime:
        return False
    return one.is_bridge or _share(one, *_saved(one)) >= 1


def _progress(one: Opened, step: int, rows: list[dict[str, Any]]) -> str:
    """Say which share of its steps, or of its time, a fit has done, and how long the rest takes, while it goes on."""
    planned, minutes = (_budget(one).get(name) for name in ("steps", "minutes"))
    if not one.is_bridge and planned is None and isinstance(minutes, int | float) and rows:
        left = max(60 * minutes - rows[-1]["seconds"], 0.0)
        return f", about {in_words(left)} of fitting left, and then its report"
    if one.is_bridge or not isinstance(planned, int) or not 0 < step <= planned:
        return ""
    done = f" of {planned:,}, {100 * step // planned} %"
    some = rows[-RECENT:]
    goes_on = step < planned and len(some) > 1 and time.time() - one.run.metrics.stat().st_mtime < STILL
    steps = some[-1]["step"] - some[0]["step"] if goes_on else 0
    if steps <= 0:
        return done
    left = (planned - step) * (some[-1]["seconds"] - some[0]["seconds"]) / steps
    return f"{done}, about {in_words(left)} of fitting left, and then its report"


FOLLOW = Ability(name="Follow", has=lambda one, place: True, tab=_tab)
