"""What would help a bridge that is not good yet, and the command that goes on with one that has hardly begun."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from feller.app.workflows.bridges.bridge_run import Bridged, command_of, going_on, last_said
from feller.app.workflows.run_status import SKETCH
from feller.control.bridges.bridge_config import Bridging
from feller.core.run_folder import Run
from feller.evaluation.report.wording import number, percent

FEW = 0.05
"""Share of the trajectories around pinned paths that count, below which a few carry all the weight."""
FAR = 1.5
"""How many times as far as real members ends may lie before people hear what helps."""
RISEN = 1.1
"""Times by which objective and distance may rise from the best round of a direction to its last."""


def advice(
    numbers: dict[str, Any], rows: Sequence[Mapping[str, Any]], bridged: Bridged, how: Bridging, sketch: str = ""
) -> tuple[str, ...]:
    """Return what would help, one line for each thing that is not good yet.

    Args:
        numbers: Of the page.
        rows: What each round reached.
        bridged: What was asked.
        how: Settings.
        sketch: Not empty of a first sketch, which says itself how to go on: then nothing is said of longer rounds.
    """
    short = () if sketch else (_far(numbers, bridged, how), _risen(rows, how))
    return tuple(filter(None, (_counted(numbers, how), *short)))


def falls_short(numbers: Mapping[str, Any], bridged: Bridged) -> list[str]:
    """Return where paths are far from a population that they should have become, and how far."""
    places = [(f"at time {time:g}", f"w2_{time:g}") for time in bridged.times[1:-1]] + [("at the end", "w2")]
    far = []
    for where, name in places:
        reached, floor = numbers.get(name), numbers.get(f"{name}_floor")
        if reached is not None and floor and reached > FAR * floor:
            far.append(f"{where} paths are {number(reached / floor)} times")
    return far


def _counted(numbers: dict[str, Any], how: Bridging) -> str:
    """Say so where hardly any trajectory around a pinned path counts."""
    share = numbers.get("ess")
    if share is None or share >= FEW:
        return ""
    weighed = "" if how.resampling is not None else ", or --resample 64, which learns from weighed trajectories,"
    return (
        f"of the trajectories around a pair's path {percent(share)} count: a larger --noise or a softer cost (a smaller"
        f" NUMBER *){weighed} helps"
    )


def _far(numbers: dict[str, Any], bridged: Bridged, how: Bridging) -> str:
    """Say where paths are far from a population that they should have become."""
    far = " and ".join(falls_short(numbers, bridged))
    return f"{far} as far from real members as these are from each other: {_longer(how)} help" if far else ""


def _risen(rows: Sequence[Mapping[str, Any]], how: Bridging) -> str:
    """Say so where the last round of a direction is worse than one before it, by objective and by distance."""
    for backward in (0, 1):
        own = [row for row in rows if row.get("backward") == backward and "w2" in row]
        if len(own) < 2:
            continue
        best, last = min(own[:-1], key=lambda row: row["objective"]), own[-1]
        if last["objective"] > RISEN * best["objective"] > 0 and last["w2"] > RISEN * best["w2"]:
            way = "back" if backward else "ahead"
            return (
                f"from round {best['step']:g} to round {last['step']:g}, both {way}, the objective rose from"
                f" {number(best['objective'])} to {number(last['objective'])} and the distance of the end from"
                f" {number(best['w2'])} to {number(last['w2'])}: the drifts are not learned well enough to build on;"
                f" {_longer(how)} help"
            )
    return ""


def _longer(how: Bridging) -> str:
    """Name what trains longer."""
    return f"longer rounds (--train.steps {2 * (how.train.steps or 1)}) and more of them (--rounds)"


def bridge_sketch(run: Run, bridged: Bridged, how: Bridging, planned: Bridging, rounds: int) -> str:
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
    how: Bridging,
    planned: Bridging,
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


def _short(how: Bridging, planned: Bridging) -> dict[str, int]:
    """Return the fields that a sketch has less of than is usual, as they are called, with what is."""
    kinds = {
        "train.steps": (how.train.steps, planned.train.steps),
        "control.steps": (how.control.steps, planned.control.steps),
        "calls": (how.calls, planned.calls),
    }
    return {name: usual or 1 for name, (own, usual) in kinds.items() if (own or 1) < (usual or 1)}


def _beside(run: Run) -> pathlib.Path:
    """Return a free folder beside that of a run."""
    names = (run.path.with_name(f"{run.path.name}-{number}") for number in itertools.count(2))
    return next(path for path in names if not path.exists())


def _few(how: Bridging, planned: Bridging) -> bool:
    return how.pairs < SKETCH * planned.pairs
