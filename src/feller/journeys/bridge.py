"""From populations and a cost to a bridge between them: a run folder with paths, pairs and drifts."""

import contextlib
import itertools
import math
import pathlib
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from feller.bridging import BridgeProblem, Bridging, FoundBridge, Progress, Round, rounds
from feller.control.bridges.crowd import Crowd
from feller.control.bridges.growth import growth
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.pinned import PinnedControl
from feller.control.costs import Cost, Population, check
from feller.data.found import about
from feller.description import save_description
from feller.draws import Draws
from feller.errors import InputError, UsageError
from feller.evaluate.bridge import along, arrival
from feller.journeys.asked import Asked
from feller.journeys.bridge_noise import check_noise, usual_noise
from feller.journeys.bridged import (
    Bridged,
    bridged_of,
    bridging_of,
    describe,
    fresh,
    load_progress,
    read_again,
    save_progress,
)
from feller.journeys.cost_words import files_of
from feller.journeys.crossing import end_of, report_bridge
from feller.journeys.learn import Interrupted, interrupts
from feller.journeys.populations import Populations, read_populations
from feller.journeys.priced import price
from feller.journeys.tell import SILENT, Tell
from feller.networks.architecture import parameters
from feller.recipes.bridging import bridging
from feller.record import to_data
from feller.run import Run, new_run
from feller.train.engine import Engine, engine
from feller.train.metrics import MetricsWriter

TRIED = 256
"""Places between populations where a cost is tried."""
WEIGHED = 64
"""Trajectories for each pair, where the cost has no gradient."""
WORKING = 12
"""Numbers that are held for each one of a state that is looked at while paths are improved, about."""
SEEN = 500
"""Ends that are compared after each round, at most."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person asks of a bridge."""

    populations: Sequence[str] = ()
    """Files, folders or examples, in the order of time."""
    times: Sequence[float] = ()
    """When each was seen; by default equally far apart."""
    cost: Sequence[str] = ()
    """In words, see `feller.journeys.priced`."""
    frame: Sequence[float] = ()
    """Where a picture of walls lies: left, right, bottom, top."""
    noise: float | None = None
    """Deviation of a free walk over the whole journey, in the data's units; by default half that of the populations."""
    rounds: int | None = None
    minutes: float | None = None
    """How long to go on, instead of rounds."""
    pairs: int | None = None
    resample: int | None = None
    """Trajectories for each pair that the cost weighs; None for 64 where it has no gradient, else none."""
    growth: float | None = None
    """How far members may count more or less than others."""
    longest: int | None = None
    """Longer side to bring pictures to."""
    max_memory: float | None = None
    """Gigabytes."""
    seed: int = 0


def bridge(
    wanted: Wanted,
    *,
    out: str | None = None,
    change: Callable[[Bridging], Bridging] = lambda settings: settings,
    resume: bool = False,
    overwrite: bool = False,
    tell: Tell = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Join populations by paths that cost least, and write a run folder.

    Args:
        wanted: Populations, times, costs and noise; of a resumed run only rounds, minutes, memory and, where they are
            code of the user's, the costs.
        out: The run folder; by default a new one under `runs`.
        change: Last word on the settings.
        resume: Go on with the run in `out` after its last round.
        overwrite: Replace the run in `out`.
        tell: Hears how it goes.

    Returns:
        The run, and the numbers of its report.

    Raises:
        InputError: If populations or costs are not what they must be, or trajectories run away.
        UsageError: If an argument is wrong.
        Interrupted: After Ctrl-C, with the last round saved.
    """
    here = engine()
    name = wanted.populations[0] if wanted.populations else ""
    chosen = new_run(out, f"{pathlib.Path(name).stem}-bridge", resume=resume, overwrite=overwrite).path
    run = Run(pathlib.Path(here.share(str(chosen) if here.is_first else "")))
    if resume:
        bridged, crowd, settings = _continue(run, wanted, change)
    else:
        bridged, crowd, settings = _new(wanted, change)
    priced = price(wanted.cost or bridged.costs, crowd, bridged.frame)
    for note in (*bridged.notes, *priced.notes):
        tell.say(note)
    problem = replace(pose(bridged, crowd, priced.cost), cost=_looked_at(priced.cost, bridged, crowd, tell))
    settings = _fitted(settings, wanted, problem, crowd)
    description = describe(crowd.modality, settings.architecture, bridged.noise, settings.calls)
    progress = fresh(description, settings, bridged.seed, here)
    with run.claim(resume=resume, overwrite=overwrite) if here.is_first else contextlib.nullcontext():
        here.wait()
        if resume:
            load_progress(run, progress, len(problem.crowds))
            tell.say(f"going on after round {progress.done}")
        here.wait()
        if here.is_first:
            save_description(run, description)
            run.write_record(run.recipe, _record(bridged, settings))
        tell.say(_summary(run, bridged, crowd, settings, progress))
        limit = None if wanted.minutes is None else 60 * wanted.minutes
        again = _again(run, bridged, limit)
        _alternate(run, problem, settings, progress, bridged.seed, limit, again, here, tell)
        here.wait()
        found = FoundBridge(problem, settings, progress, ())
        return run, report_bridge(run, bridged, crowd, found, priced.notes, tell)


def measure_again(run: Run, tell: Tell = SILENT) -> dict[str, Any]:
    """Follow new trajectories of a finished bridge, and write its files and page again.

    Raises:
        InputError: If run or populations are not what they must be.
        UsageError: If its cost is code of the user's, which no record makes run.
    """
    bridged, crowd, settings = _continue(run, Wanted(), lambda settings: settings)
    priced = price(bridged.costs, crowd, bridged.frame)
    description = describe(crowd.modality, settings.architecture, bridged.noise, settings.calls)
    progress = fresh(description, settings, bridged.seed, engine())
    load_progress(run, progress, len(bridged.times) - 1)
    found = FoundBridge(pose(bridged, crowd, priced.cost), settings, progress, ())
    return report_bridge(run, bridged, crowd, found, priced.notes, tell)


def _new(wanted: Wanted, change: Callable[[Bridging], Bridging]) -> tuple[Bridged, Populations, Bridging]:
    """Read what is to be bridged, and choose what was left open."""
    crowd = read_populations(wanted.populations, wanted.longest)
    settings = bridging(crowd.modality)
    if wanted.pairs is not None:
        settings = replace(settings, pairs=wanted.pairs)
    settings = change(settings)
    noise = usual_noise(crowd, settings.calls) if wanted.noise is None else wanted.noise
    check_noise(noise, crowd, settings.calls)
    chosen = (f"--noise {noise:.4g} was chosen, by the deviations within the populations",)
    bridged = Bridged(
        populations=tuple(wanted.populations),
        prints=crowd.prints,
        times=_times(wanted.times, len(wanted.populations)),
        costs=tuple(wanted.cost),
        code=files_of(wanted.cost),
        frame=_frame(wanted.frame, wanted.cost),
        noise=noise,
        growth=wanted.growth,
        longest=wanted.longest,
        seed=wanted.seed,
        notes=(*crowd.notes, *(chosen if wanted.noise is None else ())),
    )
    return bridged, crowd, settings


def _continue(
    run: Run, wanted: Wanted, change: Callable[[Bridging], Bridging]
) -> tuple[Bridged, Populations, Bridging]:
    """Return what a bridge was asked for, with its populations and settings.

    Raises:
        UsageError: If the run is no bridge, or its costs are code that was not named again.
        InputError: If populations or code are others by now.
    """
    bridged = bridged_of(run)
    if bridged is None:
        raise UsageError(f"{run.path} is no bridge; go on with: feller fit --resume --out {run.path}")
    if bridged.costs_again and not wanted.cost:
        raise UsageError(f"the cost of this bridge is code of yours, which no run makes run: {_again(run, bridged)}")
    if (wanted.cost and tuple(wanted.cost) != bridged.costs) or files_of(bridged.costs) != bridged.code:
        raise InputError("the cost is not what it was when this bridge began; bring it back, or make a new one")
    return bridged, read_again(bridged), change(bridging_of(run))


def _times(times: Sequence[float], number: int) -> tuple[float, ...]:
    """Return when each population was seen.

    Raises:
        UsageError: If these are not as many, or do not increase.
    """
    if not times:
        return tuple(k / (number - 1) for k in range(number))
    if len(times) != number:
        raise UsageError(f"--times needs one time for each population, {number}, got {len(times)}")
    if not all(math.isfinite(t) for t in times) or any(b <= a for a, b in itertools.pairwise(times)):
        raise UsageError(f"--times must increase, got {' '.join(f'{t:g}' for t in times)}")
    return tuple(times)


def _frame(frame: Sequence[float], costs: Sequence[str]) -> tuple[float, ...]:
    """Return where a picture lies.

    Raises:
        UsageError: If these are not four numbers of a rectangle, or there is no cost to place.
    """
    if not frame:
        return ()
    if not costs:
        raise UsageError("--frame says where a picture of walls lies; name it with --cost")
    if len(frame) != 4 or not (frame[0] < frame[1] and frame[2] < frame[3]):
        raise UsageError(f"--frame needs LEFT RIGHT BOTTOM TOP, got {' '.join(f'{one:g}' for one in frame)}")
    return tuple(frame)


def pose(bridged: Bridged, crowd: Populations, cost: Cost) -> BridgeProblem:
    """Return the problem of a bridge."""
    crowds = [(Crowd(a), Crowd(b)) for a, b in zip(crowd.states, crowd.states[1:], strict=False)]
    if bridged.growth is not None:
        crowds = [growth(a.members, b.members, bridged.growth) for a, b in crowds]
    return BridgeProblem(tuple(crowds), bridged.noise, cost, bridged.shares)


def _looked_at(cost: Cost, bridged: Bridged, crowd: Populations, tell: Tell) -> Cost:
    """Try the cost on members and on places between them, before anything is written.

    Raises:
        InputError: If it is no finite number somewhere, or members stand in a wall.
    """
    for name, states, share in zip(bridged.populations, crowd.states, bridged.shares, strict=True):
        x = states.flatten(1)
        for inside in cost.obstacles:
            _refuse_stuck(name, states, inside(x), crowd)
        with about(name):
            cost = check(cost, x[None], x.new_tensor([[share]]), _crowded(x[None]))
    draws = Draws(bridged.seed).named("trial")
    a, b = (Crowd(crowd.states[k])(TRIED, draws.named(k)).flatten(1) for k in (0, -1))
    way = torch.linspace(0, 1, 9, dtype=a.dtype)[:, None]
    between = torch.lerp(a, b, way[..., None])
    cost = check(cost, between, way, _crowded(between))
    if not cost.differentiable:
        tell.say(
            "the cost has no gradient, so paths are not bent by it: trajectories are weighed by it instead (--resample)"
        )
    return cost


def _crowded(x: Tensor) -> Population:
    """Return some crowd at each time, to try a cost with."""
    return Population(x.roll(1, 1), x, 1.0)


def _refuse_stuck(name: str, states: Tensor, inside: Tensor, crowd: Populations) -> None:
    """Refuse members inside an obstacle.

    Raises:
        InputError: If there are any; says which, and where.
    """
    stuck = inside.nonzero()[:, 0]
    if len(stuck):
        place = crowd.modality.decode(states[stuck[:1]]).flatten()[:4].tolist()
        raise InputError(
            f"{name}: member {int(stuck[0]) + 1} at ({', '.join(f'{entry:.4g}' for entry in place)}) is inside an"
            f" obstacle, where no path may begin or end, as are {len(stuck)} of {len(states):,}: move them, or move the"
            " obstacle (--frame, for a picture)"
        )


def _fitted(settings: Bridging, wanted: Wanted, problem: BridgeProblem, crowd: Populations) -> Bridging:
    """Return the settings with what was asked for beside them."""
    if wanted.minutes is not None:
        settings = replace(settings, rounds=None)
    elif wanted.rounds is not None:
        settings = replace(settings, rounds=wanted.rounds)
    for name in ("minutes", "max_memory"):
        value = getattr(wanted, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
    if settings.rounds is None and wanted.minutes is None:
        raise UsageError("this bridge was made for some minutes: say how far it is to go, with --rounds or --minutes")
    if settings.rounds is not None and settings.rounds % 2 == 0:
        settings = replace(settings, rounds=settings.rounds + 1)
    draws = wanted.resample
    if draws is not None and draws < 0:
        raise UsageError(f"--resample must be 0 or more, got {draws}")
    if not problem.noise and (draws or not problem.cost.differentiable):
        raise UsageError("weighing trajectories needs noise, without which each pair has one: give --noise")
    if draws is None and settings.resampling is None and not problem.cost.differentiable:
        draws = WEIGHED
    if draws:
        settings = replace(settings, resampling=PathIntegral(trajectories=draws))
    if wanted.max_memory is not None:
        settings = replace(settings, control=_within(settings.control, wanted.max_memory * 2**30, crowd))
        weighed = settings.resampling
        if weighed is not None:
            needs = 4 * settings.pairs * weighed.trajectories * (weighed.steps + 1) * crowd.states[0][0].numel()
            if needs > wanted.max_memory * 2**30:
                raise UsageError(
                    f"--resample {weighed.trajectories} of {settings.pairs} pairs takes {needs / 2**30:.2g} gigabytes,"
                    " more than --max-memory; take fewer, of either"
                )
    return settings


def _within(control: PinnedControl, room: float, crowd: Populations) -> PinnedControl:
    """Return the search for paths with as many pairs at once as so many bytes hold.

    Raises:
        UsageError: If not even a few fit.
    """
    one = 4 * WORKING * control.times * control.draws * crowd.states[0][0].numel()
    pairs = int(room // one)
    if pairs < 8:
        raise UsageError(
            f"--max-memory must hold a few pairs of {one / 2**20:.3g} MiB each; give {16 * one / 2**30:.2g} or more"
        )
    return replace(control, pairs=pairs)


def _record(bridged: Bridged, settings: Bridging) -> dict[str, Any]:
    """Return what recipe.json holds."""
    asked = Asked(data=bridged.populations[0], recipe="bridge", size="", seed=bridged.seed, held_out=0.0)
    return {"asked": to_data(asked), "bridged": to_data(bridged), "recipe": to_data(settings)}


def _summary(run: Run, bridged: Bridged, crowd: Populations, settings: Bridging, progress: Progress) -> str:
    """Say what is going to be done."""
    sizes = " to ".join(f"{len(states):,}" for states in crowd.states)
    cost = f", cost {' + '.join(bridged.costs)}" if bridged.costs else ", no cost but that of control"
    many = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds"
    long = many if settings.rounds else "as many rounds as fit"
    return (
        f"{' to '.join(bridged.populations)}: {sizes} members, noise {bridged.noise:.3g}{cost}; {long} of"
        f" {settings.pairs:,} pairs, {parameters(progress.network):,} weights; writing to {run.path}"
    )


def _again(run: Run, bridged: Bridged, limit: float | None = None) -> str:
    """Return the command that goes on with a bridge."""
    minutes = () if limit is None else ("--minutes", f"{limit / 60:g}")
    return shlex.join(["feller", "bridge", "--resume", "--out", str(run.path), *bridged.costs_again, *minutes])


def _alternate(
    run: Run,
    problem: BridgeProblem,
    settings: Bridging,
    progress: Progress,
    seed: int,
    limit: float | None,
    again: str,
    here: Engine,
    tell: Tell,
) -> None:
    """Alternate until the rounds are done, or the seconds spent, saving after each.

    Raises:
        Interrupted: After Ctrl-C; the last round is saved.
    """
    metrics = MetricsWriter(run.metrics, progress.done) if here.is_first else None
    if here.is_first and not progress.done:
        save_progress(run, progress)
    begun = time.monotonic() - progress.seconds
    with interrupts() as interrupted:

        def hear(share: float, text: str) -> None:
            if here.agree(float(interrupted.is_set())):
                raise Interrupted(again)
            whole = (progress.done + share) / (settings.rounds or 1)
            spent = whole if limit is None else (time.monotonic() - begun) / limit
            tell.progress(min(spent, 1.0), f"round {progress.done + 1}, {text}")

        tell.task("bridging")
        going = rounds(problem, settings, progress, Draws(seed), here, tell=hear)
        while here.agree(float(_goes_on(settings, progress, limit))):
            found = next(going)
            if here.is_first and metrics is not None:
                save_progress(run, progress)
                row = measured(problem, found)
                metrics.add(step=found.number, seconds=round(progress.seconds, 3), **row)
                tell.say(_told(found, row))
        tell.done()
    if metrics is not None:
        metrics.close()


def _goes_on(settings: Bridging, progress: Progress, limit: float | None) -> bool:
    """Tell whether another round is to be made; of those in a limit of time the last is one ahead."""
    if limit is None:
        return progress.done < (settings.rounds or 1)
    if progress.done % 2 == 0:
        return True
    return progress.seconds * (1 + 2 / progress.done) <= limit


def measured(problem: BridgeProblem, found: Round) -> dict[str, int | float]:
    """Return what a round reached, over all its legs: at the learned end, where the walks ended."""
    rows: list[dict[str, Any]] = []
    for leg, walked in enumerate(found.walks):
        draws = Draws(found.number).named("measured", leg)
        at = walked.states[:, 0 if found.backward else -1].flatten(1)
        population = end_of(problem, leg, backward=found.backward)
        seen = along(walked.times, walked.states.flatten(2), walked.control.flatten(2), problem.cost, draws)
        numbers = {**arrival(at, population, draws, SEEN), **seen.averages()}
        length = walked.times[-1] - walked.times[0]
        rows.append({**numbers, "length": length, "lost": walked.lost / len(walked.states)})
    whole = sum(row["length"] for row in rows)
    over = {
        name: sum(row[name] * row["length"] / whole for row in rows)
        for name in ("objective", "control_cost", "state_cost", "inside_time", "lost")
        if rows[0][name] is not None
    }
    worst = {
        name: max(row[name] for row in rows) for name in ("sinkhorn", "w2", "w2_floor") if rows[0][name] is not None
    }
    return {"backward": int(found.backward), "loss": found.loss, **over, **worst}


def _told(found: Round, row: dict[str, int | float]) -> str:
    """Say what a round reached."""
    way = "back" if found.backward else "ahead"
    real = f", {row['w2_floor']:.3g} is real" if "w2_floor" in row else ""
    met = f"; its end is {row['w2']:.3g} from the population{real}" if "w2" in row else ""
    stuck = f"; {row['inside_time']:.2%} of the time in obstacles" if "inside_time" in row else ""
    lost = f"; {row['lost']:.2%} ran away and were drawn anew" if row["lost"] else ""
    return (
        f"round {found.number}, {way}: objective {row['objective']:.4g} = control {row['control_cost']:.4g} + state"
        f" {row['state_cost']:.4g}{met}{stuck}{lost}"
    )
