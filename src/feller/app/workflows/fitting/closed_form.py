"""A fit that looks at all rows at once instead of training on them."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from feller.app.reporter import Tell
from feller.app.workflows.fitting.plan_fit import Begun
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import parts
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.core.serialization import to_data, write_json
from feller.data.modality import Dataset
from feller.models.spec import Description, save_description
from feller.privacy.accounting.dp_events import Concentrated, Expense
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.noise.grid_noise import source
from feller.training.objectives.one_shot import AtOnce


def is_found(counters: dict[str, Any]) -> bool:
    """Tell whether a model was found by a look at all rows: a training has taken a step before it is saved."""
    return counters["step"] == 0


def check_found(run: Run) -> None:
    """Refuse to go on with a run whose rows were looked at, or were to be.

    Raises:
        UsageError: Always; says what can be done.
    """
    if run.counters.is_file():
        raise UsageError(
            f"the rows of {run.path} were looked at, and once is enough; `feller evaluate {run.path}` measures it again"
        )
    raise UsageError(f"{run.path} was stopped before it told anything; begin anew with --overwrite")


def finding(run: Run, begun: Begun, objective: AtOnce, tell: Tell) -> Callable[[], None]:
    """Return what looks at the rows and writes the model, once it is known that recipe and data fit together.

    Raises:
        UsageError: If they do not.
    """
    rows, held_out = parts(begun.asked, begun.dataset)
    description = begun.recipe.describe(rows)
    said = f"{begun.asked.data}: {len(rows):,} to look at, {len(held_out):,} kept back"
    return functools.partial(_find, run, begun, objective, rows, description, said, tell)


def _find(
    run: Run, begun: Begun, objective: AtOnce, rows: Dataset, description: Description, said: str, tell: Tell
) -> None:
    """Look; what that may cost is in the ledger before a row is looked at, and what it did cost replaces it."""
    asked, planned = begun.asked, begun.asked.private
    if isinstance(planned, Guarantee) or (planned is None) != (begun.ledger is None):
        raise TypeError("expected an allowance with a ledger, or neither")
    rho, noise, promise = math.inf, source(None), ""
    save_description(run, description)
    run.write_record(run.recipe, {"asked": to_data(asked), "recipe": to_data(begun.recipe)})
    if planned is not None:
        rho, noise = planned.rho, source(planned.unsafe_seed, "counts")
        promise = f"; epsilon {planned.epsilon:g} at delta {planned.delta:.3g}"
        _charge(run, begun.ledger, (Concentrated("one look at the rows", rho),))
    for note in asked.notes:
        tell.say(note)
    tell.say(f"{said}; recipe {asked.recipe}{promise}; writing to {run.path}")
    tell.task("looking at the rows")
    start = time.monotonic()
    told = objective.find(rows, rho, noise)
    seconds = time.monotonic() - start
    seconds = seconds if planned is None else 60.0 * math.ceil(seconds / 60)  # which tells less of rows
    _charge(run, begun.ledger, told.expenses)
    save_description(run, replace(description, architecture=told.architecture))
    for file in (run.weights, run.average):
        save_tensors(file, told.network.state_dict())
    write_json(run.counters, {"step": 0, "seconds": seconds})
    tell.done()
    tell.say(told.said)


def _charge(run: Run, ledger: Ledger | None, expenses: Sequence[Expense]) -> None:
    """Write the ledger of a private run, with what the look costs besides."""
    if ledger is None:
        return
    for expense in expenses:
        ledger = ledger.with_(expense)
    run.write_record(run.ledger, to_data(ledger))
