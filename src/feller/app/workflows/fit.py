"""Fit workflow: read data, train a model and write a run folder."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.evaluate import evaluate
from feller.app.workflows.fitting.auxiliary_networks import make_auxiliary_networks
from feller.app.workflows.fitting.closed_form import ClosedForm, fit_closed_form, set_up_closed_form
from feller.app.workflows.fitting.fit_plan import FitPlan
from feller.app.workflows.fitting.image_outlook import epochs_in_budget, required_training
from feller.app.workflows.fitting.plan_fit import plan_fit
from feller.app.workflows.fitting.recipe_request import RecipeRequest, check_duration, with_recipe_schema
from feller.app.workflows.fitting.resume import plan_resumed
from feller.app.workflows.fitting.run_training import (
    TrainingJob,
    interruptible,
    interruptible_report,
    record_job,
    restore_state,
    run_training,
)
from feller.app.workflows.fitting.training_setup import set_up_training
from feller.app.workflows.hugging_face import stale_exports
from feller.app.workflows.next_steps import evaluate_command
from feller.app.workflows.private.budget import earlier_lines
from feller.app.workflows.private.privacy_config import n_tracked_rows, privacy_of
from feller.app.workflows.private.private_data import data_access
from feller.app.workflows.run_config import (
    FitRecord,
    Provenance,
    is_from_other_processor,
    is_older_example,
    read_fit_record,
)
from feller.app.workflows.run_status import run_numbers
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, resumable_run, target_run
from feller.core.serialization import replace_file
from feller.core.user_code import user_frame
from feller.data.batches import DataBundle
from feller.data.database_urls import hide_password
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.loading.condition_sources import names_of
from feller.data.loading.in_memory import (
    IN_MEMORY_PREFIX,
    DataSource,
    SavedData,
    in_memory_name,
    is_in_memory,
    said_of,
    save,
)
from feller.data.tables.histories import Histories
from feller.data.tables.linked_schema import separate_schema
from feller.data.tables.linked_schema_files import write_linked_schema
from feller.data.tables.linked_tables import LinkedTables
from feller.data.tables.modality import Table
from feller.data.tables.schema import text_of_schema, write_schema
from feller.evaluation.evaluation_budget import EvaluationBudget, kind_of_report
from feller.models.recipes.recipe import Recipe
from feller.networks.network_config import DEFAULT_PARAMETER_BYTES
from feller.training.checkpoint import read_counters
from feller.training.engine import Engine, get_engine
from feller.training.trainer import Callback

SCHEMA = "schema.json"
"""Name of the file in a run folder for the schema of a table that was passed as a Python object, or detected."""


def fit(
    config: FitConfig,
    data: DataSource | None = None,
    *,
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    field_words: tuple[str, ...] = (),
    reporter: Reporter = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Fit a model to data and write a run folder.

    Args:
        config: Options of `feller fit`.
        data: Training data, which replaces the data named in the config: a DataFrame, an array or tensor, a list of
            texts, or a dict of these. The run stores a copy, unless the fit is private. None to resume a run.
        change: Function that modifies the recipe after all options have been applied, for example the learning rate.
        field_words: Command-line words with the same effect as `change`, for the report.
        reporter: Progress and log output.

    Returns:
        The run and the metrics of its report.

    Raises:
        InputError: If the data, the run or the disk is unusable.
        UsageError: If an argument is wrong.
        Interrupted: If training is interrupted by Ctrl-C; the run is saved.
    """
    training, output = config.training, config.output
    check_duration(training.steps, training.minutes, field_words)
    report = kind_of_report(config.report)
    EvaluationBudget.for_report(report, 0.0)  # raises an error for an unknown report type
    engine, resume, overwrite = get_engine(), output.resume, output.overwrite
    data = hide_password(config.data if data is None else data)
    access = data_access(privacy_of(config), engine, resume=resume)
    n_tracked_rows(config)  # raises an error for an invalid number, before the data are read
    if (
        is_in_memory(data)
        and resume
        and not read_fit_record(resumable_run(output.out)).data.startswith(IN_MEMORY_PREFIX)
    ):
        raise UsageError("a resumed run uses its recorded data", remedy="Leave out the data")
    run = _choose_folder(data, output.out, engine, resume=resume, overwrite=overwrite)
    saved_data: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    in_memory_data = data if is_in_memory(data) else None
    if in_memory_data is not None:
        if access.keeps_copies and not resume:
            data, saved_data = _keep_copy(in_memory_data, run, engine, names_of(config.data_loading.condition))
        else:
            data = None if resume else in_memory_name(in_memory_data)
    config = replace(config, data=None if data is None else str(data))
    schema = config.data_loading.schema
    schema_file: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if schema is not None and not isinstance(schema, str):
        config, schema_file = _with_schema(config, text_of_schema(schema), run, engine)
    request = RecipeRequest(
        name=config.recipe_name or "auto",
        size=config.size or "small",
        steps=training.steps,
        minutes=training.minutes,
        change=change,
    )
    with access.record_spending(run, engine), saved_data, schema_file:
        if resume:
            with reporter.spinner("reading the data"):
                plan = plan_resumed(run, config, request, engine, in_memory_data)
            _warn_older_data(plan, reporter)
        else:
            if not data:
                raise UsageError(
                    expected="data: a file, a folder, or example:NAME (see `feller data`); in Python also"
                    " a DataFrame, an array or texts"
                )
            provenance = Provenance(recipe=request.name, size=config.size or "", fields=field_words)
            with reporter.spinner(f"reading {data}"):
                plan = plan_fit(
                    FitRecord(config=config, provenance=provenance), access, request, reporter, in_memory_data
                )
        engine.check_identical(
            "data (or, for a private fit, the same key, see XDG_DATA_HOME)", plan.record.provenance.fingerprint
        )
        if plan.recipe.objective.is_one_shot:
            job: ClosedForm | TrainingJob = set_up_closed_form(plan)
        else:
            max_bytes = (
                run.state.stat().st_size + DEFAULT_PARAMETER_BYTES if resume and run.state.is_file() else sys.maxsize
            )
            job = set_up_training(run, plan, engine, max_bytes)
    engine.barrier()  # all processes validate before anything is written
    run_lock = run.acquire(resume=resume, overwrite=overwrite) if engine.is_main_process else contextlib.nullcontext()
    with access.record_spending(run, engine, begun=True), run_lock:
        for line in earlier_lines(
            run, plan.record.data, None if resume else with_recipe_schema(plan.dataset, plan.recipe)
        ):
            reporter.log(line)
        if engine.is_main_process and not resume:
            _keep_detected_schema(run, plan)
        engine.barrier()
        if isinstance(job, TrainingJob):
            _train(run, plan, job, training.callbacks, engine, reporter, resume=resume)
        elif engine.is_main_process:  # only the main process reads the rows
            fit_closed_form(run, job, reporter)
        engine.barrier()  # wait for the files of the main process
        metrics = _evaluate(run, plan, report, reporter)
        for line in stale_exports(run) if resume else ():
            reporter.log(line)
    return run, metrics


def _train(
    run: Run,
    plan: FitPlan,
    job: TrainingJob,
    callbacks: Sequence[Callback],
    engine: Engine,
    reporter: Reporter,
    *,
    resume: bool,
) -> None:
    access = plan.access
    restore_state(run, job, resume=resume, exhausted=access.is_exhausted, reporter=reporter)
    engine.barrier()  # wait until all processes have read the state that will be overwritten
    access.begin_session(run, job.state.step, engine)
    record_job(run, job, engine, reporter)
    for line in _outlook(plan, job) if engine.is_main_process else ():
        reporter.log(line)
    with interruptible(job.resume_command):  # finished auxiliary networks are kept
        job = make_auxiliary_networks(run, plan, job, engine, reporter)
        access.pretrain(job, plan.record.seed, engine, reporter)
        inputs = access.training_inputs(run, plan, job, engine, reporter)
    inputs = replace(inputs, callbacks=(*inputs.callbacks, *callbacks))
    run_training(run, job, inputs, engine, reporter)


def _outlook(plan: FitPlan, job: TrainingJob) -> Iterator[str]:
    """Yield what good images need and how far the budget goes; nothing for private fits and recipes of the user."""
    if plan.record.is_private or plan.record.provenance.code or job.data is None:
        return
    state = job.state
    yield from filter(
        None,
        (
            required_training(job.data.modality, job.data.total),
            epochs_in_budget(job.description, job.config, job.data, state.step, state.seconds),
        ),
    )


def _evaluate(run: Run, plan: FitPlan, report: str | None, reporter: Reporter) -> dict[str, Any]:
    """Evaluate the model; if user code fails or the user interrupts, the error states that the training is saved."""
    if report == "none":
        return run_numbers(run)
    effort = EvaluationBudget.for_report(report, 0.0 if report else read_counters(run)["seconds"])
    dataset = with_recipe_schema(plan.dataset, plan.recipe)
    try:
        with interruptible_report("the training", evaluate_command(run, plan.record, {})):
            bundle = DataBundle(*plan.split, dataset, plan.record.provenance.fingerprint)
            return evaluate(run, bundle=bundle, effort=effort, reporter=reporter)
    except Exception as error:
        message = str(error) if isinstance(error, InputError | UsageError) else user_frame(error)
        if not plan.record.provenance.code or message is None:
            raise
        command = evaluate_command(run, plan.record, {})
        raise InputError(
            f"{message}; the training is saved in {run.path}", remedy=f"Fix the error, then run: {command}"
        ) from error


def _keep_copy(data: Any, run: Run, engine: Engine, condition: Sequence[str]) -> tuple[str, SavedData]:
    """Write data in memory to the run folder, in the main process only, so that later commands can read them."""
    is_new = engine.is_main_process and not run.path.exists()
    path = engine.broadcast_str(str(save(data, run.path, condition)) if engine.is_main_process else "")
    return path, SavedData(pathlib.Path(path), said_of(data), is_new)


def _with_schema(config: FitConfig, text: str, run: Run, engine: Engine) -> tuple[FitConfig, SavedData]:
    """Write a schema passed as a Python object to the run folder, in the main process only, for later commands."""
    is_new, file = engine.is_main_process and not run.path.exists(), run.path / SCHEMA
    if engine.is_main_process:
        run.path.mkdir(parents=True, exist_ok=True)
        replace_file(file, text)
    engine.barrier()
    return config_of(FitConfig, config, schema=str(file)), SavedData(file, "your schema", is_new)


def _keep_detected_schema(run: Run, plan: FitPlan) -> None:
    """Write the detected schema of a table or of linked tables to the run folder, for the user to check and edit."""
    record, modality = plan.record, plan.dataset.modality
    if record.config.data_loading.schema is not None or plan.start_model is not None:
        return
    linked, table = modality.view(LinkedTables), modality.view(Table) or modality.view(Histories)
    if linked is not None:
        write_linked_schema(separate_schema(linked.schema, linked.links), run.path / SCHEMA, draft=True)
    elif table is not None and not (record.data or "").startswith(EXAMPLE_PREFIX):
        write_schema(table.schema, run.path / SCHEMA, draft=record.provenance.private is None)


def _choose_folder(data: Any, out: str | None, engine: Engine, *, resume: bool, overwrite: bool) -> Run:
    """Return the run folder that the main process chose; to other ranks, its files could look like an older run."""
    name = data if isinstance(data, str) else ""
    folder = target_run(out, name, resume=resume, overwrite=overwrite).path if engine.is_main_process else ""
    return Run(pathlib.Path(engine.broadcast_str(str(folder))))


def _warn_older_data(plan: FitPlan, reporter: Reporter) -> None:
    """Log a note if a resumed run will differ by rounding, because its example data depended on the processor then."""
    record = plan.record
    if is_older_example(record.data, record.provenance.fingerprint) or is_from_other_processor(record, plan.dataset):
        reporter.log(
            f"the run was fitted before {record.data} became identical on every processor: it resumes as it would have"
            " up to rounding, not bit for bit"
        )
