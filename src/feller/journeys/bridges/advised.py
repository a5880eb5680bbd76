"""What would help a bridge that is not good yet, and the command that goes on with one that has hardly begun."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from feller.bridging.settings import Bridging
from feller.journeys.bridges.bridged import Bridged
from feller.journeys.first_sketch import SKETCH
from feller.report.wording import number, percent
from feller.run import Run

FEW = 0.05
"""Share of the trajectories around pinned paths that count, below which a few carry all the weight."""
FAR = 1.5
"""How many times as far as real members ends may lie before people hear what helps."""
RISEN = 1.1
"""Times by which objective and distance may rise from the best round of a direction to its last."""


def advice(
    numbers: dict[str, Any], rows: Sequence[Mapping[str, Any]], bridged: Bridged, how: Bridging
) -> tuple[str, ...]:
    """Return what would help, one line for each thing that is not good yet.

    Args:
        numbers: Of the page.
        rows: What each round reached.
        bridged: What was asked.
        how: Settings.
    """
    return tuple(filter(None, (_counted(numbers, how), _far(numbers, bridged, how), _risen(rows, how))))


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
    places = [(f"at time {time:g}", f"w2_{time:g}") for time in bridged.times[1:-1]] + [("at the end", "w2")]
    far = []
    for where, name in places:
        reached, floor = numbers.get(name), numbers.get(f"{name}_floor")
        if reached is not None and floor and reached > FAR * floor:
            far.append(f"{where} paths are {number(reached / floor)} times")
    if not far:
        return ""
    where = " and ".join(far)
    return f"{where} as far from real members as these are from each other: {_longer(how)} help"


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
    return f"longer rounds (--train.steps {2 * (how.train.steps or 1)}), and then more of them (--rounds),"


def bridge_sketch(run: Run, bridged: Bridged, how: Bridging, planned: Bridging, rounds: int) -> str:
    """Return one line where a bridge has one round alone, or far less training than is usual; empty where it has more.

    Args:
        run: Where it is kept.
        bridged: What was asked.
        how: Its settings.
        planned: The usual ones for such data.
        rounds: Those that are done.
    """
    steps, usual, many = how.train.steps or 1, planned.train.steps or 1, planned.rounds or 1
    if not rounds or (rounds > 1 and rounds * steps >= SKETCH * usual * many):
        return ""
    longer = ("--train.steps", usual) if steps < usual else ()
    more = ("--rounds", max(many, rounds + 2))
    words = ("feller", "bridge", "--resume", "--out", run.path, *bridged.costs_again, *more, *longer)
    done = "1 round" if rounds == 1 else f"{rounds} rounds of {steps:,} steps"
    return f"After {done} this is a first sketch; go on with: {shlex.join(map(str, words))}"
