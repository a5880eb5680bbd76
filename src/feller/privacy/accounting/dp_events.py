"""DP events: the mechanisms that a privacy ledger lists."""

import abc
import math
from dataclasses import dataclass, replace

from feller.core.errors import check_number

MIN_SIGMA, MAX_SIGMA = 1e-9, 1e12
"""Bounds of noise multipliers, within which squares and sums over uses are finite and accurate."""
MAX_USES = 10**9
"""Maximum number of uses of a mechanism, or steps of a training."""
MAX_INTEGER_MOVES = 10**6
"""Maximum number of counts that one row changes."""
MAX_LOSS = 1e12
"""Maximum epsilon or rho of a mechanism."""


@dataclass(frozen=True)
class DpEvent(abc.ABC):
    """DP mechanism applied to the rows once or several times; the unit of privacy is one row, added or removed."""

    label: str
    """Purpose of the event, shown in reports."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Describe the mechanism and its parameters in one line."""

    @property
    @abc.abstractmethod
    def zcdp_rho(self) -> float:
        """Privacy cost rho of all uses in zCDP, by which every mechanism can be accounted for, if loosely."""


@dataclass(frozen=True)
class GaussianMechanism(DpEvent):
    """Gaussian mechanism: release of values with Gaussian noise."""

    sigma: float
    """Noise multiplier: standard deviation of the noise, in units of the L2 sensitivity of all values together."""
    times: int = 1
    """Number of uses of the mechanism."""
    integer_moves: int = 0
    """For discrete Gaussian noise: number of counts that one row changes, each by one; 0 for continuous noise."""

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, ge=MIN_SIGMA, le=MAX_SIGMA)
        check_number("times", self.times, ge=1, le=MAX_USES)
        check_number("integer_moves", self.integer_moves, ge=0, le=MAX_INTEGER_MOVES)

    def describe(self) -> str:
        return f"Gaussian mechanism, noise multiplier {self.sigma:.5g}" + (f", {self.times:,} times" * (self.times > 1))

    @property
    def zcdp_rho(self) -> float:
        return self.times / (2 * self.sigma**2)


@dataclass(frozen=True)
class PoissonSubsampledGaussian(DpEvent):
    """DP-SGD steps: each releases a sum over a Poisson sample of the rows with Gaussian noise.

    With several bands, the noise is correlated over steps by a banded matrix, and each row belongs to one of as many
    groups, which take turns. A row then takes part in every b-th step at most, with b times the probability.
    """

    sigma: float
    """Noise multiplier: standard deviation of the noise, in units of the clipping norm; with several bands, of the
    noise before it is correlated, in units of the norm of a column of the matrix."""
    rate: float
    """Sampling rate: probability that a row is in the sample of a step, averaged over the groups."""
    steps: int
    """Number of steps."""
    bands: int = 1
    """Number of bands of the matrix, and of groups of rows."""

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, ge=MIN_SIGMA, le=MAX_SIGMA)
        check_number("steps", self.steps, ge=1, le=MAX_USES)
        check_number("rate", self.rate, gt=0, le=1, remedy="Use a batch size of at most the number of rows")
        max_bands = int(1 / self.rate * (1 + 1e-12))
        check_number("bands", self.bands, ge=1, le=max_bands, remedy="Use fewer bands, or a smaller batch size")

    @property
    def per_row(self) -> "PoissonSubsampledGaussian":
        """Steps with independent noise that cost as much: those in which one row can take part.

        Source: Choquette-Choo et al. 2023, arXiv 2306.08153, theorem 1.
        """
        if self.bands == 1:
            return self
        rate, steps = min(1.0, self.bands * self.rate), math.ceil(self.steps / self.bands)
        return replace(self, rate=rate, steps=steps, bands=1)

    def describe(self) -> str:
        bands = f", {self.bands} bands of correlated noise" * (self.bands > 1)
        steps = f"{self.steps:,} steps, Poisson sampling rate {self.rate:.4g}"
        return f"DP-SGD, noise multiplier {self.sigma:.5g}, {steps}{bands}"

    @property
    def zcdp_rho(self) -> float:
        """Privacy cost rho in zCDP, without the reduction by Poisson sampling."""
        return self.per_row.steps / (2 * self.sigma**2)


@dataclass(frozen=True)
class PureDp(DpEvent):
    """An (epsilon, 0)-DP mechanism, for example a count with Laplace noise."""

    epsilon: float

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, gt=0, le=MAX_LOSS)

    def describe(self) -> str:
        return f"epsilon {self.epsilon:.5g}"

    @property
    def zcdp_rho(self) -> float:
        return self.epsilon**2 / 2


@dataclass(frozen=True)
class ZCdp(DpEvent):
    """A rho-zCDP mechanism; for example, the exponential mechanism has rho = epsilon^2 / 8.

    Source: Bun and Steinke 2016, arXiv 1605.02065; exponential mechanism: Cesar and Rogers 2021, arXiv 2004.07223.
    """

    rho: float

    def __post_init__(self) -> None:
        check_number("rho", self.rho, gt=0, le=MAX_LOSS)

    def describe(self) -> str:
        return f"rho {self.rho:.5g}"

    @property
    def zcdp_rho(self) -> float:
        return self.rho
