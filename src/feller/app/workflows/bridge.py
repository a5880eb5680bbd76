"""Bridge workflow: fit a Schrödinger bridge between populations and write a run folder."""

import contextlib
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from feller.app.config import BridgeConfig, FitConfig
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.bridges.bridge_detection import BRIDGE_KEY
from feller.app.workflows.bridges.bridge_options import apply_options, default_bridge_settings, frame_of, times_of
from feller.app.workflows.bridges.bridge_report import report_bridge
from feller.app.workflows.bridges.bridge_run import (
    BridgeRecord,
    begin,
    continue_command,
    load_progress,
    read_bridge_record,
    read_bridge_settings,
    reread_populations,
    save_progress,
)
from feller.app.workflows.bridges.cost_specs import files_of, names_of
from feller.app.workflows.bridges.parse_costs import check_cost, parse_costs
from feller.app.workflows.bridges.populations import Populations, check_noise, read_populations, usual_noise
from feller.app.workflows.bridges.run_rounds import run_rounds, saved_text
from feller.app.workflows.fitting.recipe_request import check_duration
from feller.app.workflows.fitting.run_training import Interrupted
from feller.app.workflows.run_config import FitRecord, Provenance
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.costs import StateCost
from feller.control.bridges.population import Population
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import BridgeState
from feller.control.bridges.solution import BridgeSolution
from feller.control.bridges.unbalanced_weights import unbalanced_weights
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, target_run
from feller.core.serialization import to_dict
from feller.core.user_code import MEMORY_PREFIX, load_function
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.models.spec import save_spec
from feller.networks.network_config import count_parameters
from feller.training.engine import get_engine


def bridge(
    config: BridgeConfig,
    *,
    change: Callable[[BridgeSolverConfig], BridgeSolverConfig] = lambda settings: settings,
    field_words: tuple[str, ...] = (),
    reporter: Reporter = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Fit a Schrödinger bridge between populations and write a run folder.

    Args:
        config: Options of `feller bridge`. To resume a run, only the options for rounds, minutes, memory and
            user-defined costs can be set.
        change: Function that modifies the solver settings after all options have been applied.
        field_words: Command-line words with the same effect as `change`, for the report.
        reporter: Progress and log output.

    Returns:
        The run and the metrics of its report.

    Raises:
        InputError: If populations or costs are unusable, or trajectories diverge.
        UsageError: If an argument is wrong.
        Interrupted: If training is interrupted by Ctrl-C; the last round is saved.
    """
    check_duration(config.rounds, config.minutes, unit="rounds")
    engine, output = get_engine(), config.output
    resume, overwrite = output.resume, output.overwrite
    name = config.data[0] if config.data else ""
    folder = target_run(output.out, f"{pathlib.Path(name).stem}-bridge", resume=resume, overwrite=overwrite).path
    run = Run(pathlib.Path(engine.broadcast_str(str(folder) if engine.is_main_process else "")))
    if resume:
        record, populations, settings = _continue(run, config, change)
    else:
        record, populations, settings = _new(config, change)
    record = _with_options(record, config, field_words)
    cost, notes = parse_costs(config.costs or record.costs, populations, record.frame)
    for note in (*record.notes, *notes):
        reporter.log(note)
    problem = replace(make_problem(record, populations, cost), cost=check_cost(cost, record, populations, reporter))
    settings = apply_options(settings, config, problem, populations)
    if config.rounds is not None and settings.rounds != config.rounds:
        reporter.log(f"{settings.rounds} rounds instead of {config.rounds}: the last round fits the forward drift")
    max_memory = config.work.max_memory
    if max_memory is not None and (settings.control.chunk_size or settings.pairs) < settings.pairs:
        reporter.log(
            f"--max-memory {max_memory:g} allows {settings.control.chunk_size:,} of {settings.pairs:,} pairs at a time"
            " during the path optimisation, which takes longer; other memory is not limited"
        )
    spec, progress = begin(record, populations, settings, engine)
    engine.barrier()  # all processes validate before anything is written
    with run.acquire(resume=resume, overwrite=overwrite) if engine.is_main_process else contextlib.nullcontext():
        engine.barrier()
        if resume:
            notice = load_progress(run, progress, len(problem.populations))
            reporter.log(f"resuming after round {progress.num_rounds}")
            if notice:
                reporter.log(notice)
        engine.barrier()
        if engine.is_main_process:
            save_spec(run, spec)
            run.write_record(run.recipe, _record(record, settings))
            if not resume:
                save_progress(run, progress)
        reporter.log(_summary(run, record, populations, settings, progress))
        max_seconds = None if config.minutes is None else 60 * config.minutes
        resume_command = continue_command(
            run, record, *(() if max_seconds is None else ("--minutes", f"{max_seconds / 60:g}"))
        )
        try:
            run_rounds(
                run,
                problem,
                settings,
                progress,
                seed=record.seed,
                limit=max_seconds,
                continue_command=resume_command,
                engine=engine,
                reporter=reporter,
            )
            engine.barrier()
            solution = BridgeSolution(problem, settings, progress, ())
            effort = EvaluationBudget.fraction_of(progress.seconds)
            return run, report_bridge(run, record, populations, solution, notes, effort, reporter)
        except Interrupted:
            raise
        except KeyboardInterrupt as error:  # during the report, without a signal handler
            raise Interrupted(resume_command, f"{saved_text(progress.num_rounds)}. Continue with") from error


def remeasure_bridge(run: Run, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Simulate new trajectories of a finished bridge, and replace the bridge's files and report.

    Raises:
        InputError: If the run or its populations are unusable.
        UsageError: If the cost is user code, because code named only in a record is never executed.
    """
    record, populations, settings = _continue(run, BridgeConfig(), lambda settings: settings)
    cost, notes = parse_costs(record.costs, populations, record.frame)
    _, progress = begin(record, populations, settings, get_engine())
    load_progress(run, progress, len(record.times) - 1)
    solution = BridgeSolution(make_problem(record, populations, cost), settings, progress, ())
    return report_bridge(run, record, populations, solution, notes, EvaluationBudget(), reporter)


def _new(
    config: BridgeConfig, change: Callable[[BridgeSolverConfig], BridgeSolverConfig]
) -> tuple[BridgeRecord, Populations, BridgeSolverConfig]:
    """Return the record, populations and solver settings of a new bridge; `change` sets the fields of the user."""
    populations = read_populations(config.data, config.work.longest)
    settings = default_bridge_settings(populations.modality)
    if config.work.pairs is not None:
        settings = replace(settings, pairs=config.work.pairs)
    settings = change(settings)
    noise = usual_noise(populations, settings.nfe) if config.noise is None else config.noise
    check_noise(noise, populations, settings.nfe)
    noise_note = (f"--noise {noise:.4g} was chosen from the standard deviations within the populations",)
    record = BridgeRecord(
        populations=config.data,
        prints=populations.fingerprints,
        times=times_of(config.times, len(config.data)),
        costs=config.costs,
        code=files_of(config.costs),
        frame=frame_of(config.frame, config.costs),
        noise=noise,
        growth=config.growth,
        longest=config.work.longest,
        resample=config.work.resample,
        seed=config.seed,
        notes=(*populations.notes, *(noise_note if config.noise is None else ())),
    )
    return record, populations, settings


def _with_options(record: BridgeRecord, config: BridgeConfig, fields: tuple[str, ...]) -> BridgeRecord:
    """Return the record of a resumed bridge with the time limit, memory limit and solver fields of this command."""
    minutes = config.minutes if config.minutes is not None or config.rounds is not None else record.minutes
    max_memory = record.max_memory if config.work.max_memory is None else config.work.max_memory
    return replace(record, minutes=minutes, max_memory=max_memory, fields=(*record.fields, *fields))


def _continue(
    run: Run, config: BridgeConfig, change: Callable[[BridgeSolverConfig], BridgeSolverConfig]
) -> tuple[BridgeRecord, Populations, BridgeSolverConfig]:
    """Return the record, populations and solver settings of the bridge in `run`, which is to be resumed.

    An error is raised if the state costs have changed.
    """
    record = read_bridge_record(run)
    if record is None:
        raise UsageError(
            "is not a bridge", remedy=f"Continue with: feller fit --resume --out {run.path}", file=run.path
        )
    for name in names_of((*config.costs, *record.costs)):
        if name.startswith(MEMORY_PREFIX):
            load_function(name)  # raises an error if the function is from another process
    if record.cost_arguments and not config.costs:
        raise UsageError(
            f"the cost is custom code, which must be named on the command line: {continue_command(run, record)}"
        )
    if (config.costs and config.costs != record.costs) or files_of(record.costs) != record.code:
        raise InputError("the cost has changed since this bridge started", remedy="Restore it or start a new bridge")
    return record, reread_populations(record), change(read_bridge_settings(run))


def make_problem(record: BridgeRecord, populations: Populations, cost: StateCost) -> BridgeProblem:
    """Return the bridge problem: populations with the weights of their samples, noise, state cost and times."""
    pairs = [(Population(a), Population(b)) for a, b in zip(populations.states, populations.states[1:], strict=False)]
    if record.growth is not None:
        pairs = [unbalanced_weights(a.members, b.members, record.growth) for a, b in pairs]
    return BridgeProblem(tuple(pairs), record.noise, cost, record.relative_times)


def _record(record: BridgeRecord, settings: BridgeSolverConfig) -> dict[str, Any]:
    """Return the content of recipe.json for a bridge."""
    provenance = Provenance(recipe="bridge", held_out=0.0)
    fit_record = FitRecord(config=FitConfig(data=record.populations[0], seed=record.seed), provenance=provenance)
    return {**fit_record.content, BRIDGE_KEY: to_dict(record), "recipe": to_dict(settings)}


def _summary(
    run: Run, record: BridgeRecord, populations: Populations, settings: BridgeSolverConfig, progress: BridgeState
) -> str:
    sizes = " to ".join(f"{len(states):,}" for states in populations.states)
    cost_text = f", cost {' + '.join(record.costs)}" if record.costs else ", no state cost"
    rounds_text = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds"
    length_text = rounds_text if settings.rounds else "as many rounds as fit"
    return (
        f"{' to '.join(record.populations)}: {sizes} samples, noise {record.noise:.4g}{cost_text}; {length_text} of"
        f" {settings.pairs:,} pairs, {count_parameters(progress.network):,} weights; writing to {run.path}"
    )
