"""A fit that looks at all rows at once instead of training on them."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any, cast

from feller.app.reporter import Reporter
from feller.app.workflows.fitting.plan_fit import FitPlan
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.core.serialization import to_dict, write_json
from feller.data.tables.modality import GUESSED_NOTE
from feller.models.spec import ModelSpec, save_spec
from feller.privacy.accounting.dp_events import ZCdp
from feller.training.objectives.one_shot import OneShotObjective


def is_closed_form(counters: dict[str, Any]) -> bool:
    """Tell whether a model was found by a look at all rows: a training has taken a step before it is saved."""
    return counters["step"] == 0


def refuse_resume(run: Run) -> None:
    """Refuse to go on with a run whose rows were looked at, or were to be."""
    if run.progress.is_file():
        raise UsageError(
            f"the rows of {run.path} were looked at, and once is enough; `feller evaluate {run.path}` measures it again"
        )
    raise UsageError("was stopped before it told anything", remedy="Begin anew with --overwrite", file=run.path)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A look at all rows that is known to fit together, before anything of it is written."""

    plan: FitPlan
    description: ModelSpec


def set_up_closed_form(plan: FitPlan) -> ClosedForm:
    """Split the data, and describe the model.

    Raises:
        UsageError: If recipe and data do not fit together.
    """
    return ClosedForm(plan, plan.recipe.model_spec(plan.split[0]))


def fit_closed_form(run: Run, job: ClosedForm, reporter: Reporter) -> None:
    """Find the model; what that may cost is in the ledger before a row is looked at, and what it did cost replaces it.

    Args:
        run: Where it is written.
        job: What is looked at, and how.
        reporter: Hears how it goes.
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
        f"{record.data}: {len(rows):,} to look at, {len(held_out):,} kept back; recipe {record.provenance.recipe}"
        f"{access.privacy_text}; writing to {run.path}"
    )
    reporter.start("looking at the rows")
    start = time.monotonic()
    release = cast(OneShotObjective, plan.recipe.objective).fit(rows, rho, noise)
    seconds, unit = time.monotonic() - start, access.clock_resolution
    access.charge(run, release.events)
    save_spec(run, replace(description, architecture=release.architecture))
    for file in (run.weights, run.ema_weights):
        save_tensors(file, release.network.state_dict())
    write_json(run.progress, {"step": 0, "seconds": unit * math.ceil(seconds / unit) if unit else seconds})
    reporter.finish()
    reporter.log(release.summary)
