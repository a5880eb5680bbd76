"""Counts with noise, of which a search for the columns of a table is made."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import scipy
import torch
from torch import Tensor

FALSE_ALARM = 1e-3
"""Chance that noise alone passes for an entry that is not empty, for each column."""


@runtime_checkable
class Coins(Protocol):
    """Where noise comes from: a source of `feller.privacy.noise.grid_noise`."""

    def added(self, values: Tensor, scale: float) -> Tensor:
        """Return values with normal noise of a standard deviation, both rounded to one grid."""
        ...


class Charge(NamedTuple):
    """One Gaussian mechanism."""

    what: str
    sigma: float
    """Deviation of its noise, in units of the L2 sensitivity."""
    delta: float = 0.0
    """Chance that a word of one row alone is released, in addition to what the noise gives."""


@dataclass(frozen=True)
class Noisy:
    """Counts with noise of one deviation."""

    sigma: float
    noise: Coins

    def counts(self, keys: Iterable[str | int], room: Sequence[str | int]) -> dict[str | int, float]:
        """Count keys among a public list, with noise on every entry; others are not counted."""
        exact = Counter(keys)
        return dict(zip(room, self._noisy([exact[key] for key in room]), strict=True))

    def filled(self, counts: dict[str | int, float], terms: int = 1) -> list[str | int]:
        """Return the entries that noise alone would hardly reach, each a sum of so many noisy counts."""
        threshold = self.sigma * math.sqrt(terms) * float(scipy.stats.norm.isf(FALSE_ALARM / len(counts)))
        return [key for key, count in counts.items() if count > threshold]

    def threshold(self, delta: float) -> float:
        """Return the noisy count that a word of one row alone passes with probability delta."""
        return 1 + self.sigma * float(scipy.stats.norm.isf(delta))

    def words(self, words: Sequence[str], delta: float) -> list[tuple[str, float]]:
        """Return the words whose noisy counts pass the threshold that one row alone passes with probability delta."""
        threshold = self.threshold(delta)
        exact = Counter(words)
        names = sorted(exact)
        noisy = zip(names, self._noisy([exact[name] for name in names]), strict=True)
        return [(name, count) for name, count in noisy if count > threshold]

    def _noisy(self, exact: Sequence[int]) -> list[float]:
        """Add noise to counts, which are on its grid: a float normal of its own would betray them in its low digits."""
        return self.noise.added(torch.tensor(exact, dtype=torch.float64), self.sigma).tolist()
