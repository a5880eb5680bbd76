"""Tables of samplers, and claims that one beats another at equal calls of the same network."""

from collections.abc import Callable, Sequence

from feller_papers.claims import Claim, mean_of, numbers_of, seeds_of, verdict
from feller_papers.generator_matching.setting import WAYS, Sampler

Measure = Callable[[Sampler, int], list[float]]
"""(sampler, calls) -> distance to the data for each seed."""
CONTROL = "midpoint flow"
"""Baseline in every table."""


def table(measure: Measure, calls: Sequence[int], *names: str) -> str:
    """Return the formatted means of samplers over seeds, the midpoint flow last."""
    shown = [*(name for name in names if name != CONTROL), CONTROL]
    rows = (f"{name} {', '.join(mean_of(measure(WAYS[name], n), 3) for n in calls)}" for name in shown)
    return f"after {numbers_of(calls)} calls: {'; '.join(rows)}"


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Return the ratios of two samplers, seed by seed."""
    return [x / y for x, y in zip(a, b, strict=True)]


def all_below(ratio_rows: Sequence[Sequence[float]], most: float = 1.0) -> bool:
    """Return whether all ratios are below a number."""
    return max(map(max, ratio_rows)) < most


def ranges(ratio_rows: Sequence[Sequence[float]]) -> str:
    """Return the number of seeds and the formatted range of ratios per number of calls."""
    each = (f"{min(row):.3g} to {max(row):.3g}" if len(row) > 1 else f"{row[0]:.3g}" for row in ratio_rows)
    return f"{seeds_of(ratio_rows[0])}, ratio {', '.join(each)}"


def comparison_claim(
    claim: str, paper: str, measure: Measure, better: str, baseline: str, calls: Sequence[int], metric: str
) -> Claim:
    """Return the claim that one sampler beats another for every seed and number of calls.

    Args:
        claim: Text of the claim.
        paper: Statement of the paper.
        measure: Distances to the data.
        better: Name of the sampler that should be better.
        baseline: Name of the other sampler.
        calls: Network calls.
        metric: Name of the metric.
    """
    better_rows, baseline_rows = ([measure(WAYS[name], n) for n in calls] for name in (better, baseline))
    ratio_rows = [ratios(a, b) for a, b in zip(better_rows, baseline_rows, strict=True)]
    return Claim(
        claim,
        paper,
        f"{metric} {table(measure, calls, better, baseline)}",
        ranges(ratio_rows),
        verdict(all_below(ratio_rows)),
    )
