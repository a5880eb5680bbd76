"""The only one who sees the rows: answers with noise, and keeps account."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import InputError, UsageError, check_number
from feller.privacy.marginals.elimination import Clique
from feller.privacy.marginals.estimate import MarginalMeasurement, merge
from feller.privacy.marginals.marginal_model import MarginalModel, check_codes
from feller.privacy.noise.grid_noise import Noise

EXACT_COUNT_SIGMA = 1.0
"""Noise, in rows, that exact counts are taken to have, so that what was not seen is not held for impossible."""


class MarginalRelease(NamedTuple):
    """What a mechanism gives away, and what that cost."""

    model: MarginalModel
    charges: tuple[tuple[str, float], ...]
    """What for, and its rho (zero-concentrated differential privacy)."""
    one_way: tuple[Tensor, ...]
    """Noisy counts of each column, as they were measured first."""
    measurements: tuple[MarginalMeasurement, ...] = ()
    """Noisy counts of each table, all that was measured of it put together."""


class Curator:
    """Holds the rows and a budget, and answers mechanisms, which see nothing else.

    The unit is one row, added or removed; the number of rows is public, a constant that neighbouring tables share, so
    that expected counts do not move with the row. A table with Gaussian noise of sigma costs
    1 / (2 sigma^2), since a row counts in one cell; a choice by the exponential mechanism with parameter epsilon costs
    epsilon^2 / 8. Source: Bun and Steinke 2016, "Concentrated differential privacy", arXiv 1605.02065; Canonne, Kamath
    and Steinke 2020, "The discrete Gaussian for differential privacy", arXiv 2004.00010; for the choice, Cesar and
    Rogers 2021, "Bounding, concentrating, and truncating", arXiv 2004.07223.
    """

    def __init__(self, codes: Int[Tensor, "n k"], counts: Sequence[int], rho: float, noise: Noise) -> None:
        check_codes(codes, counts)
        if not len(codes):
            raise InputError("a table of at least one row", "none")
        check_number("rho", rho, gt=0)
        self._codes, self._noise, self._exact_counts = codes, noise, dict[Clique, Tensor]()
        self.counts = tuple(counts)
        self.total = float(len(codes))
        self.rho = rho
        self._spent: dict[str, float] = {}
        self._measured: list[MarginalMeasurement] = []

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns of more than one level; the others say nothing."""
        return tuple(j for j, count in enumerate(self.counts) if count > 1)

    @property
    def rho_spent(self) -> float:
        """Rho, until now."""
        return math.fsum(self._spent.values())

    @property
    def charges(self) -> tuple[tuple[str, float], ...]:
        """What was spent for what, in rho."""
        return tuple(self._spent.items())

    def measure(self, columns: Clique, sigma: float, label: str) -> MarginalMeasurement:
        """Count rows in each cell, with noise of standard deviation sigma; 0 is for an infinite budget alone."""
        self._charge(label, 0.5 / sigma**2 if sigma else math.inf)
        exact = self._count(columns)
        noise = self._noise.discrete_gaussian(sigma, exact.shape) if sigma else 0
        found = MarginalMeasurement(columns, (exact + noise).double(), sigma or EXACT_COUNT_SIGMA)
        self._measured.append(found)
        return found

    def select_worst(
        self,
        expected: Mapping[Clique, Float[Tensor, "..."]],
        weights: Mapping[Clique, float],
        allowance: Mapping[Clique, float],
        epsilon: float,
        label: str,
    ) -> Clique:
        """Choose the table that is expected worst: largest weight * (sum |count - expected| - allowance), privately.

        The exponential mechanism, as the largest of the scores with Gumbel noise. One row moves a score by its weight.
        """
        self._charge(label, epsilon**2 / 8)
        scores = [
            weights[columns] * (float((self._count(columns) - table).abs().sum()) - allowance[columns])
            for columns, table in expected.items()
        ]
        if math.isinf(epsilon):
            return list(expected)[scores.index(max(scores))]
        gumbel = -(-self._noise.uniform((len(scores),)).log()).log()
        sensitivity = max(weights[columns] for columns in expected)
        noisy = epsilon / (2 * sensitivity) * torch.tensor(scores, dtype=torch.float64) + gumbel
        return list(expected)[int(noisy.argmax())]

    def release(self, model: MarginalModel, one_way: Mapping[int, MarginalMeasurement]) -> MarginalRelease:
        """Hand over what was learned; the count of a column of one level is the number of rows."""
        alone = torch.full((1,), self.total, dtype=torch.float64)
        columns = (one_way[j].values if j in one_way else alone for j in range(len(self.counts)))
        return MarginalRelease(model, self.charges, tuple(columns), merge(self._measured))

    def _charge(self, label: str, rho: float) -> None:
        if self.rho_spent + rho > self.rho:
            raise UsageError(f"to spend at most rho {self.rho:g}", f"{self.rho_spent + rho:g}", "Ask for less")
        self._spent[label] = self._spent.get(label, 0.0) + rho

    def _count(self, columns: Clique) -> Tensor:
        """Count rows exactly, [*levels]; not for the outside."""
        if columns not in self._exact_counts:
            shape, at = [self.counts[j] for j in columns], torch.zeros(len(self._codes), dtype=torch.long)
            for j in columns:
                at = at * self.counts[j] + self._codes[:, j]
            self._exact_counts[columns] = torch.bincount(at, minlength=math.prod(shape)).view(shape)
        return self._exact_counts[columns]


def sigma_for(rho: float, times: int = 1) -> float:
    """Return the noise with which so many tables cost rho together, at most."""
    return math.sqrt(times / (2 * rho)) * (1 + 1e-12)


def epsilon_for(rho: float, times: int = 1) -> float:
    """Return the parameter with which so many choices cost rho together, at most."""
    return math.sqrt(8 * rho / times) * (1 - 1e-12)
