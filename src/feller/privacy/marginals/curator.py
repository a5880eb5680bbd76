"""Curator of private rows: answers queries with noise and charges the privacy budget."""

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
"""Standard deviation of the noise, in rows, that is assumed for exact counts, so that a count of 0 stays possible."""


class MarginalRelease(NamedTuple):
    """Private release of a marginal mechanism (AIM, MST or independent columns), with its cost."""

    model: MarginalModel
    charges: tuple[tuple[str, float], ...]
    """(label, zCDP cost rho) of each query."""
    one_way: tuple[Tensor, ...]
    """Noisy counts of each column, from its first measurement."""
    measurements: tuple[MarginalMeasurement, ...] = ()
    """Noisy marginals; repeated measurements of the same columns are merged."""


class Curator:
    """Holder of the rows and the budget; mechanisms access the rows only through its noisy queries.

    The unit of privacy is one row, added or removed. The stated number of rows is a public constant, which stays the
    same if a row is added or removed, so counts that a model predicts from it do not depend on the rows. Costs are in
    rho of zero-concentrated differential privacy: a marginal with Gaussian noise sigma costs 1 / (2 sigma^2), because a
    row is in one cell, and a selection by the exponential mechanism costs epsilon^2 / 8. Source: Bun
    and Steinke 2016, "Concentrated differential privacy", arXiv 1605.02065; Canonne, Kamath and Steinke 2020, "The
    discrete Gaussian for differential privacy", arXiv 2004.00010; Cesar and Rogers 2021, "Bounding, concentrating, and
    truncating", arXiv 2004.07223 (exponential mechanism).
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
        """Columns with more than one possible code."""
        return tuple(j for j, count in enumerate(self.counts) if count > 1)

    @property
    def rho_spent(self) -> float:
        """Budget rho spent so far, in zCDP."""
        return math.fsum(self._spent.values())

    @property
    def charges(self) -> tuple[tuple[str, float], ...]:
        """(label, zCDP cost rho) of each query."""
        return tuple(self._spent.items())

    def measure(self, columns: Clique, sigma: float, label: str) -> MarginalMeasurement:
        """Return the number of rows with each combination of codes of `columns`, with discrete Gaussian noise.

        `sigma` is the standard deviation of the noise, in rows; 0 needs an infinite budget. `label` names the query in
        `charges`.
        """
        self._charge(label, 0.5 / sigma**2 if sigma else math.inf)
        exact_counts = self._count(columns)
        noise = self._noise.discrete_gaussian(sigma, exact_counts.shape) if sigma else 0
        measurement = MarginalMeasurement(columns, (exact_counts + noise).double(), sigma or EXACT_COUNT_SIGMA)
        self._measured.append(measurement)
        return measurement

    def select_worst(
        self,
        expected: Mapping[Clique, Float[Tensor, "..."]],
        weights: Mapping[Clique, float],
        allowance: Mapping[Clique, float],
        epsilon: float,
        label: str,
    ) -> Clique:
        """Select the worst-fitting marginal privately: largest weight * (sum |count - expected| - allowance).

        This is the exponential mechanism, implemented by adding Gumbel noise to the scores. One row changes a score by
        at most its weight.

        Args:
            expected: Marginal -> expected count of each cell under the current model.
            weights: Marginal -> its weight.
            allowance: Marginal -> expected sum of the absolute noise, if the marginal is measured next.
            epsilon: Privacy parameter of the selection; infinite for an exact maximum.
            label: Label of the charged query.
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
        noisy_scores = epsilon / (2 * sensitivity) * torch.tensor(scores, dtype=torch.float64) + gumbel
        return list(expected)[int(noisy_scores.argmax())]

    def release(self, model: MarginalModel, one_way: Mapping[int, MarginalMeasurement]) -> MarginalRelease:
        """Return a fitted model together with the charges and noisy counts of all queries so far.

        `one_way` maps each column to its first measurement; a column with one possible code may be absent, because its
        count is the number of rows.
        """
        constant = torch.full((1,), self.total, dtype=torch.float64)
        columns = (one_way[j].values if j in one_way else constant for j in range(len(self.counts)))
        return MarginalRelease(model, self.charges, tuple(columns), merge(self._measured))

    def _charge(self, label: str, rho: float) -> None:
        if self.rho_spent + rho > self.rho:
            raise UsageError(f"a total cost of at most rho {self.rho:g}", f"{self.rho_spent + rho:g}", "Use more noise")
        self._spent[label] = self._spent.get(label, 0.0) + rho

    def _count(self, columns: Clique) -> Tensor:
        """Return the exact counts of a marginal, [*levels]; noise must be added before release."""
        if columns not in self._exact_counts:
            shape, cell_index = [self.counts[j] for j in columns], torch.zeros(len(self._codes), dtype=torch.long)
            for j in columns:
                cell_index = cell_index * self.counts[j] + self._codes[:, j]
            self._exact_counts[columns] = torch.bincount(cell_index, minlength=math.prod(shape)).view(shape)
        return self._exact_counts[columns]


def sigma_for(rho: float, times: int = 1) -> float:
    """Return the standard deviation of the noise at which `times` measurements cost rho in total."""
    return math.sqrt(times / (2 * rho)) * (1 + 1e-12)


def epsilon_for(rho: float, times: int = 1) -> float:
    """Return the epsilon at which `times` selections by the exponential mechanism cost rho in total."""
    return math.sqrt(8 * rho / times) * (1 - 1e-12)
