"""Private support of a column: intervals whose noisy counts exceed the noise.

It only post-processes noisy counts that are already charged, so it has no further privacy cost.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import scipy
import torch
from jaxtyping import Float64
from torch import Tensor

from feller.data.tables.clipped_cells import MIN_DEVIATIONS_OF_WORDS

FALSE_POSITIVE_PROB = 1e-3
"""Probability, per column, that noise makes at least one count significant whose true value is zero."""


@runtime_checkable
class NoiseSource(Protocol):
    """Protocol of noise generators, such as `Noise` in `feller.privacy.noise.grid_noise`."""

    def add_gaussian(self, values: Tensor, scale: float) -> Tensor:
        """Return `values` plus Gaussian noise with standard deviation `scale`.

        Values and noise are rounded to the same grid of numbers, so that low-order bits reveal nothing.
        """
        ...


class Charge(NamedTuple):
    """Entry of the privacy ledger: a Gaussian mechanism whose privacy cost is charged."""

    label: str
    sigma: float
    """Noise multiplier: standard deviation in units of the L2 sensitivity."""
    delta: float = 0.0
    """Probability that a word of a single row is released, in addition to the Gaussian mechanism."""


@dataclass(frozen=True)
class NoisyCounter:
    """Counter that adds Gaussian noise with the same standard deviation to every count."""

    sigma: float
    noise: NoiseSource

    def counts(
        self, keys: Iterable[str | int], keys_allowed: Sequence[str | int], repeats: Sequence[int]
    ) -> dict[str | int, float]:
        """Return the noisy count of each key in the public list `keys_allowed`; keys[i] occurs in repeats[i] rows."""
        exact = dict.fromkeys(keys_allowed, 0)
        for key, repeat in zip(keys, repeats, strict=True):
            if key in exact:
                exact[key] += repeat
        return dict(zip(keys_allowed, self._noisy([*exact.values()]), strict=True))

    def significant(self, counts: dict[str | int, float]) -> list[str | int]:
        """Return the keys whose noisy count is significantly greater than the noise."""
        return [key for key, count in counts.items() if count > self.significance(len(counts))]

    def significance(self, num_counts: int) -> float:
        """Return the threshold that, in one of a thousand cases, any of the counts exceeds if all are 0."""
        return self.sigma * float(scipy.stats.norm.isf(FALSE_POSITIVE_PROB / num_counts))

    def threshold(self, delta: float) -> float:
        """Return the threshold that the noisy count of a word that occurs in one row exceeds with probability delta."""
        return 1 + self.sigma * float(scipy.stats.norm.isf(delta))

    def words(self, exact: Mapping[str, int], delta: float) -> list[tuple[str, float]]:
        """Return the words whose noisy count exceeds `threshold(delta)`, with the noisy counts."""
        threshold = self.threshold(delta)
        names = sorted(exact)
        noisy = zip(names, self._noisy([exact[name] for name in names]), strict=True)
        return [(name, count) for name, count in noisy if count > threshold]

    def _noisy(self, exact: Sequence[int]) -> list[float]:
        """Add noise on a grid: the low digits of floating-point Gaussian noise would reveal the exact counts."""
        return self.noise.add_gaussian(torch.tensor(exact, dtype=torch.float64), self.sigma).tolist()


WIDTHS = (1, 2, 4, 8, 16, 32)
"""Widths of the windows over which neighbouring counts are summed, since a sum may be significant where no count is."""
NARROW = 4
"""Maximum number of counts by which an interval is widened to each side; an interval of more counts may be widened by
its own width."""
TAILS = 5
"""Ratio of an interval's width to the margin that is added at each end because noise may hide the tails."""
TAIL_NOISE_FRACTION = 0.005
"""Ratio of the noise's standard deviation to the total count above which the margins of `TAILS` are added."""
WEAK_FALSE_POSITIVE_PROB = 0.2
"""False-positive probability of each further interval; such intervals are searched if the counts in the intervals found
so far sum to less than the total count."""
STRICT_FALSE_POSITIVE_PROB = 0.02
"""False-positive probability of each further interval of a strict search."""
LOWER_THRESHOLDS = (0.5, 0.25)
"""Factors that lower the widening threshold; intervals are widened again with these thresholds if their counts sum to
less than the total count."""
Span = tuple[int, int]
"""First and last index of an interval."""


class NoisyTotal(NamedTuple):
    """Noisy number of all rows or cells: a sum of noisy counts that have the same standard deviation of the noise."""

    sum: float
    terms: int
    """Number of noisy counts that were summed to the total."""


def find_intervals(
    counts: Sequence[float], sigma: float, edge_deviations: float, total: NoisyTotal, *, is_lenient: bool = True
) -> list[Span]:
    """Return the first and last index of each interval with significant counts; intervals are ascending and disjoint.

    An interval starts as a window whose counts have a significant sum, and is then widened by neighbouring counts.

    Args:
        counts: Noisy counts of neighbouring values, in order of the values.
        sigma: Standard deviation of the noise on each count.
        edge_deviations: Minimum mean of the neighbouring counts by which an interval is widened, in units of `sigma`.
            A lower minimum misses fewer rows, but widens intervals further into values that do not occur.
        total: Noisy total of all counts. If the counts in all intervals sum to significantly less than this total, the
            search is repeated with lower thresholds.
        is_lenient: True to widen intervals by margins for tails that noise may hide, and to accept further intervals
            of less significance.
    """
    values = np.asarray(counts, dtype=np.float64)
    threshold = float(scipy.stats.norm.isf(FALSE_POSITIVE_PROB / (len(WIDTHS) * len(values))))
    seeds: list[Span] = []
    for width in WIDTHS:
        scores = _scores(values, width, sigma)
        seeds += _apart([(int(i), int(i) + width - 1) for i in np.flatnonzero(scores > threshold)], seeds)
    seeds = _joined(seeds)
    while seeds and _is_mass_missing(
        values, _widen(values, seeds, edge_deviations * sigma), sigma, total, MIN_DEVIATIONS_OF_WORDS
    ):
        weaker = _weaker(values, seeds, sigma, WEAK_FALSE_POSITIVE_PROB if is_lenient else STRICT_FALSE_POSITIVE_PROB)
        if weaker is None:
            break
        seeds = _joined([*seeds, weaker])
    intervals = _widen(values, seeds, edge_deviations * sigma)
    for factor in LOWER_THRESHOLDS:
        if _is_mass_missing(values, intervals, sigma, total, 1.0):
            intervals = _widen(values, seeds, factor * edge_deviations * sigma)
    if not is_lenient or sigma <= TAIL_NOISE_FRACTION * total.sum:
        return intervals
    widths = [(last - first + 1) // TAILS for first, last in intervals]
    interval_margins = zip(intervals, widths, strict=True)
    return _joined(
        [(max(first - margin, 0), min(last + margin, len(values) - 1)) for (first, last), margin in interval_margins]
    )


def _weaker(values: Float64[np.ndarray, " n"], seeds: Sequence[Span], sigma: float, prob: float) -> Span | None:
    """Return the most significant window of counts that is disjoint from the intervals `seeds`; None if there is none.

    The threshold is lower than that for the first intervals.
    """
    threshold = float(scipy.stats.norm.isf(prob / (len(WIDTHS) * len(values))))
    candidates = [
        (float(score), (i, i + width - 1))
        for width in WIDTHS
        for i, score in enumerate(_scores(values, width, sigma))
        if score > threshold and _apart([(i, i + width - 1)], seeds)
    ]
    return max(candidates)[1] if candidates else None


def _scores(values: Float64[np.ndarray, " n"], width: int, sigma: float) -> Float64[np.ndarray, " m"]:
    """Return the z-scores of sums over windows of this width; empty if it exceeds the number of counts."""
    sums = np.concatenate([[0.0], values.cumsum()])
    return (sums[width:] - sums[:-width]) / (sigma * math.sqrt(width))


def _apart(spans: Sequence[Span], taken: Sequence[Span]) -> list[Span]:
    return [(a, b) for a, b in spans if not any(a <= last and first <= b for first, last in taken)]


def _is_mass_missing(
    values: Float64[np.ndarray, " n"], intervals: Sequence[Span], sigma: float, total: NoisyTotal, deviations: float
) -> bool:
    """Return True if the counts outside the intervals are significantly above 0.

    Their sum is the noisy total minus the counts inside, and it is compared with `deviations` standard deviations.
    """
    mass_inside = sum(values[first : last + 1].sum() for first, last in intervals)
    terms = total.terms + sum(last - first + 1 for first, last in intervals)
    return bool(total.sum - mass_inside > deviations * sigma * math.sqrt(terms))


def _widen(values: Float64[np.ndarray, " n"], seeds: Sequence[Span], noise_level: float) -> list[Span]:
    """Extend each interval of counts outwards from its middle, as far as the counts exceed the noise level.

    No interval extends into the next one in `seeds`.
    """
    excess = values - noise_level
    intervals: list[Span] = []
    for i, (first, last) in enumerate(seeds):
        sums = values[first : last + 1].cumsum()
        middle = first + min(int(np.searchsorted(sums, sums[-1] / 2)), last - first)
        reach = max(NARROW, last - first + 1)
        lowest = max(first - reach, seeds[i - 1][1] + 1 if i else 0)
        highest = min(last + reach, seeds[i + 1][0] - 1 if i + 1 < len(seeds) else len(values) - 1)
        intervals.append(
            (
                middle - _best_extent(excess[lowest : middle + 1][::-1]),
                middle + _best_extent(excess[middle : highest + 1]),
            )
        )
    return _joined(intervals)


def _best_extent(excess: Float64[np.ndarray, " n"]) -> int:
    """Return how many counts after the first one to include, so that their total excess over the noise is largest."""
    return int(np.concatenate([[0.0], excess[1:].cumsum()]).argmax())


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Merge spans that touch or overlap, and sort them."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def project_to_simplex(counts: Sequence[float], total: float) -> list[float]:
    """Return the least-squares projection of noisy counts onto non-negative counts with a given total."""
    if total <= 0:
        return [0.0] * len(counts)
    ordered = sorted(counts, reverse=True)
    levels = [(cumulative - total) / k for k, cumulative in enumerate(itertools.accumulate(ordered), 1)]
    level = next(candidate for candidate, count in reversed([*zip(levels, ordered, strict=True)]) if count > candidate)
    return [max(count - level, 0.0) for count in counts]
