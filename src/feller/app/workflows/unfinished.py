"""A run whose training was stopped has a model like any other: what is said of it where samples are drawn."""

import shlex
from typing import Any

from feller.app.workflows.bridges.is_bridge import is_bridge
from feller.app.workflows.brought import brought_of
from feller.app.workflows.fine_tuned_run import tuned_of
from feller.app.workflows.fitting.closed_form import is_found
from feller.app.workflows.private.budget import ledger_of, steps_in
from feller.app.workflows.private.guarantee import Guarantee
from feller.app.workflows.run_config import Asked, asked_of, training_of
from feller.core.run_folder import Run
from feller.training.checkpoint import read_counters
from feller.training.optimizer import Training


def is_spent(run: Run, asked: Asked) -> bool:
    """Tell whether all steps that were planned of a private fit are paid for: it can train no more."""
    if not isinstance(asked.private, Guarantee) or tuned_of(run):
        return False
    ledger = ledger_of(run)
    return ledger is not None and steps_in(ledger) >= asked.private.steps


def stopped(run: Run, asked: Asked, training: Training, counters: dict[str, Any]) -> str:
    """Say for a report that a training has fewer steps than were planned; empty where it has all."""
    step = counters["step"]
    if is_found(counters) or training.share(step, counters["seconds"]) >= 1:
        return ""
    if not is_spent(run, asked):
        return f"Training stopped after {step:,} steps; go on with the command below."
    planned = asked.private.steps if isinstance(asked.private, Guarantee) else 0
    if step >= planned:
        return ""
    return (
        f"Training ended after {step:,} of {planned:,} steps: all are paid for, and those that were lost when it was"
        " killed cannot be taken again; only a new fit, which spends anew, learns more."
    )


def unfinished(run: Run) -> str:
    """Return one line where a fit was stopped before its end; empty where it was not, or the run is of another kind."""
    if not run.counters.is_file():
        return ""
    if tuned_of(run) or is_bridge(run) or brought_of(run):
        return ""
    training = training_of(run)
    counters = read_counters(run)
    asked = asked_of(run)
    said = stopped(run, asked, training, counters)
    if not said or is_spent(run, asked):
        return said[:1].lower() + said[1:].removesuffix(".")
    whole = f" of {training.steps:,}" if training.steps else ""
    if run.is_locked:
        step = f"{counters['step']:,}{whole}"
        return f"this run is not complete: a process works on it, and its weights are those of step {step}"
    code = ("--recipe", asked.recipe) if asked.code else ()
    command = shlex.join(map(str, ("feller", "fit", "--resume", *code, "--out", run.path)))
    return f"this run is not complete: training stopped after {counters['step']:,}{whole} steps; go on with: {command}"
