"""Which round of a bridge is kept: the rule by which a later round replaces an earlier one."""

from collections.abc import Mapping, Sequence
from typing import Any

from feller.control.bridges.progress import Progress

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


def keep(progress: Progress, row: Row, rows: Sequence[Row]) -> None:
    """Keep the averaged drift of the round just done where it is better than the kept one of its direction.

    Args:
        progress: What has just done the round; changed in place.
        row: What the round reached.
        rows: What all earlier rounds reached.
    """
    backward = bool(row["backward"])
    way = "back" if backward else "ahead"
    own = [each for each in rows if bool(each.get("backward")) == backward]
    kept = next((each for each in own if each["step"] == progress.kept.get(way)), None)
    if better(row, kept, own):
        learner = progress.learner(backward=backward)
        progress.best[way] = {name: value.clone() for name, value in learner.averaged().items()}
        progress.kept[way] = row["step"]


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
