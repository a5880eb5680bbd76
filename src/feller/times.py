"""Laws of the training time, which also make time grids."""

import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.draws import Draw


class TimeLaw(abc.ABC):
    """A law on [0, 1], given by its quantile function."""

    @abc.abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Return the time below which the share u of the law lies."""

    def __call__(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> Tensor:
        """Draw n independent times, [n]."""
        return self.quantile(draw.uniform((n,), device=device))

    def grid(self, steps: int) -> list[float]:
        """Return steps + 1 increasing times from 0 to 1, dense where the law is; the ends are exact."""
        inside = self.quantile(torch.linspace(0, 1, steps + 1, dtype=torch.float64)[1:-1])
        return [0.0, *inside.tolist(), 1.0]


@dataclass(frozen=True)
class Uniform(TimeLaw):
    """Every time is equally likely."""

    def quantile(self, u: Tensor) -> Tensor:
        """Return u."""
        return u


@dataclass(frozen=True)
class LogitNormal(TimeLaw):
    """sigmoid(mean + std z), z ~ N(0, 1): most at middle times. EDM's law is mean = std = 1.2."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, u: Tensor) -> Tensor:
        """Map through the normal quantile, which is infinite at 0 and 1, to [0, 1]."""
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


@dataclass(frozen=True)
class Shifted(TimeLaw):
    """t / (s - (s - 1) t): s > 1 moves times towards the source, as large images want."""

    s: float = 3.0
    law: TimeLaw = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        _refuse_inner_comb(self)

    def quantile(self, u: Tensor) -> Tensor:
        """Shift the quantile of the law."""
        t = self.law.quantile(u)
        return t / (self.s - (self.s - 1) * t)


@dataclass(frozen=True)
class Until(TimeLaw):
    """A law squeezed into [0, stop], for losses whose weight is infinite at t = 1."""

    stop: float = 1 - 1e-3
    law: TimeLaw = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        _refuse_inner_comb(self)

    def quantile(self, u: Tensor) -> Tensor:
        """Scale the quantile of the law."""
        return self.stop * self.law.quantile(u)


def _refuse_inner_comb(law: "Shifted | Until") -> None:
    """Refuse a comb inside another law, which would draw from its quantiles and lose it."""
    if isinstance(law.law, Stratified):
        kind = type(law).__name__
        raise ValueError(f"put Stratified outermost: Stratified({kind}(...)), not {kind}(law=Stratified(...))")


@dataclass(frozen=True)
class Stratified(TimeLaw):
    """A law drawn as one comb of equal steps with one common offset: far less variance than independent draws."""

    law: TimeLaw = field(default_factory=Uniform)

    def quantile(self, u: Tensor) -> Tensor:
        """Return the quantile of the law."""
        return self.law.quantile(u)

    def __call__(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> Tensor:
        """Draw ((i + U) / total) mod 1 for example i of the whole batch, over all processes."""
        total = draw.total or n
        offset = torch.rand((), generator=draw.shared(), dtype=torch.float64).item()
        i = torch.arange(draw.first, draw.first + n, dtype=torch.float64, device=device)
        below_one = 1 - 2**-24  # rounding to float32 must not reach the end, where weights and slopes may be infinite
        return self.law.quantile(((i + offset) / total % 1).float().clamp(max=below_one))


def edm_grid(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> list[float]:
    """Return the times of Karras et al. 2022 for the linear schedule: t = 1 / (1 + sigma).

    The first of the steps + 1 times is 1 / (1 + sigma_max), 1/81 by default, not 0.
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)]
    return [1 / (1 + sigma) for sigma in sigmas] + [1.0]


def linear_grid(steps: int, start: float = 0.0, stop: float = 1.0) -> list[float]:
    """Return steps + 1 equally spaced times; decreasing if stop lies before start."""
    if steps < 1:
        raise ValueError(f"a grid needs at least one step, got {steps}")
    return [start + (stop - start) * i / steps for i in range(steps)] + [stop]
