"""Fit: from data to a run folder."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.evaluate import evaluate
from feller.app.workflows.fitting.auxiliary_networks import make_parts
from feller.app.workflows.fitting.closed_form import Look, look, set_up_look
from feller.app.workflows.fitting.plan_fit import FitPlan, RecipeRequest, as_read, check_duration, plan_fit
from feller.app.workflows.fitting.resume import plan_resumed
from feller.app.workflows.fitting.run_training import TrainingJob, record, reporting, restore, run_training, stoppable
from feller.app.workflows.fitting.training_setup import set_up_training
from feller.app.workflows.hugging_face import outdated
from feller.app.workflows.next_steps import evaluating
from feller.app.workflows.private.budget import earlier_lines
from feller.app.workflows.private.privacy_config import privacy_of, watched_rows
from feller.app.workflows.private.private_data import data_access
from feller.app.workflows.run_config import FitRecord, Provenance, elsewhere, older_example, record_of
from feller.app.workflows.run_status import run_numbers
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, resumable_run, target_run
from feller.core.serialization import replace_file
from feller.core.user_code import user_frame
from feller.data.batches import DataBundle
from feller.data.loading.in_memory import (
    IN_MEMORY_PREFIX,
    DataSource,
    SavedData,
    in_memory_name,
    is_in_memory,
    said_of,
    save,
)
from feller.data.tables.schema import text_of_schema
from feller.evaluation.evaluation_budget import EvaluationBudget, kind_of_report
from feller.models.recipes.recipe import Recipe
from feller.networks.network_config import DEFAULT_PARAMETER_BYTES
from feller.training.checkpoint import read_counters
from feller.training.engine import Engine, get_engine
from feller.training.trainer import Callback

SCHEMA = "schema.json"
"""File of the run with a schema that was in memory."""


def fit(
    config: FitConfig,
    data: DataSource | None = None,
    *,
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    fields: tuple[str, ...] = (),
    tell: Tell = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Fit a model to data and write a run folder.

    Args:
        config: What is asked for.
        data: What is learned from, in place of that of the config: also a DataFrame, an array or tensor, a list of
            texts, or a dict of them. The run keeps a copy, but for private rows. A resumed run knows its own.
        change: Last word on the recipe, such as other steps or rates.
        fields: The words of a command line that `change` does, which the report repeats.
        tell: Hears how it goes.

    Returns:
        The run, and the numbers of its report.

    Raises:
        InputError: If data, run or disk are not what they must be.
        UsageError: If an argument is wrong.
        Interrupted: After Ctrl-C, with all saved.
    """
    training, output = config.training, config.output
    check_duration(training.steps, training.minutes, fields)
    report = kind_of_report(config.report)
    EvaluationBudget.for_report(report, 0.0)  # refuses one of no known kind
    here, resume, overwrite = get_engine(), output.resume, output.overwrite
    data = config.data if data is None else data
    access = data_access(privacy_of(config), here, resume=resume)
    watched_rows(config)  # what is no number is told before the data are read
    if is_in_memory(data) and resume and not record_of(resumable_run(output.out)).data.startswith(IN_MEMORY_PREFIX):
        raise UsageError("a resumed run knows its data", remedy="Leave them out")
    run = _run_of(data, output.out, here, resume=resume, overwrite=overwrite)
    in_memory: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    given = data if is_in_memory(data) else None
    if given is not None:
        if access.keeps_copies and not resume:
            data, in_memory = _kept(given, run, here)
        else:
            data = None if resume else in_memory_name(given)
    config = replace(config, data=None if data is None else str(data))
    schema = config.reading.schema
    schema_file: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if schema is not None and not isinstance(schema, str):
        config, schema_file = _with_schema(config, text_of_schema(schema), run, here)
    request = RecipeRequest(
        name=config.recipe_name or "auto",
        size=config.size or "small",
        steps=training.steps,
        minutes=training.minutes,
        change=change,
    )
    with access.spending(run, here), in_memory, schema_file:
        if resume:
            with tell.waiting("reading the data"):
                plan = plan_resumed(run, config, request, here, given)
            _tell_moved(plan, tell)
        else:
            if not data:
                raise UsageError(
                    expected="data: a file, a folder, or example:NAME, which the command `feller data` lists, or,"
                    " in Python, a DataFrame, an array or texts"
                )
            provenance = Provenance(recipe=request.name, size=config.size or "", fields=fields)
            with tell.waiting(f"reading {data}"):
                plan = plan_fit(FitRecord(config=config, provenance=provenance), access, request, tell, given)
        here.check_identical(
            "data (or, of a private fit, the same key, see XDG_DATA_HOME)", plan.asked.provenance.fingerprint
        )
        if plan.recipe.objective.is_one_shot:
            ready: Look | TrainingJob = set_up_look(plan)
        else:
            most = run.state.stat().st_size + DEFAULT_PARAMETER_BYTES if resume and run.state.is_file() else sys.maxsize
            ready = set_up_training(run, plan, here, most)
    here.barrier()  # whoever refuses does so before anything is written
    claimed = run.acquire(resume=resume, overwrite=overwrite) if here.is_main_process else contextlib.nullcontext()
    with access.spending(run, here, begun=True), claimed:
        for line in earlier_lines(run, plan.asked.data, None if resume else as_read(plan.dataset, plan.recipe)):
            tell.say(line)
        here.barrier()
        if isinstance(ready, TrainingJob):
            _train(run, plan, ready, training.callbacks, here, tell, resume=resume)
        elif here.is_main_process:  # which looks at the rows alone
            look(run, ready, tell)
        here.barrier()  # until the first process has written what all will read
        numbers = _reported(run, plan, report, tell)
        for line in outdated(run) if resume else ():
            tell.say(line)
    return run, numbers


def _train(
    run: Run, plan: FitPlan, job: TrainingJob, callbacks: Sequence[Callback], here: Engine, tell: Tell, *, resume: bool
) -> None:
    """Train until the budget is spent."""
    access = plan.access
    restore(run, job, resume=resume, exhausted=access.exhausted, tell=tell)
    here.barrier()  # until all have read what the first will write
    access.open(run, job.state.step, here)
    record(run, job, here, tell)
    with stoppable(job.resume_command):  # at once: what it has made is kept
        job = make_parts(run, plan, job, here, tell)
        access.teach(job, plan.asked.seed, here, tell)
        inputs = access.inputs(run, plan, job, here, tell)
    inputs = replace(inputs, callbacks=(*inputs.callbacks, *callbacks))
    run_training(run, job, inputs, here, tell)


def _reported(run: Run, plan: FitPlan, report: str | None, tell: Tell) -> dict[str, Any]:
    """Judge what was learned; what fails in the user's own code, or is stopped, leaves the training and says so."""
    if report == "none":
        return run_numbers(run)
    effort = EvaluationBudget.for_report(report, 0.0 if report else read_counters(run)["seconds"])
    read = as_read(plan.dataset, plan.recipe)
    try:
        with reporting("the training", evaluating(run, plan.asked, {})):
            bundle = DataBundle(*plan.split, read, plan.asked.provenance.fingerprint)
            return evaluate(run, bundle=bundle, effort=effort, tell=tell)
    except Exception as error:
        said = str(error) if isinstance(error, InputError | UsageError) else user_frame(error)
        if not plan.asked.provenance.code or said is None:
            raise
        again = evaluating(run, plan.asked, {})
        raise InputError(
            f"{said}; the training is saved in {run.path}", remedy=f"Mend it, and go on with: {again}"
        ) from error


def _kept(data: Any, run: Run, here: Engine) -> tuple[str, SavedData]:
    """Let the first process write data that are in memory where the run will be, for later commands."""
    made = here.is_main_process and not run.path.exists()
    place = here.broadcast_str(str(save(data, run.path)) if here.is_main_process else "")
    return place, SavedData(pathlib.Path(place), said_of(data), made)


def _with_schema(config: FitConfig, text: str, run: Run, here: Engine) -> tuple[FitConfig, SavedData]:
    """Let the first process write a schema that is in memory where the run will be, for later commands."""
    made, file = here.is_main_process and not run.path.exists(), run.path / SCHEMA
    if here.is_main_process:
        run.path.mkdir(parents=True, exist_ok=True)
        replace_file(file, text)
    here.barrier()
    return config_of(FitConfig, config, schema=str(file)), SavedData(file, "your schema", made)


def _run_of(data: Any, out: str | None, here: Engine, *, resume: bool, overwrite: bool) -> Run:
    """Return the folder, which the first process chooses: what it makes there must not look like an older run."""
    name = data if isinstance(data, str) else ""
    chosen = target_run(out, name, resume=resume, overwrite=overwrite).path if here.is_main_process else ""
    return Run(pathlib.Path(here.broadcast_str(str(chosen))))


def _tell_moved(plan: FitPlan, tell: Tell) -> None:
    """Say so if a run that goes on is older than its data as they are now."""
    asked = plan.asked
    if older_example(asked.data, asked.provenance.fingerprint) or elsewhere(asked, plan.dataset):
        tell.say(
            f"the run is older than {asked.data} as it is now, the same on every processor: it goes on as it"
            " would have up to rounding, not bit for bit"
        )
