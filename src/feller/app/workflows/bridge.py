"""From populations and a cost to a bridge between them: a run folder with paths, pairs and drifts."""

import contextlib
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from feller.app.config import BridgeConfig, FitConfig
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.bridges.bridge_options import bridging, fitted, frame_of, times_of
from feller.app.workflows.bridges.bridge_report import report_bridge
from feller.app.workflows.bridges.bridge_run import (
    Bridged,
    begin,
    bridged_of,
    bridging_of,
    going_on,
    load_progress,
    read_again,
    save_progress,
)
from feller.app.workflows.bridges.cost_names import files_of, names_of
from feller.app.workflows.bridges.is_bridge import KEY
from feller.app.workflows.bridges.parse_costs import price, tried
from feller.app.workflows.bridges.populations import Populations, check_noise, read_populations, usual_noise
from feller.app.workflows.bridges.run_rounds import alternate, saved
from feller.app.workflows.fitting.plan_fit import check_duration
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
    fields: tuple[str, ...] = (),
    tell: Tell = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Join populations by paths that cost least, and write a run folder.

    Args:
        config: What is asked for; of a resumed run only rounds, minutes, memory and, where they are code of the user's,
            the costs.
        change: Last word on the settings.
        fields: The words of a command line that `change` does, which the report repeats.
        tell: Hears how it goes.

    Returns:
        The run, and the numbers of its report.

    Raises:
        InputError: If populations or costs are not what they must be, or trajectories run away.
        UsageError: If an argument is wrong.
        Interrupted: After Ctrl-C, with the last round saved.
    """
    check_duration(config.rounds, config.minutes, unit="rounds")
    here, output = get_engine(), config.output
    resume, overwrite = output.resume, output.overwrite
    name = config.data[0] if config.data else ""
    chosen = target_run(output.out, f"{pathlib.Path(name).stem}-bridge", resume=resume, overwrite=overwrite).path
    run = Run(pathlib.Path(here.broadcast_str(str(chosen) if here.is_main_process else "")))
    if resume:
        bridged, crowd, settings = _continue(run, config, change)
    else:
        bridged, crowd, settings = _new(config, change)
    bridged = _as_asked(bridged, config, fields)
    cost, notes = price(config.costs or bridged.costs, crowd, bridged.frame)
    for note in (*bridged.notes, *notes):
        tell.say(note)
    problem = replace(pose(bridged, crowd, cost), cost=tried(cost, bridged, crowd, tell))
    settings = fitted(settings, config, problem, crowd)
    if config.rounds is not None and settings.rounds != config.rounds:
        tell.say(f"{settings.rounds} rounds are made, not {config.rounds}: the last of them learns the way ahead")
    room = config.work.max_memory
    if room is not None and (settings.control.chunk_size or settings.pairs) < settings.pairs:
        tell.say(
            f"--max-memory {room:g} holds {settings.control.chunk_size:,} of {settings.pairs:,} pairs at once"
            " while paths are looked for, which takes longer; all else takes what it takes"
        )
    description, progress = begin(bridged, crowd, settings, here)
    here.barrier()  # whoever refuses does so before anything is written
    with run.acquire(resume=resume, overwrite=overwrite) if here.is_main_process else contextlib.nullcontext():
        here.barrier()
        if resume:
            elsewhere = load_progress(run, progress, len(problem.populations))
            tell.say(f"going on after round {progress.num_rounds}")
            if elsewhere:
                tell.say(elsewhere)
        here.barrier()
        if here.is_main_process:
            save_spec(run, description)
            run.write_record(run.recipe, _record(bridged, settings))
            if not resume:
                save_progress(run, progress)
        tell.say(_summary(run, bridged, crowd, settings, progress))
        limit = None if config.minutes is None else 60 * config.minutes
        again = going_on(run, bridged, *(() if limit is None else ("--minutes", f"{limit / 60:g}")))
        try:
            alternate(
                run, problem, settings, progress, seed=bridged.seed, limit=limit, again=again, here=here, tell=tell
            )
            here.barrier()
            found = BridgeSolution(problem, settings, progress, ())
            effort = EvaluationBudget.fraction_of(progress.seconds)
            return run, report_bridge(run, bridged, crowd, found, notes, effort, tell)
        except Interrupted:
            raise
        except KeyboardInterrupt as stopped:  # where nothing listens for it, in the report
            raise Interrupted(again, f"{saved(progress.num_rounds)}. Go on with") from stopped


def measure_again(run: Run, tell: Tell = SILENT) -> dict[str, Any]:
    """Follow new trajectories of a finished bridge, and write its files and page again.

    Raises:
        InputError: If run or populations are not what they must be.
        UsageError: If its cost is code of the user's, which no record makes run.
    """
    bridged, crowd, settings = _continue(run, BridgeConfig(), lambda settings: settings)
    cost, notes = price(bridged.costs, crowd, bridged.frame)
    _, progress = begin(bridged, crowd, settings, get_engine())
    load_progress(run, progress, len(bridged.times) - 1)
    found = BridgeSolution(pose(bridged, crowd, cost), settings, progress, ())
    return report_bridge(run, bridged, crowd, found, notes, EvaluationBudget(), tell)


def _new(
    config: BridgeConfig, change: Callable[[BridgeSolverConfig], BridgeSolverConfig]
) -> tuple[Bridged, Populations, BridgeSolverConfig]:
    """Read what is to be bridged, and choose what was left open."""
    crowd = read_populations(config.data, config.work.longest)
    settings = bridging(crowd.modality)
    if config.work.pairs is not None:
        settings = replace(settings, pairs=config.work.pairs)
    settings = change(settings)
    noise = usual_noise(crowd, settings.nfe) if config.noise is None else config.noise
    check_noise(noise, crowd, settings.nfe)
    chosen = (f"--noise {noise:.4g} was chosen, by the deviations within the populations",)
    bridged = Bridged(
        populations=config.data,
        prints=crowd.prints,
        times=times_of(config.times, len(config.data)),
        costs=config.costs,
        code=files_of(config.costs),
        frame=frame_of(config.frame, config.costs),
        noise=noise,
        growth=config.growth,
        longest=config.work.longest,
        resample=config.work.resample,
        seed=config.seed,
        notes=(*crowd.notes, *(chosen if config.noise is None else ())),
    )
    return bridged, crowd, settings


def _as_asked(bridged: Bridged, config: BridgeConfig, fields: tuple[str, ...]) -> Bridged:
    """Return the record with what may be asked anew of a bridge that goes on; what was said last counts."""
    minutes = config.minutes if config.minutes is not None or config.rounds is not None else bridged.minutes
    room = bridged.max_memory if config.work.max_memory is None else config.work.max_memory
    return replace(bridged, minutes=minutes, max_memory=room, fields=(*bridged.fields, *fields))


def _continue(
    run: Run, config: BridgeConfig, change: Callable[[BridgeSolverConfig], BridgeSolverConfig]
) -> tuple[Bridged, Populations, BridgeSolverConfig]:
    """Return what a bridge was asked for, with its populations and settings."""
    bridged = bridged_of(run)
    if bridged is None:
        raise UsageError("is no bridge", remedy=f"Go on with: feller fit --resume --out {run.path}", file=run.path)
    for name in names_of((*config.costs, *bridged.costs)):
        if name.startswith(MEMORY_PREFIX):
            load_function(name)  # which another process was given, perhaps
    if bridged.costs_again and not config.costs:
        raise UsageError(f"the cost of this bridge is code of yours, which no run makes run: {going_on(run, bridged)}")
    if (config.costs and config.costs != bridged.costs) or files_of(bridged.costs) != bridged.code:
        raise InputError(
            "the cost is not what it was when this bridge began", remedy="Bring it back, or make a new one"
        )
    return bridged, read_again(bridged), change(bridging_of(run))


def pose(bridged: Bridged, crowd: Populations, cost: StateCost) -> BridgeProblem:
    """Return the problem of a bridge."""
    crowds = [(Population(a), Population(b)) for a, b in zip(crowd.states, crowd.states[1:], strict=False)]
    if bridged.growth is not None:
        crowds = [unbalanced_weights(a.members, b.members, bridged.growth) for a, b in crowds]
    return BridgeProblem(tuple(crowds), bridged.noise, cost, bridged.shares)


def _record(bridged: Bridged, settings: BridgeSolverConfig) -> dict[str, Any]:
    """Return what recipe.json holds."""
    provenance = Provenance(recipe="bridge", held_out=0.0)
    asked = FitRecord(config=FitConfig(data=bridged.populations[0], seed=bridged.seed), provenance=provenance)
    return {**asked.parts, KEY: to_dict(bridged), "recipe": to_dict(settings)}


def _summary(
    run: Run, bridged: Bridged, crowd: Populations, settings: BridgeSolverConfig, progress: BridgeState
) -> str:
    """Say what is going to be done."""
    sizes = " to ".join(f"{len(states):,}" for states in crowd.states)
    cost = f", cost {' + '.join(bridged.costs)}" if bridged.costs else ", no cost but that of control"
    many = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds"
    long = many if settings.rounds else "as many rounds as fit"
    return (
        f"{' to '.join(bridged.populations)}: {sizes} members, noise {bridged.noise:.4g}{cost}; {long} of"
        f" {settings.pairs:,} pairs, {count_parameters(progress.network):,} weights; writing to {run.path}"
    )
