"""Run the rounds of a bridge: logs, checkpoints, best round."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feller.app.reporter import Reporter
from feller.app.workflows.bridges.bridge_metrics import n_compared, target_population
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
MAX_BLOCKED_FRACTION = 0.05
"""Share of paths that meet an obstacle up to which a round counts as feasible."""
MAX_WORSENING = 1.1
"""Factor by which a later round may be worse than the best one and still replace it: later rounds cost less."""


def is_better(row: Row, kept_row: Row | None, earlier: Sequence[Row]) -> bool:
    """Return whether a round replaces the one kept of its direction.

    Rounds where few paths meet an obstacle come first. Among those the later round is kept, unless its distance from
    the population, over that among real members, is clearly above the least of all rounds and above the kept one's.

    Args:
        row: What the new round reached.
        kept_row: What the kept round reached; None where there is none.
        earlier: What all earlier rounds of that direction reached.
    """
    if kept_row is None:
        return True
    blocked, other = row.get("inside_paths", 0.0), kept_row.get("inside_paths", 0.0)
    if max(blocked, other) > MAX_BLOCKED_FRACTION and not other / MAX_WORSENING <= blocked <= other * MAX_WORSENING:
        return blocked < other
    reached, held = _ratio(row), _ratio(kept_row)
    if reached is None or held is None:
        return True
    least = min([1.0 if ratio is None or ratio < 1 else ratio for ratio in map(_ratio, earlier)], default=held)
    return reached <= max(MAX_WORSENING * max(least, 1.0), held)


def keep_if_better(progress: BridgeState, row: Row, rows: Sequence[Row]) -> None:
    """Keep the averaged drift of the round just done where it is better than the kept one of its direction.

    Args:
        progress: What has just done the round; changed in place.
        row: What the round reached.
        rows: What all earlier rounds reached.
    """
    backward = bool(row["backward"])
    direction = "back" if backward else "ahead"
    own = [each for each in rows if bool(each.get("backward")) == backward]
    kept_row = next((each for each in own if each["step"] == progress.best_rounds.get(direction)), None)
    if is_better(row, kept_row, own):
        learner = progress.train_state(backward=backward)
        progress.best_weights[direction] = {name: value.clone() for name, value in learner.ema_weights().items()}
        progress.best_rounds[direction] = row["step"]


def kept_round_numbers(kept_rounds: Mapping[str, int], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the number of the round ahead that is kept and, where a later one was worse, what that one reached."""
    ahead = [row for row in rows if not row.get("backward")]
    number = kept_rounds.get("ahead", ahead[-1]["step"] if ahead else 0)
    if not ahead or ahead[-1]["step"] == number:
        return {"kept_round": number}
    last = {name: ahead[-1].get(other) for name, other in (("last_w2", "w2"), ("last_inside_paths", "inside_paths"))}
    return {"kept_round": number, **{name: value for name, value in last.items() if value is not None}}


def _ratio(row: Row) -> float | None:
    """Return the distance from the population over that among real members."""
    reached, floor = row.get("w2"), row.get("w2_floor")
    return reached / floor if reached is not None and floor else None


WORST_METRICS = ("sinkhorn", "w2", "w2_floor")
"""Distances of which that of the farthest population counts."""
ENDING = 0.99
"""Share that is shown of a round that is still ended though its time is up."""


def run_rounds(
    run: Run,
    problem: BridgeProblem,
    settings: BridgeSolverConfig,
    progress: BridgeState,
    *,
    seed: int,
    limit: float | None,
    continue_command: str,
    engine: Engine,
    reporter: Reporter,
) -> None:
    """Alternate until the rounds are done, or the seconds spent, saving after each.

    Args:
        run: Where rounds are saved.
        problem: What is to be bridged.
        settings: How.
        progress: How far it is, changed in place.
        seed: Of all randomness.
        limit: Seconds; None for the rounds of the settings.
        continue_command: How to go on after an interruption.
        engine: Device and processes.
        reporter: Hears how it goes.

    Raises:
        Interrupted: After Ctrl-C; the last round is saved.
    """
    metrics = MetricsWriter(run.metrics, progress.num_rounds) if engine.is_main_process else None
    start_time = time.monotonic() - progress.seconds
    with interrupt_event() as interrupted:

        def on_progress(fraction: float, text: str) -> None:
            if engine.broadcast_float(float(interrupted.is_set())):
                raise Interrupted(
                    continue_command, f"{saved_text(progress.num_rounds, is_interrupted=True)}. Go on with"
                )
            whole = (progress.num_rounds + fraction) / (settings.rounds or 1)
            spent = whole if limit is None else (time.monotonic() - start_time) / limit
            late = "" if limit is None or spent < 1 else ", which is still ended though its time is up"
            reporter.progress(min(spent, ENDING if late else 1.0), f"round {progress.num_rounds + 1}{late}, {text}")

        reporter.start("bridging")
        going = iterate_rounds(problem, settings, progress, Rng(seed), engine, on_progress=on_progress)
        while engine.broadcast_float(float(_has_more_rounds(settings, progress, limit))):
            round_result = next(going)
            if engine.is_main_process and metrics is not None:
                row = {"step": round_result.number, **round_metrics(problem, settings, progress, round_result)}
                rows = [one for one in read_metrics(run.metrics) if one["step"] < round_result.number]
                keep_if_better(progress, row, rows)
                metrics.add(seconds=round(progress.seconds, 3), **row)
                save_progress(run, progress)
                reporter.log(_round_text(round_result, row, progress))
        reporter.finish()
    if metrics is not None:
        metrics.close()


def saved_text(done: int, *, is_interrupted: bool = False) -> str:
    """Say what of a bridge is kept, whole rounds and not the one that Ctrl-C came within."""
    if not done:
        return "no round is done, so that nothing is kept and round 1 begins anew"
    rounds_done = "round 1 is" if done == 1 else f"{done} rounds are"
    return f"{rounds_done} saved" + (f", and round {done + 1} begins anew" if is_interrupted else "")


def _has_more_rounds(settings: BridgeSolverConfig, progress: BridgeState, limit: float | None) -> bool:
    """Tell whether another round is to be made; of those in a limit of time the last is one ahead."""
    if limit is None:
        return progress.num_rounds < (settings.rounds or 1)
    if progress.num_rounds % 2 == 0:
        return True
    return progress.seconds * (1 + 2 / progress.num_rounds) <= limit


def round_metrics(
    problem: BridgeProblem, settings: BridgeSolverConfig, progress: BridgeState, round_result: RoundResult
) -> dict[str, int | float]:
    """Return what a round reached, as the result is measured: by walks through all legs, where they should be met."""
    trajectories = (
        round_result.trajectories[0]
        if len(round_result.trajectories) == 1
        else _simulate_all_legs(problem, settings, progress, round_result)
    )
    rng, arrivals = Rng(round_result.number), []
    for leg, (begin, length) in enumerate(segments_of(problem.times)):
        place = int(
            np.argmin(np.abs(np.array(trajectories.times) - (begin if round_result.backward else begin + length)))
        )
        population, leg_rng = (
            target_population(problem, leg, backward=round_result.backward),
            rng.fold_in("measured", leg),
        )
        arrivals.append(
            endpoint_distances(trajectories.states[:, place].flatten(1), population, leg_rng, n_compared(settings))
        )
    whole = rng.fold_in("measured", 0)
    averages = path_costs(
        trajectories.times, trajectories.states.flatten(2), trajectories.control.flatten(2), problem.cost, whole
    ).averages()
    lost = [one.num_lost / len(one.states) for one in round_result.trajectories]
    lengths = [length for _, length in segments_of(problem.times)]
    over = {**averages, "lost": sum(share * length for share, length in zip(lost, lengths, strict=True)) / sum(lengths)}
    distances = {name: [float(row[name] or 0.0) for row in arrivals if row[name] is not None] for name in WORST_METRICS}
    worst = {name: max(values) for name, values in distances.items() if len(values) == len(arrivals)}
    finite = {name: value for name, value in over.items() if value is not None}
    return {"backward": int(round_result.backward), "loss": round_result.loss, **finite, **worst}


def _simulate_all_legs(
    problem: BridgeProblem, settings: BridgeSolverConfig, progress: BridgeState, round_result: RoundResult
) -> Trajectories:
    """Walk through all legs, which do not begin anew at the populations between as those of a round do."""
    population = problem.populations[-1][1] if round_result.backward else problem.populations[0][0]
    begin = population(settings.pairs, Rng(round_result.number).fold_in("through"))
    every = 1 if begin[0].numel() <= MAX_DIM_LOGGED else None
    whole = BridgeSolution(problem, settings, replace(progress, best_weights={}), ())
    return whole.transport(begin, round_result.number, backward=round_result.backward, every=every)


def _round_text(round_result: RoundResult, row: dict[str, int | float], progress: BridgeState) -> str:
    """Say what a round reached."""
    direction = "back" if round_result.backward else "ahead"
    real = f", {row['w2_floor']:.3g} is real" if "w2_floor" in row else ""
    distance_text = f"; its end is {row['w2']:.3g} from the population{real}" if "w2" in row else ""
    stuck = f"; {row['inside_paths']:.1%} of the paths meet an obstacle" if "inside_paths" in row else ""
    lost = f"; {row['lost']:.2%} ran away and were drawn anew" if row["lost"] else ""
    best = progress.best_rounds["back" if round_result.backward else "ahead"]
    other = f"; round {best} stays, which was better" if best != round_result.number else ""
    return (
        f"round {round_result.number}, {direction}: objective {row['objective']:.4g} = control"
        f" {row['control_cost']:.4g} + state {row['state_cost']:.4g}{distance_text}{stuck}{lost}{other}"
    )
