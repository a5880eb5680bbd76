"""Rows of figures, one per process, and claims that one process beats another at equal calls of the same network."""

from collections.abc import Callable, Sequence

from feller_papers.claims import Claim, mean_of, numbers_of, seeds_of, verdict
from feller_papers.generator_matching.setting import WAYS, Way

Measure = Callable[[Way, int], list[float]]
"""(way, calls) -> a distance from the data for each seed."""
CONTROL = "midpoint flow"
"""In every comparison."""


def table(measure: Measure, calls: Sequence[int], *names: str) -> str:
    """Return the means of ways over seeds, those of the midpoint flow last, for people."""
    shown = [*(name for name in names if name != CONTROL), CONTROL]
    rows = (f"{name} {', '.join(mean_of(measure(WAYS[name], n), 3) for n in calls)}" for name in shown)
    return f"after {numbers_of(calls)} calls: {'; '.join(rows)}"


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Divide seed by seed."""
    return [x / y for x, y in zip(a, b, strict=True)]


def all_below(found: Sequence[Sequence[float]], most: float = 1.0) -> bool:
    """Tell whether the ratios of all numbers of calls and all seeds lie below a number."""
    return max(map(max, found)) < most


def ranges(found: Sequence[Sequence[float]]) -> str:
    """Return over how many seeds ratios are known, and their range for each number of calls."""
    each = (f"{min(row):.3g} to {max(row):.3g}" if len(row) > 1 else f"{row[0]:.3g}" for row in found)
    return f"{seeds_of(found[0])}, ratio {', '.join(each)}"


def beats(claim: str, paper: str, measure: Measure, one: str, other: str, calls: Sequence[int], of: str) -> Claim:
    """Claim that one way is better than another for every seed and each number of calls.

    Args:
        claim: In words.
        paper: What the paper says.
        measure: Distances from the data.
        one: Name of the way that should be better.
        other: Name of the way that should not.
        calls: Of the network.
        of: What is measured.
    """
    mine, theirs = ([measure(WAYS[name], n) for n in calls] for name in (one, other))
    found = [ratios(a, b) for a, b in zip(mine, theirs, strict=True)]
    return Claim(claim, paper, f"{of} {table(measure, calls, one, other)}", ranges(found), verdict(all_below(found)))
