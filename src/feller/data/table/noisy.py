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
    """Where noise comes from."""

    def normal(self, shape: Sequence[int], dtype: torch.dtype = ..., device: torch.device | str = ...) -> Tensor:
        """Draw from N(0, 1)."""
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
        drawn = self.noise.normal((len(room),), torch.float64, "cpu").tolist()
        return {key: exact[key] + self.sigma * z for key, z in zip(room, drawn, strict=True)}

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
        drawn = self.noise.normal((len(names),), torch.float64, "cpu").tolist()
        noisy = ((name, exact[name] + self.sigma * z) for name, z in zip(names, drawn, strict=True))
        return [(name, count) for name, count in noisy if count > threshold]
