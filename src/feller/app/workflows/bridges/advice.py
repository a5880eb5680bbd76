"""How to go on with a bridge: the command that makes it better, and whether it is a first sketch."""

import itertools
import pathlib
from dataclasses import replace

from feller.app.workflows.bridges.bridge_run import Bridged, command_of, going_on, last_said
from feller.app.workflows.run_status import SKETCH
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.core.run_folder import Run


def bridge_sketch(run: Run, bridged: Bridged, how: BridgeSolverConfig, planned: BridgeSolverConfig, rounds: int) -> str:
    """Return one line where a bridge has one round alone, or far less training or pairs than is usual; else nothing.

    Args:
        run: Where it is kept.
        bridged: What was asked.
        how: Its settings.
        planned: The usual ones for such data.
        rounds: Those that are done.
    """
    steps, usual, many = how.train.steps or 1, planned.train.steps or 1, planned.rounds or 1
    few = _few(how, planned)
    if not rounds or (rounds > 1 and rounds * steps >= SKETCH * usual * many and not few):
        return ""
    short = steps < SKETCH * usual
    parts = [f"{steps:,} steps"] * short + [f"{how.pairs:,} pairs"] * few
    if rounds > 1 and not parts:
        parts = [f"{steps:,} steps"]
    done = "1 round" if rounds == 1 else f"{rounds} rounds"
    of = f" of {' and '.join(parts)}" if parts else ""
    command, _ = onward(run, bridged, how, planned, rounds, sketch=True)
    how_on = "what goes on keeps its pairs, so make a new one" if few else "go on with"
    return f"After {done}{of} this is a first sketch; {how_on}: {command}"


def onward(
    run: Run,
    bridged: Bridged,
    how: BridgeSolverConfig,
    planned: BridgeSolverConfig,
    rounds: int,
    *,
    sketch: bool = False,
    longer: bool = False,
) -> tuple[str, str]:
    """Return the one command that makes a bridge better, and what it does.

    Args:
        run: Where it is kept.
        bridged: What was asked.
        how: Its settings.
        planned: The usual ones for such data.
        rounds: Those that are done.
        sketch: It is a first sketch, which becomes a usual bridge; one of few pairs is made anew, for it keeps these.
        longer: Longer rounds would help.
    """
    steps, many = how.train.steps or 1, planned.rounds or 1
    if not sketch:
        twice = ("--train.steps", 2 * steps) if longer else ()
        what = "go on for four more rounds" + (", each twice as long" if longer else "")
        return going_on(run, bridged, "--rounds", rounds + 4, *twice), what
    short = _short(how, planned)
    if not _few(how, planned):
        more = [word for name, value in short.items() for word in (f"--{name}", value)]
        return going_on(run, bridged, "--rounds", max(many, rounds + 2), *more), "go on from this first sketch"
    anew = replace(bridged, fields=tuple(last_said(bridged.fields, short)))
    whole = replace(how, rounds=many, pairs=planned.pairs)
    return command_of(anew, whole, _beside(run)), f"make a new one of {planned.pairs:,} pairs"


def _short(how: BridgeSolverConfig, planned: BridgeSolverConfig) -> dict[str, int]:
    """Return the fields that a sketch has less of than is usual, as they are called, with what is."""
    kinds = {
        "train.steps": (how.train.steps, planned.train.steps),
        "control.steps": (how.control.steps, planned.control.steps),
        "calls": (how.nfe, planned.nfe),
    }
    return {name: usual or 1 for name, (own, usual) in kinds.items() if (own or 1) < (usual or 1)}


def _beside(run: Run) -> pathlib.Path:
    """Return a free folder beside that of a run."""
    names = (run.path.with_name(f"{run.path.name}-{number}") for number in itertools.count(2))
    return next(path for path in names if not path.exists())


def _few(how: BridgeSolverConfig, planned: BridgeSolverConfig) -> bool:
    return how.pairs < SKETCH * planned.pairs
