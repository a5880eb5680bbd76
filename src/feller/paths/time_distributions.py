"""Laws of the training time, which also make time grids."""

import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, leaves, length
from feller.core.rng import Draw, Draws

TIMES = 1024
"""Examples that share a generator for their times: one number each, so that seeding would take longer than drawing."""


class TimeLaw(abc.ABC):
    """A law on [0, 1], given by its quantile function."""

    @abc.abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Return the time below which the share u of the law lies."""

    def __call__(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> Tensor:
        """Draw n independent times, [n]."""
        return self.quantile(draw.uniform((n,), device=device, block=TIMES))

    def grid(self, steps: int) -> list[float]:
        """Return steps + 1 increasing times from 0 to 1, dense where the law is; the ends are exact.

        Raises:
            ValueError: If there is no step.
        """
        _check_steps(steps)
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


@dataclass(frozen=True)
class LeafTimes:
    """How the leaves of a product share the time in training: one for all, but in some examples.

    A leaf that is given stands at its data, t = 1, all along: a model that has seen such examples draws the others
    from their law given that leaf. Times of their own let leaves be sampled under schedules of their own.
    """

    given: float = 0.0
    """Chance that some leaves of an example are given: a random choice of them, never none and never all."""
    apart: float = 0.0
    """Chance that each leaf of an example has a time of its own."""
    which: tuple[str, ...] = ()
    """Leaves that may be given; empty for any."""

    def __post_init__(self) -> None:
        if min(self.given, self.apart) < 0 or self.given + self.apart > 1:
            raise UsageError(
                "given and apart are chances that add to 1 at most", found=f"{self.given:g}, {self.apart:g}"
            )

    def __call__(self, t: State, law: TimeLaw, draws: Draws) -> State:
        """Return the times of the leaves from one time for all, both trees of [b]."""
        if not isinstance(t, dict) or not (self.given or self.apart):
            return t
        may = self.which or tuple(t)
        most = min(len(may), len(t) - 1)
        for name in may:
            if name not in t:
                raise UsageError.unknown("given", name, t)
        if most < 1:
            raise UsageError(f"a leaf is given beside others, and there is only {', '.join(t)}")
        n, device, draw = length(t), next(leaves(t)).device, draws.at("leaf times")
        u = draw.uniform((n, 1), device=device)[:, 0]
        picked = dict(zip(may, _some(draw.uniform((n, 1 + len(may)), device=device), most).unbind(1), strict=True))
        given, apart = u < self.given, (u >= self.given) & (u < self.given + self.apart)

        def own(name: str, time: Tensor) -> Tensor:
            time = torch.where(apart, law(n, draws.at(f"time of {name}"), device), time) if self.apart else time
            return torch.where(given & picked[name], 1.0, time) if name in picked else time

        return {name: own(name, time) for name, time in t.items()}


def _some(u: Tensor, most: int) -> Tensor:
    """Choose of the entries of each row one to `most`, each number as likely; the first column is chance alone."""
    size = 1 + (u[:, :1] * most).floor()
    return u[:, 1:].argsort(1).argsort(1) < size


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"a grid needs at least one step, got {steps}")


def edm_grid(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> list[float]:
    """Return the times of Karras et al. 2022 for the linear schedule: t = 1 / (1 + sigma).

    The first of the steps + 1 times is 1 / (1 + sigma_max), 1/81 by default, not 0.

    Raises:
        ValueError: If there is no step.
    """
    _check_steps(steps)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)]
    return [1 / (1 + sigma) for sigma in sigmas] + [1.0]


def linear_grid(steps: int, start: float = 0.0, stop: float = 1.0) -> list[float]:
    """Return steps + 1 equally spaced times; decreasing if stop lies before start.

    Raises:
        ValueError: If there is no step.
    """
    _check_steps(steps)
    return [start + (stop - start) * i / steps for i in range(steps)] + [float(stop)]
