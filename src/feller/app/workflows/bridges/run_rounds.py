"""Run the rounds of a bridge: logs, checkpoints, best round."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feller.app.reporter import Tell
from feller.app.workflows.bridges.bridge_metrics import compared, end_of
from feller.app.workflows.bridges.bridge_run import save_progress
from feller.app.workflows.fitting.run_training import Interrupted
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import MAX_DIM_LOGGED, BridgeState, RoundResult, iterate_rounds
from feller.control.bridges.solution import BridgeSolution
from feller.control.bridges.trajectories import Trajectories, segments_of
from feller.core.interrupts import interrupt_event
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.evaluation.bridge_quality import endpoint_distances, path_costs
from feller.training.callbacks import MetricsWriter, read_metrics
from feller.training.engine import Engine

Row = Mapping[str, Any]
BLOCKED = 0.05
"""Share of paths that meet an obstacle up to which a round counts as feasible."""
WORSE = 1.1
"""Factor by which a later round may be worse than the best one and still replace it: later rounds cost less."""


def better(row: Row, kept: Row | None, earlier: Sequence[Row]) -> bool:
    """Return whether a round replaces the one kept of its direction.

    Rounds where few paths meet an obstacle come first. Among those the later round is kept, unless its distance from
    the population, over that among real members, is clearly above the least of all rounds and above the kept one's.

    Args:
        row: What the new round reached.
        kept: What the kept round reached; None where there is none.
        earlier: What all earlier rounds of that direction reached.
    """
    if kept is None:
        return True
    blocked, other = row.get("inside_paths", 0.0), kept.get("inside_paths", 0.0)
    if max(blocked, other) > BLOCKED and not other / WORSE <= blocked <= other * WORSE:
        return blocked < other
    reached, held = _ratio(row), _ratio(kept)
    if reached is None or held is None:
        return True
    least = min([1.0 if ratio is None or ratio < 1 else ratio for ratio in map(_ratio, earlier)], default=held)
    return reached <= max(WORSE * max(least, 1.0), held)


def keep(progress: BridgeState, row: Row, rows: Sequence[Row]) -> None:
    """Keep the averaged drift of the round just done where it is better than the kept one of its direction.

    Args:
        progress: What has just done the round; changed in place.
        row: What the round reached.
        rows: What all earlier rounds reached.
    """
    backward = bool(row["backward"])
    way = "back" if backward else "ahead"
    own = [each for each in rows if bool(each.get("backward")) == backward]
    kept = next((each for each in own if each["step"] == progress.best_rounds.get(way)), None)
    if better(row, kept, own):
        learner = progress.train_state(backward=backward)
        progress.best_weights[way] = {name: value.clone() for name, value in learner.ema_weights().items()}
        progress.best_rounds[way] = row["step"]


def of_the_kept(kept: Mapping[str, int], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the number of the round ahead that is kept and, where a later one was worse, what that one reached."""
    ahead = [row for row in rows if not row.get("backward")]
    number = kept.get("ahead", ahead[-1]["step"] if ahead else 0)
    if not ahead or ahead[-1]["step"] == number:
        return {"kept_round": number}
    last = {name: ahead[-1].get(other) for name, other in (("last_w2", "w2"), ("last_inside_paths", "inside_paths"))}
    return {"kept_round": number, **{name: value for name, value in last.items() if value is not None}}


def _ratio(row: Row) -> float | None:
    """Return the distance from the population over that among real members."""
    reached, floor = row.get("w2"), row.get("w2_floor")
    return reached / floor if reached is not None and floor else None


MET = ("sinkhorn", "w2", "w2_floor")
"""Distances of which that of the farthest population counts."""
ENDING = 0.99
"""Share that is shown of a round that is still ended though its time is up."""


def alternate(
    run: Run,
    problem: BridgeProblem,
    settings: BridgeSolverConfig,
    progress: BridgeState,
    *,
    seed: int,
    limit: float | None,
    again: str,
    here: Engine,
    tell: Tell,
) -> None:
    """Alternate until the rounds are done, or the seconds spent, saving after each.

    Args:
        run: Where rounds are saved.
        problem: What is to be bridged.
        settings: How.
        progress: How far it is, changed in place.
        seed: Of all randomness.
        limit: Seconds; None for the rounds of the settings.
        again: How to go on after an interruption.
        here: Device and processes.
        tell: Hears how it goes.

    Raises:
        Interrupted: After Ctrl-C; the last round is saved.
    """
    metrics = MetricsWriter(run.metrics, progress.num_rounds) if here.is_main_process else None
    begun = time.monotonic() - progress.seconds
    with interrupt_event() as interrupted:

        def hear(share: float, text: str) -> None:
            if here.broadcast_float(float(interrupted.is_set())):
                raise Interrupted(again, f"{saved(progress.num_rounds, within=True)}. Go on with")
            whole = (progress.num_rounds + share) / (settings.rounds or 1)
            spent = whole if limit is None else (time.monotonic() - begun) / limit
            late = "" if limit is None or spent < 1 else ", which is still ended though its time is up"
            tell.progress(min(spent, ENDING if late else 1.0), f"round {progress.num_rounds + 1}{late}, {text}")

        tell.task("bridging")
        going = iterate_rounds(problem, settings, progress, Rng(seed), here, on_progress=hear)
        while here.broadcast_float(float(_goes_on(settings, progress, limit))):
            found = next(going)
            if here.is_main_process and metrics is not None:
                row = {"step": found.number, **measured(problem, settings, progress, found)}
                rows = [one for one in read_metrics(run.metrics) if one["step"] < found.number]
                keep(progress, row, rows)
                metrics.add(seconds=round(progress.seconds, 3), **row)
                save_progress(run, progress)
                tell.say(_told(found, row, progress))
        tell.done()
    if metrics is not None:
        metrics.close()


def saved(done: int, *, within: bool = False) -> str:
    """Say what of a bridge is kept, whole rounds and not the one that Ctrl-C came within."""
    if not done:
        return "no round is done, so that nothing is kept and round 1 begins anew"
    rounds_done = "round 1 is" if done == 1 else f"{done} rounds are"
    return f"{rounds_done} saved" + (f", and round {done + 1} begins anew" if within else "")


def _goes_on(settings: BridgeSolverConfig, progress: BridgeState, limit: float | None) -> bool:
    """Tell whether another round is to be made; of those in a limit of time the last is one ahead."""
    if limit is None:
        return progress.num_rounds < (settings.rounds or 1)
    if progress.num_rounds % 2 == 0:
        return True
    return progress.seconds * (1 + 2 / progress.num_rounds) <= limit


def measured(
    problem: BridgeProblem, settings: BridgeSolverConfig, progress: BridgeState, found: RoundResult
) -> dict[str, int | float]:
    """Return what a round reached, as the result is measured: by walks through all legs, where they should be met."""
    walked = found.trajectories[0] if len(found.trajectories) == 1 else _through(problem, settings, progress, found)
    draws, met = Rng(found.number), []
    for leg, (begin, length) in enumerate(segments_of(problem.times)):
        place = int(np.argmin(np.abs(np.array(walked.times) - (begin if found.backward else begin + length))))
        population, here = end_of(problem, leg, backward=found.backward), draws.fold_in("measured", leg)
        met.append(endpoint_distances(walked.states[:, place].flatten(1), population, here, compared(settings)))
    whole = draws.fold_in("measured", 0)
    seen = path_costs(walked.times, walked.states.flatten(2), walked.control.flatten(2), problem.cost, whole).averages()
    lost = [one.num_lost / len(one.states) for one in found.trajectories]
    lengths = [length for _, length in segments_of(problem.times)]
    over = {**seen, "lost": sum(share * length for share, length in zip(lost, lengths, strict=True)) / sum(lengths)}
    distances = {name: [float(row[name] or 0.0) for row in met if row[name] is not None] for name in MET}
    worst = {name: max(values) for name, values in distances.items() if len(values) == len(met)}
    known = {name: value for name, value in over.items() if value is not None}
    return {"backward": int(found.backward), "loss": found.loss, **known, **worst}


def _through(
    problem: BridgeProblem, settings: BridgeSolverConfig, progress: BridgeState, found: RoundResult
) -> Trajectories:
    """Walk through all legs, which do not begin anew at the populations between as those of a round do."""
    crowd = problem.populations[-1][1] if found.backward else problem.populations[0][0]
    begin = crowd(settings.pairs, Rng(found.number).fold_in("through"))
    every = 1 if begin[0].numel() <= MAX_DIM_LOGGED else None
    whole = BridgeSolution(problem, settings, replace(progress, best_weights={}), ())
    return whole.transport(begin, found.number, backward=found.backward, every=every)


def _told(found: RoundResult, row: dict[str, int | float], progress: BridgeState) -> str:
    """Say what a round reached."""
    way = "back" if found.backward else "ahead"
    real = f", {row['w2_floor']:.3g} is real" if "w2_floor" in row else ""
    met = f"; its end is {row['w2']:.3g} from the population{real}" if "w2" in row else ""
    stuck = f"; {row['inside_paths']:.1%} of the paths meet an obstacle" if "inside_paths" in row else ""
    lost = f"; {row['lost']:.2%} ran away and were drawn anew" if row["lost"] else ""
    best = progress.best_rounds["back" if found.backward else "ahead"]
    other = f"; round {best} stays, which was better" if best != found.number else ""
    return (
        f"round {found.number}, {way}: objective {row['objective']:.4g} = control {row['control_cost']:.4g} + state"
        f" {row['state_cost']:.4g}{met}{stuck}{lost}{other}"
    )
