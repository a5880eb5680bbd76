"""What a private run pays for: kinds of expenses, of which ledgers are made."""

import abc
import math
from dataclasses import dataclass

from feller.core.errors import UsageError


@dataclass(frozen=True)
class Expense(abc.ABC):
    """One look at the rows, or many of a kind, whose unit is one row, added or removed; says what it costs."""

    what: str
    """What was paid for, for people."""

    @abc.abstractmethod
    def words(self) -> str:
        """Say how it was done."""


@dataclass(frozen=True)
class Gaussian(Expense):
    """Numbers told with normal noise."""

    sigma: float
    """Standard deviation of the noise, in units of the L2 sensitivity of all the numbers together."""
    times: int = 1
    """How often."""
    whole: int = 0
    """Of counts with whole-numbered noise, how many a row moves, each by one; 0 where the noise is continuous."""

    def __post_init__(self) -> None:
        _positive(self.what, "sigma", self.sigma)
        _counted(self.what, "times", self.times)
        if self.whole < 0:
            raise UsageError(f"counts of {self.what} that a row moves must be 0 or more", found=self.whole)

    def words(self) -> str:
        """Say how it was done."""
        return f"normal noise of {self.sigma:.5g} sensitivities" + (f", {self.times:,} times" * (self.times > 1))

    @property
    def rho(self) -> float:
        """Cost in zero-concentrated privacy."""
        return self.times / (2 * self.sigma**2)


@dataclass(frozen=True)
class Subsampled(Expense):
    """Steps that each look at a Poisson sample of the rows, and tell a sum with normal noise."""

    sigma: float
    """Standard deviation of the noise, in units of the longest contribution of a row."""
    rate: float
    """Chance of a row to be in a step's sample."""
    steps: int
    """How many."""

    def __post_init__(self) -> None:
        _positive(self.what, "sigma", self.sigma)
        _counted(self.what, "steps", self.steps)
        if not 0 < self.rate <= 1:
            raise UsageError(
                f"the sampling rate of {self.what} to be above 0 and at most 1",
                f"{self.rate:g}",
                "Take batches of at most as many rows as there are",
            )

    def words(self) -> str:
        """Say how it was done."""
        sample = f"a Poisson sample of {self.rate:.4g} of the rows each"
        return f"normal noise of {self.sigma:.5g} clip norms, {self.steps:,} steps, {sample}"


@dataclass(frozen=True)
class Pure(Expense):
    """A mechanism that is (epsilon, 0)-private, such as a count with Laplace noise."""

    epsilon: float

    def __post_init__(self) -> None:
        _positive(self.what, "epsilon", self.epsilon)

    def words(self) -> str:
        """Say how it was done."""
        return f"epsilon {self.epsilon:.5g}"


@dataclass(frozen=True)
class Concentrated(Expense):
    """A mechanism that is rho-zCDP, such as a choice by the exponential mechanism, rho = epsilon^2 / 8.

    Source: Bun and Steinke 2016, arXiv 1605.02065; Cesar and Rogers 2021, arXiv 2004.07223, for the choice.
    """

    rho: float

    def __post_init__(self) -> None:
        _positive(self.what, "rho", self.rho)

    def words(self) -> str:
        """Say how it was done."""
        return f"rho {self.rho:.5g}"


def _positive(what: str, name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(f"the {name} of {what} to be finite and above 0", f"{value:g}")


def _counted(what: str, name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} of {what} to be 1 or more", value)
