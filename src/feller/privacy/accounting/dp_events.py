"""What a private run pays for: kinds of expenses, of which ledgers are made."""

import abc
import math
from dataclasses import dataclass

from feller.core.errors import UsageError


@dataclass(frozen=True)
class DpEvent(abc.ABC):
    """One look at the rows, or many of a kind, whose unit is one row, added or removed; says what it costs."""

    label: str
    """What was paid for, for people."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Say how it was done."""


@dataclass(frozen=True)
class GaussianMechanism(DpEvent):
    """Numbers told with normal noise."""

    sigma: float
    """Standard deviation of the noise, in units of the L2 sensitivity of all the numbers together."""
    times: int = 1
    """How often."""
    integer_moves: int = 0
    """Of counts with whole-numbered noise, how many a row moves, each by one; 0 where the noise is continuous."""

    def __post_init__(self) -> None:
        _check_positive(self.label, "sigma", self.sigma)
        _check_count(self.label, "times", self.times)
        if self.integer_moves < 0:
            raise UsageError(f"counts of {self.label} that a row moves must be 0 or more", found=self.integer_moves)

    def describe(self) -> str:
        return f"normal noise of {self.sigma:.5g} sensitivities" + (f", {self.times:,} times" * (self.times > 1))

    @property
    def rho(self) -> float:
        """Cost in zero-concentrated privacy."""
        return self.times / (2 * self.sigma**2)


@dataclass(frozen=True)
class PoissonSubsampledGaussian(DpEvent):
    """Steps that each look at a Poisson sample of the rows, and tell a sum with normal noise."""

    sigma: float
    """Standard deviation of the noise, in units of the longest contribution of a row."""
    rate: float
    """Chance of a row to be in a step's sample."""
    steps: int
    """How many."""

    def __post_init__(self) -> None:
        _check_positive(self.label, "sigma", self.sigma)
        _check_count(self.label, "steps", self.steps)
        if not 0 < self.rate <= 1:
            raise UsageError(
                f"the sampling rate of {self.label} to be above 0 and at most 1",
                f"{self.rate:g}",
                "Take batches of at most as many rows as there are",
            )

    def describe(self) -> str:
        sample = f"a Poisson sample of {self.rate:.4g} of the rows each"
        return f"normal noise of {self.sigma:.5g} clip norms, {self.steps:,} steps, {sample}"


@dataclass(frozen=True)
class PureDp(DpEvent):
    """A mechanism that is (epsilon, 0)-private, such as a count with Laplace noise."""

    epsilon: float

    def __post_init__(self) -> None:
        _check_positive(self.label, "epsilon", self.epsilon)

    def describe(self) -> str:
        return f"epsilon {self.epsilon:.5g}"


@dataclass(frozen=True)
class ZCdp(DpEvent):
    """A mechanism that is rho-zCDP, such as a choice by the exponential mechanism, rho = epsilon^2 / 8.

    Source: Bun and Steinke 2016, arXiv 1605.02065; Cesar and Rogers 2021, arXiv 2004.07223, for the choice.
    """

    rho: float

    def __post_init__(self) -> None:
        _check_positive(self.label, "rho", self.rho)

    def describe(self) -> str:
        return f"rho {self.rho:.5g}"


def _check_positive(label: str, name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(f"the {name} of {label} to be finite and above 0", f"{value:g}")


def _check_count(label: str, name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} of {label} to be 1 or more", value)
