"""A fit that looks at all rows at once instead of training on them."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any, cast

from feller.app.reporter import Tell
from feller.app.workflows.fitting.plan_fit import FitPlan
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.core.serialization import to_dict, write_json
from feller.data.tables.modality import GUESSED_NOTE
from feller.models.spec import ModelSpec, save_spec
from feller.privacy.accounting.dp_events import ZCdp
from feller.training.objectives.one_shot import OneShotObjective


def is_found(counters: dict[str, Any]) -> bool:
    """Tell whether a model was found by a look at all rows: a training has taken a step before it is saved."""
    return counters["step"] == 0


def check_found(run: Run) -> None:
    """Refuse to go on with a run whose rows were looked at, or were to be."""
    if run.progress.is_file():
        raise UsageError(
            f"the rows of {run.path} were looked at, and once is enough; `feller evaluate {run.path}` measures it again"
        )
    raise UsageError("was stopped before it told anything", remedy="Begin anew with --overwrite", file=run.path)


@dataclass(frozen=True, eq=False)
class Look:
    """A look at all rows that is known to fit together, before anything of it is written."""

    plan: FitPlan
    description: ModelSpec


def set_up_look(plan: FitPlan) -> Look:
    """Split the data, and describe the model.

    Raises:
        UsageError: If recipe and data do not fit together.
    """
    return Look(plan, plan.recipe.model_spec(plan.split[0]))


def look(run: Run, found: Look, tell: Tell) -> None:
    """Find the model; what that may cost is in the ledger before a row is looked at, and what it did cost replaces it.

    Args:
        run: Where it is written.
        found: What is looked at, and how.
        tell: Hears how it goes.
    """
    plan, description = found.plan, found.description
    asked, access, (rows, held_out) = plan.asked, plan.access, plan.split
    save_spec(run, description)
    run.write_record(run.recipe, {**asked.parts, "recipe": to_dict(plan.recipe)})
    rho, noise = access.allowance()
    if math.isfinite(rho):
        access.charge(run, (ZCdp("one look at the rows", rho),))
    for note in asked.provenance.notes:
        (tell.say if note == GUESSED_NOTE else tell.note)(note)
    tell.say(
        f"{asked.data}: {len(rows):,} to look at, {len(held_out):,} kept back; recipe {asked.provenance.recipe}"
        f"{access.promise}; writing to {run.path}"
    )
    tell.task("looking at the rows")
    start = time.monotonic()
    told = cast(OneShotObjective, plan.recipe.objective).fit(rows, rho, noise)
    seconds, unit = time.monotonic() - start, access.clock_resolution
    access.charge(run, told.events)
    save_spec(run, replace(description, architecture=told.architecture))
    for file in (run.weights, run.ema_weights):
        save_tensors(file, told.network.state_dict())
    write_json(run.progress, {"step": 0, "seconds": unit * math.ceil(seconds / unit) if unit else seconds})
    tell.done()
    tell.say(told.summary)
