"""Private support of a column: intervals whose noisy counts exceed the noise.

All of it follows from noisy counts that were paid for, so it costs nothing more.
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
"""Chance that noise alone passes for an entry that is not empty, for each column."""


@runtime_checkable
class NoiseSource(Protocol):
    """Where noise comes from: a source of `feller.privacy.noise.grid_noise`."""

    def add_gaussian(self, values: Tensor, scale: float) -> Tensor:
        """Return values with normal noise of a standard deviation, both rounded to one grid."""
        ...


class Charge(NamedTuple):
    """One Gaussian mechanism."""

    label: str
    sigma: float
    """Deviation of its noise, in units of the L2 sensitivity."""
    delta: float = 0.0
    """Chance that a word of one row alone is released, in addition to what the noise gives."""


@dataclass(frozen=True)
class NoisyCounter:
    """Counts with noise of one deviation."""

    sigma: float
    noise: NoiseSource

    def counts(
        self, keys: Iterable[str | int], keys_allowed: Sequence[str | int], repeats: Sequence[int]
    ) -> dict[str | int, float]:
        """Count keys among a public list, each so often, with noise on every entry; others are not counted."""
        exact = dict.fromkeys(keys_allowed, 0)
        for key, times in zip(keys, repeats, strict=True):
            if key in exact:
                exact[key] += times
        return dict(zip(keys_allowed, self._noisy([*exact.values()]), strict=True))

    def significant(self, counts: dict[str | int, float], terms: int = 1) -> list[str | int]:
        """Return the entries that noise alone would hardly reach, each a sum of so many noisy counts."""
        threshold = self.sigma * math.sqrt(terms) * float(scipy.stats.norm.isf(FALSE_POSITIVE_PROB / len(counts)))
        return [key for key, count in counts.items() if count > threshold]

    def threshold(self, delta: float) -> float:
        """Return the noisy count that a word of one row alone passes with probability delta."""
        return 1 + self.sigma * float(scipy.stats.norm.isf(delta))

    def words(self, exact: Mapping[str, int], delta: float) -> list[tuple[str, float]]:
        """Return the words whose noisy counts pass the threshold that one row alone passes with probability delta."""
        threshold = self.threshold(delta)
        names = sorted(exact)
        noisy = zip(names, self._noisy([exact[name] for name in names]), strict=True)
        return [(name, count) for name, count in noisy if count > threshold]

    def _noisy(self, exact: Sequence[int]) -> list[float]:
        """Add noise to counts, which are on its grid: a float normal of its own would betray them in its low digits."""
        return self.noise.add_gaussian(torch.tensor(exact, dtype=torch.float64), self.sigma).tolist()


WIDTHS = (1, 2, 4, 8, 16, 32)
"""Neighbours that are added up, since many that hide in the noise alone stand out of it together."""
NARROW = 4
"""Places by which a narrow island may be widened to a side; others by their own width."""
TAILS = 5
"""An island is this many times as wide as what is added to each of its ends for the tails that noise hides ..."""
TAIL_NOISE_FRACTION = 0.005
"""... where a deviation of the noise is more than this share of all."""
WEAK_FALSE_POSITIVE_PROB = 0.2
"""Chance that noise alone reaches a sum that is taken for an island, where it is sure that some are not seen yet."""
LOWER_THRESHOLDS = (0.5, 0.25)
"""Parts of the worth of noise with which islands are widened again, where something seems to lie beyond them."""
Span = tuple[int, int]
"""First and last place."""


class NoisyTotal(NamedTuple):
    """What is known of all that is counted, from another noisy count of the same deviation."""

    sum: float
    terms: int
    """Counts that were added up for it."""


def find_intervals(counts: Sequence[float], sigma: float, edge_deviations: float, total: NoisyTotal) -> list[Span]:
    """Return the first and the last place of each island, ascending and apart.

    Args:
        counts: Along a line, each with noise of deviation sigma.
        sigma: Of the noise.
        edge_deviations: Deviations of the noise that each further count must hold, on average, for an island to reach
            so far: the fewer, the less lies beyond, and the further it reaches in vain.
        total: What all counts together should be about; where much is missing, weaker sums are believed.
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
        weaker = _weaker(values, seeds, sigma)
        if weaker is None:
            break
        seeds = _joined([*seeds, weaker])
    found = _widen(values, seeds, edge_deviations * sigma)
    for lower in LOWER_THRESHOLDS:
        if _is_mass_missing(values, found, sigma, total, 1.0):
            found = _widen(values, seeds, lower * edge_deviations * sigma)
    if sigma <= TAIL_NOISE_FRACTION * total.sum:
        return found
    more = [(last - first + 1) // TAILS for first, last in found]
    wide = zip(found, more, strict=True)
    return _joined([(max(first - by, 0), min(last + by, len(values) - 1)) for (first, last), by in wide])


def _weaker(values: Float64[np.ndarray, " n"], seeds: Sequence[Span], sigma: float) -> Span | None:
    """Return the places apart from some whose sum stands out most, if noise alone would not often reach it."""
    threshold = float(scipy.stats.norm.isf(WEAK_FALSE_POSITIVE_PROB / (len(WIDTHS) * len(values))))
    free = [
        (float(score), (i, i + width - 1))
        for width in WIDTHS
        for i, score in enumerate(_scores(values, width, sigma))
        if score > threshold and _apart([(i, i + width - 1)], seeds)
    ]
    return max(free)[1] if free else None


def _scores(values: Float64[np.ndarray, " n"], width: int, sigma: float) -> Float64[np.ndarray, " m"]:
    """Return the sums of so many neighbours, in deviations of their noise; none of more than there are."""
    sums = np.concatenate([[0.0], values.cumsum()])
    return (sums[width:] - sums[:-width]) / (sigma * math.sqrt(width))


def _apart(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Return the spans that share no place with others."""
    return [(a, b) for a, b in spans if not any(a <= last and first <= b for first, last in others)]


def _is_mass_missing(
    values: Float64[np.ndarray, " n"], intervals: Sequence[Span], sigma: float, total: NoisyTotal, deviations: float
) -> bool:
    """Tell whether the islands hold less than all, by so many deviations of the noise."""
    inside = sum(values[first : last + 1].sum() for first, last in intervals)
    terms = total.terms + sum(last - first + 1 for first, last in intervals)
    return bool(total.sum - inside > deviations * sigma * math.sqrt(terms))


def _widen(values: Float64[np.ndarray, " n"], seeds: Sequence[Span], noise_level: float) -> list[Span]:
    """Return each island as far as its counts hold more than noise is worth, from its middle, up to the next one."""
    left = values - noise_level
    found: list[Span] = []
    for i, (first, last) in enumerate(seeds):
        sums = values[first : last + 1].cumsum()
        middle = first + min(int(np.searchsorted(sums, sums[-1] / 2)), last - first)
        most = max(NARROW, last - first + 1)
        lowest = max(first - most, seeds[i - 1][1] + 1 if i else 0)
        highest = min(last + most, seeds[i + 1][0] - 1 if i + 1 < len(seeds) else len(values) - 1)
        found.append(
            (middle - _best_extent(left[lowest : middle + 1][::-1]), middle + _best_extent(left[middle : highest + 1]))
        )
    return _joined(found)


def _best_extent(excess: Float64[np.ndarray, " n"]) -> int:
    """Return how far beyond the first of some counts, less what noise is worth, their sum is largest."""
    return int(np.concatenate([[0.0], excess[1:].cumsum()]).argmax())


def _joined(parts: Sequence[Span]) -> list[Span]:
    """Return parts in order, those that touch or overlap as one."""
    whole: list[Span] = []
    for first, last in sorted(parts):
        if whole and first <= whole[-1][1] + 1:
            whole[-1] = (whole[-1][0], max(whole[-1][1], last))
        else:
            whole.append((first, last))
    return whole


def project_to_simplex(counts: Sequence[float], total: float) -> list[float]:
    """Return the counts of 0 or more with a total that are nearest to noisy ones, by their squares."""
    if total <= 0:
        return [0.0] * len(counts)
    ordered = sorted(counts, reverse=True)
    levels = [(upto - total) / k for k, upto in enumerate(itertools.accumulate(ordered), 1)]
    level = next(at for at, count in reversed([*zip(levels, ordered, strict=True)]) if count > at)
    return [max(count - level, 0.0) for count in counts]
