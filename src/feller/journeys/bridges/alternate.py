"""The rounds of a bridge: followed, logged, saved, and interrupted."""

import time
from typing import Any

from feller.bridging.problem import BridgeProblem
from feller.bridging.progress import Progress
from feller.bridging.rounds import Round, rounds
from feller.bridging.settings import Bridging
from feller.draws import Draws
from feller.evaluate.bridge import along, arrival
from feller.journeys.bridges.bridged import save_progress
from feller.journeys.bridges.measured import end_of
from feller.journeys.fitting.learn import Interrupted
from feller.journeys.interrupts import interrupts
from feller.journeys.tell import Tell
from feller.run import Run
from feller.train.engine import Engine
from feller.train.metrics import MetricsWriter

SEEN = 500
"""Ends that are compared after each round, at most."""

ENDING = 0.99
"""Share that is shown of a round that is still ended though its time is up."""


def alternate(
    run: Run,
    problem: BridgeProblem,
    settings: Bridging,
    progress: Progress,
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
    metrics = MetricsWriter(run.metrics, progress.done) if here.is_first else None
    begun = time.monotonic() - progress.seconds
    with interrupts() as interrupted:

        def hear(share: float, text: str) -> None:
            if here.agree(float(interrupted.is_set())):
                raise Interrupted(again)
            whole = (progress.done + share) / (settings.rounds or 1)
            spent = whole if limit is None else (time.monotonic() - begun) / limit
            late = "" if limit is None or spent < 1 else ", which is still ended though its time is up"
            tell.progress(min(spent, ENDING if late else 1.0), f"round {progress.done + 1}{late}, {text}")

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
        for name in ("objective", "control_cost", "state_cost", "inside_paths", "inside_time", "lost")
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
    stuck = f"; {row['inside_paths']:.1%} of the paths meet an obstacle" if "inside_paths" in row else ""
    lost = f"; {row['lost']:.2%} ran away and were drawn anew" if row["lost"] else ""
    return (
        f"round {found.number}, {way}: objective {row['objective']:.4g} = control {row['control_cost']:.4g} + state"
        f" {row['state_cost']:.4g}{met}{stuck}{lost}"
    )
