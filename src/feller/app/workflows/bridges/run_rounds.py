"""Training rounds of a bridge, with metrics, checkpoints and selection of the best round."""

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
"""Maximum fraction of paths through walls for which a round counts as feasible."""
MAX_WORSENING = 1.1
"""Maximum factor by which a later round may be farther from the population than the best round and still replace it:
later rounds have lower costs."""


def is_better(row: Row, kept_row: Row | None, earlier: Sequence[Row]) -> bool:
    """Return True if a round should replace the best round of its direction.

    If the fraction of paths through walls exceeds `MAX_BLOCKED_FRACTION` in one of the two rounds, and the fractions
    differ by more than a factor of `MAX_WORSENING`, the round with fewer of these paths is better. Otherwise the
    distances to the population decide, each divided by its noise floor (the distance between two sets of samples of the
    population). The new round is better unless its distance
    exceeds both the distance of the best round and `MAX_WORSENING` times the minimum over all earlier rounds.
    """
    if kept_row is None:
        return True
    blocked, kept = row.get("inside_paths", 0.0), kept_row.get("inside_paths", 0.0)
    if max(blocked, kept) > MAX_BLOCKED_FRACTION and not kept / MAX_WORSENING <= blocked <= kept * MAX_WORSENING:
        return blocked < kept
    new_ratio, kept_ratio = _ratio(row), _ratio(kept_row)
    if new_ratio is None or kept_ratio is None:
        return True
    lowest = min([1.0 if ratio is None or ratio < 1 else ratio for ratio in map(_ratio, earlier)], default=kept_ratio)
    return new_ratio <= max(MAX_WORSENING * max(lowest, 1.0), kept_ratio)


def keep_if_better(progress: BridgeState, row: Row, rows: Sequence[Row]) -> None:
    """Keep the EMA drift of the last round as the best drift if the round is the best of its direction so far."""
    backward = bool(row["backward"])
    direction = "back" if backward else "ahead"
    earlier = [past for past in rows if bool(past.get("backward")) == backward]
    kept_row = next((past for past in earlier if past["step"] == progress.best_rounds.get(direction)), None)
    if is_better(row, kept_row, earlier):
        learner = progress.train_state(backward=backward)
        progress.best_weights[direction] = {name: value.clone() for name, value in learner.ema_weights().items()}
        progress.best_rounds[direction] = row["step"]


def kept_round_numbers(kept_rounds: Mapping[str, int], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the number of the best forward round as `kept_round`, for the report.

    If a later forward round was worse, also return metrics of the last forward round, as `last_w2` (distance to the
    population) and `last_inside_paths` (fraction of paths through walls).
    """
    forward = [row for row in rows if not row.get("backward")]
    best_round = kept_rounds.get("ahead", forward[-1]["step"] if forward else 0)
    if not forward or forward[-1]["step"] == best_round:
        return {"kept_round": best_round}
    last = {name: forward[-1].get(key) for name, key in (("last_w2", "w2"), ("last_inside_paths", "inside_paths"))}
    return {"kept_round": best_round, **{name: value for name, value in last.items() if value is not None}}


def _ratio(row: Row) -> float | None:
    """Return how far simulated end points are from the population (W2), relative to two halves of the population."""
    distance, floor = row.get("w2"), row.get("w2_floor")
    return distance / floor if distance is not None and floor else None


WORST_METRICS = ("sinkhorn", "w2", "w2_floor")
"""Names of the distances between end points and population for which the maximum over populations is reported."""
ENDING = 0.99
"""Completed fraction shown if the time limit is reached while the last round is still running."""


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
    """Alternate forward and backward fits until all rounds are done or the time is spent.

    Save the state after each fit.

    Args:
        run: Run folder.
        problem: Bridge problem.
        settings: Solver settings.
        progress: Training state, modified in place.
        seed: Random seed.
        limit: Time limit in seconds; None to run the number of rounds in `settings`.
        continue_command: Command that resumes after an interrupt.
        engine: Device and processes.
        reporter: Progress and log output.

    Raises:
        Interrupted: If training is interrupted by Ctrl-C; the last round is saved.
    """
    writer = MetricsWriter(run.metrics, progress.num_rounds) if engine.is_main_process else None
    start_time = time.monotonic() - progress.seconds
    with interrupt_event() as interrupted:

        def on_progress(fraction: float, text: str) -> None:
            if engine.broadcast_bool(interrupted.is_set()):
                raise Interrupted(
                    continue_command, f"{saved_text(progress.num_rounds, is_interrupted=True)}. Continue with"
                )
            completed = (progress.num_rounds + fraction) / (settings.rounds or 1)
            spent = completed if limit is None else (time.monotonic() - start_time) / limit
            note = "" if limit is None or spent < 1 else " (finishing after the time limit)"
            reporter.progress(min(spent, ENDING if note else 1.0), f"round {progress.num_rounds + 1}{note}, {text}")

        reporter.start("fitting the bridge")
        rounds = iterate_rounds(problem, settings, progress, Rng(seed), engine, on_progress=on_progress)
        while engine.broadcast_bool(_has_more_rounds(settings, progress, limit)):
            round_result = next(rounds)
            if engine.is_main_process and writer is not None:
                row = {"step": round_result.number, **round_metrics(problem, settings, progress, round_result)}
                rows = [past for past in read_metrics(run.metrics) if past["step"] < round_result.number]
                keep_if_better(progress, row, rows)
                writer.add(seconds=round(progress.seconds, 3), **row)
                save_progress(run, progress)
                reporter.log(_round_text(round_result, row, progress))
        reporter.finish()
    if writer is not None:
        writer.close()


def saved_text(done: int, *, is_interrupted: bool = False) -> str:
    """Return a text that says how many rounds were saved and, if interrupted, that the current round is lost."""
    if not done:
        return "no round is complete, so nothing is saved and round 1 starts again"
    rounds_done = "round 1 is" if done == 1 else f"{done} rounds are"
    return f"{rounds_done} saved" + (f", and round {done + 1} starts again" if is_interrupted else "")


def _has_more_rounds(settings: BridgeSolverConfig, progress: BridgeState, limit: float | None) -> bool:
    """Return True if another round is due; with a time limit the last round goes forward."""
    if limit is None:
        return progress.num_rounds < (settings.rounds or 1)
    if progress.num_rounds % 2 == 0:
        return True
    return progress.seconds * (1 + 2 / progress.num_rounds) <= limit


def round_metrics(
    problem: BridgeProblem, settings: BridgeSolverConfig, progress: BridgeState, round_result: RoundResult
) -> dict[str, int | float]:
    """Return the metrics of a round: loss, costs, and distances of trajectories to the populations when they arrive.

    The trajectories are simulated through all segments of the bridge. Of the distances, the largest is returned.
    """
    trajectories = (
        round_result.trajectories[0]
        if len(round_result.trajectories) == 1
        else _simulate_all_legs(problem, settings, progress, round_result)
    )
    rng, arrivals = Rng(round_result.number), []
    for leg, (begin, length) in enumerate(segments_of(problem.times)):
        time_index = int(
            np.argmin(np.abs(np.array(trajectories.times) - (begin if round_result.backward else begin + length)))
        )
        population, leg_rng = (
            target_population(problem, leg, backward=round_result.backward),
            rng.fold_in("measured", leg),
        )
        arrivals.append(
            endpoint_distances(trajectories.states[:, time_index].flatten(1), population, leg_rng, n_compared(settings))
        )
    cost_rng = rng.fold_in("measured", 0)
    averages = path_costs(
        trajectories.times, trajectories.states.flatten(2), trajectories.control.flatten(2), problem.cost, cost_rng
    ).averages()
    lost = [segment.num_lost / len(segment.states) for segment in round_result.trajectories]
    lengths = [length for _, length in segments_of(problem.times)]
    means = {**averages, "lost": sum(rate * length for rate, length in zip(lost, lengths, strict=True)) / sum(lengths)}
    distances = {name: [float(row[name] or 0.0) for row in arrivals if row[name] is not None] for name in WORST_METRICS}
    worst = {name: max(values) for name, values in distances.items() if len(values) == len(arrivals)}
    finite = {name: value for name, value in means.items() if value is not None}
    return {"backward": int(round_result.backward), "loss": round_result.loss, **finite, **worst}


def _simulate_all_legs(
    problem: BridgeProblem, settings: BridgeSolverConfig, progress: BridgeState, round_result: RoundResult
) -> Trajectories:
    """Simulate trajectories from the first population to the last (or back), without a restart at each population."""
    population = problem.populations[-1][1] if round_result.backward else problem.populations[0][0]
    initial_states = population(settings.pairs, Rng(round_result.number).fold_in("through"))
    every = 1 if initial_states[0].numel() <= MAX_DIM_LOGGED else None
    solution = BridgeSolution(problem, settings, replace(progress, best_weights={}), ())
    return solution.transport(initial_states, round_result.number, backward=round_result.backward, every=every)


def _round_text(round_result: RoundResult, row: dict[str, int | float], progress: BridgeState) -> str:
    direction = "backward" if round_result.backward else "forward"
    floor_text = f" (noise floor {row['w2_floor']:.3g})" if "w2_floor" in row else ""
    distance_text = f"; W2 to the population {row['w2']:.3g}{floor_text}" if "w2" in row else ""
    wall_text = f"; {row['inside_paths']:.1%} of the paths cross an obstacle" if "inside_paths" in row else ""
    lost = f"; {row['lost']:.2%} diverged and were resampled" if row["lost"] else ""
    best = progress.best_rounds["back" if round_result.backward else "ahead"]
    best_text = f"; round {best} is still better" if best != round_result.number else ""
    return (
        f"round {round_result.number}, {direction}: objective {row['objective']:.4g} = control"
        f" {row['control_cost']:.4g} + state {row['state_cost']:.4g}{distance_text}{wall_text}{lost}{best_text}"
    )
