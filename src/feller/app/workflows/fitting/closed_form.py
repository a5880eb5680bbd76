"""Closed-form fits: a single release computed from all rows, instead of training by gradient steps."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any, cast

from feller.app.reporter import Reporter
from feller.app.workflows.fitting.fit_plan import FitPlan
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.core.serialization import to_dict, write_json
from feller.data.tables.modality import GUESSED_NOTE
from feller.models.spec import ModelSpec, save_spec
from feller.privacy.accounting.dp_events import ZCdp
from feller.training.objectives.one_shot import OneShotObjective


def is_closed_form(counters: dict[str, Any]) -> bool:
    """Return True if a model was fitted in closed form, that is without training steps."""
    return counters["step"] == 0


def refuse_resume(run: Run) -> None:
    """Raise a UsageError, because a closed-form fit cannot be resumed; the message says what to do with the run."""
    if run.progress.is_file():
        raise UsageError(f"{run.path} is already fitted; evaluate it again with `feller evaluate {run.path}`")
    raise UsageError("was stopped before its fit finished", remedy="Start again with --overwrite", file=run.path)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """Plan and model specification of a closed-form fit, which was validated before any file is written."""

    plan: FitPlan
    description: ModelSpec


def set_up_closed_form(plan: FitPlan) -> ClosedForm:
    """Split the data and build the model specification of a closed-form fit.

    Raises:
        UsageError: If recipe and data do not fit together.
    """
    return ClosedForm(plan, plan.recipe.model_spec(plan.split[0]))


def fit_closed_form(run: Run, job: ClosedForm, reporter: Reporter) -> None:
    """Fit a model in closed form.

    Before any row is read, the maximum privacy cost is charged to the ledger; afterwards the actual cost replaces it.
    """
    plan, description = job.plan, job.description
    record, access, (rows, held_out) = plan.record, plan.access, plan.split
    save_spec(run, description)
    run.write_record(run.recipe, {**record.content, "recipe": to_dict(plan.recipe)})
    rho, noise = access.closed_form_budget()
    if math.isfinite(rho):
        access.charge(run, (ZCdp("one look at the rows", rho),))
    for note in record.provenance.notes:
        (reporter.log if note == GUESSED_NOTE else reporter.note)(note)
    reporter.log(
        f"{record.data}: {len(rows):,} training rows, {len(held_out):,} held out; recipe {record.provenance.recipe}"
        f"{access.privacy_text}; writing to {run.path}"
    )
    reporter.start("fitting in closed form")
    start = time.monotonic()
    release = cast(OneShotObjective, plan.recipe.objective).fit(rows, rho, noise)
    seconds, resolution = time.monotonic() - start, access.clock_resolution
    access.charge(run, release.events)
    save_spec(run, replace(description, architecture=release.architecture))
    for file in (run.weights, run.ema_weights):
        save_tensors(file, release.network.state_dict())
    write_json(
        run.progress, {"step": 0, "seconds": resolution * math.ceil(seconds / resolution) if resolution else seconds}
    )
    reporter.finish()
    reporter.log(release.summary)
