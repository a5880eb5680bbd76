"""Distributions of the training time t in [0, 1], also used for the time grids of solvers."""

import abc
import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_finite_number, check_integer, check_kind, check_number
from feller.core.pytree import State, leaves, num_examples
from feller.core.rng import RandomStream, Rng

TIMES = 1024
"""Number of consecutive examples whose times come from one random generator; large, since seeding is expensive."""


class TimeDistribution(abc.ABC):
    """Distribution on [0, 1], given by its quantile function."""

    @abc.abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Return the quantiles (inverse CDF) at probabilities u."""

    def __call__(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        """Sample n independent times, [n]."""
        return self.quantile(rng.uniform((n,), device=device, block=TIMES))

    def grid(self, steps: int) -> list[float]:
        """Return steps + 1 increasing times at equally spaced quantiles, with exact ends 0 and 1.

        Raises:
            UsageError: If `steps` is less than 1.
        """
        check_integer("steps", steps, ge=1)
        interior = self.quantile(torch.linspace(0, 1, steps + 1, dtype=torch.float64)[1:-1])
        return [0.0, *interior.tolist(), 1.0]


@dataclass(frozen=True)
class Uniform(TimeDistribution):
    """Uniform distribution on [0, 1]."""

    def quantile(self, u: Tensor) -> Tensor:
        return u

    def grid(self, steps: int) -> list[float]:
        return linear_grid(steps)


@dataclass(frozen=True)
class Tabulated(TimeDistribution):
    """Distribution with a piecewise linear quantile function, such as the times of a grid fitted to a model."""

    times: tuple[float, ...]
    """Quantiles at equally spaced probabilities from 0 to 1: increasing times from 0 to 1."""

    def __post_init__(self) -> None:
        times = self.times
        if len(times) < 2 or times[0] != 0 or times[-1] != 1 or any(a >= b for a, b in itertools.pairwise(times)):
            raise UsageError("increasing times from 0 to 1", ", ".join(map(str, times)), argument="times")

    def quantile(self, u: Tensor) -> Tensor:
        ends = torch.tensor(self.times, dtype=torch.float64, device=u.device)
        position = u.double() * (len(ends) - 1)
        index = position.long().clamp(0, len(ends) - 2)
        return torch.lerp(ends[index], ends[index + 1], position - index).to(u.dtype)


@dataclass(frozen=True)
class LogitNormal(TimeDistribution):
    """Logit-normal distribution sigmoid(mean + std z), z ~ N(0, 1); EDM uses mean = std = 1.2."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_finite_number("mean", self.mean)
        check_number("std", self.std, gt=0, lt=math.inf)

    def quantile(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


@dataclass(frozen=True)
class Shifted(TimeDistribution):
    """Distribution of shifted times t / (s - (s - 1) t), where s is `shift` and t has the distribution `base`.

    s > 1 favours times near the source, as for large images.
    """

    shift: float = 3.0
    base: TimeDistribution = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_number("shift", self.shift, gt=0, lt=math.inf)
        _check_base(self)

    def quantile(self, u: Tensor) -> Tensor:
        t = self.base.quantile(u)
        return t / (self.shift - (self.shift - 1) * t)


@dataclass(frozen=True)
class Rescaled(TimeDistribution):
    """Distribution `base` with its times multiplied by `stop`, for losses whose weight is infinite at t = 1."""

    stop: float = 1 - 1e-3
    base: TimeDistribution = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_number("stop", self.stop, gt=0, le=1)
        _check_base(self)

    def quantile(self, u: Tensor) -> Tensor:
        return self.stop * self.base.quantile(u)


def _check_base(distribution: "Shifted | Rescaled | Stratified") -> None:
    """Refuse a stratified base distribution: only its quantiles are used, so the stratification would be lost."""
    check_kind("base", distribution.base, TimeDistribution, "feller.LogitNormal()")
    if isinstance(distribution.base, Stratified):
        name = type(distribution).__name__
        remedy = "Leave out one" if name == "Stratified" else f"Write Stratified({name}(...))"
        expected = "a distribution without stratification"
        raise UsageError(argument="base", expected=expected, found="Stratified", remedy=remedy)


@dataclass(frozen=True)
class Stratified(TimeDistribution):
    """Stratified sampling of a base distribution: equally spaced quantiles with a common random offset."""

    base: TimeDistribution = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        _check_base(self)

    def quantile(self, u: Tensor) -> Tensor:
        return self.base.quantile(u)

    def __call__(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        """Sample the quantiles ((i + U) / total) mod 1, for example i of the batch over all processes."""
        total = rng.global_batch_size or n
        offset = torch.rand((), generator=rng.shared_generator(), dtype=torch.float64).item()
        i = torch.arange(rng.first_example, rng.first_example + n, dtype=torch.float64, device=device)
        max_quantile = 1 - 2**-24  # rounding to float32 must not reach 1, where loss weights may be infinite
        return self.base.quantile(((i + offset) / total % 1).float().clamp(max=max_quantile))


@dataclass(frozen=True)
class LeafTimes:
    """Distribution of training times for the leaves (components) of a product path.

    By default, all leaves of an example have the same time. With given probabilities, some leaves of an example are
    observed, or all have independent times. An observed leaf has its data value at t = 1, which trains the model to
    sample the other leaves given that leaf. Independent times allow a separate schedule per leaf when sampling.
    """

    observed_prob: float = 0.0
    """Probability that some leaves of an example are observed: a random subset, neither empty nor all."""
    independent_prob: float = 0.0
    """Probability that the leaves of an example have independent times."""
    conditionable: tuple[str, ...] = ()
    """Leaves that may be observed; empty for all leaves."""

    def __post_init__(self) -> None:
        check_number("observed_prob", self.observed_prob, ge=0, le=1)
        check_number("independent_prob", self.independent_prob, ge=0, le=1)
        if self.observed_prob + self.independent_prob > 1:
            raise UsageError(
                "probabilities observed_prob and independent_prob whose sum is at most 1",
                f"{self.observed_prob:g} and {self.independent_prob:g}",
            )

    def __call__(self, t: State, distribution: TimeDistribution, rng: Rng) -> State:
        """Convert shared times to times per leaf; both are trees with the leaves of the state, [b] each."""
        if not isinstance(t, dict) or not (self.observed_prob or self.independent_prob):
            return t
        names = self.conditionable or tuple(t)
        max_observed = min(len(names), len(t) - 1)
        for name in names:
            if name not in t:
                raise UsageError.unknown_name("given", name, t)
        if max_observed < 1:
            raise UsageError(
                "at least two leaves, because at least one is observed and one is not", f"only {', '.join(t)}"
            )
        n, device, stream = num_examples(t), next(leaves(t)).device, rng.stream("leaf times")
        u = stream.uniform((n, 1), device=device)[:, 0]
        is_picked = dict(
            zip(
                names,
                _random_subset_mask(stream.uniform((n, 1 + len(names)), device=device), max_observed).unbind(1),
                strict=True,
            )
        )
        is_observed, is_independent = (
            u < self.observed_prob,
            (u >= self.observed_prob) & (u < self.observed_prob + self.independent_prob),
        )

        def leaf_time(name: str, time: Tensor) -> Tensor:
            time = (
                torch.where(is_independent, distribution(n, rng.stream(f"time of {name}"), device), time)
                if self.independent_prob
                else time
            )
            return torch.where(is_observed & is_picked[name], 1.0, time) if name in is_picked else time

        return {name: leaf_time(name, time) for name, time in t.items()}


def _random_subset_mask(u: Tensor, max_size: int) -> Tensor:
    """Return, for each row of uniform numbers u [b, 1 + n], a mask of a random subset of n elements.

    The size is uniform from 1 to `max_size`.
    """
    size = 1 + (u[:, :1] * max_size).floor()
    return u[:, 1:].argsort(1).argsort(1) < size


def edm_grid(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> list[float]:
    """Return the time grid of Karras et al. 2022 for the linear schedule: t = 1 / (1 + sigma).

    The first of the steps + 1 times is 1 / (1 + sigma_max), 1/81 by default, not 0; the last time is 1.

    Args:
        steps: Number of steps.
        sigma_min: Noise level at the start of the last step, in units of the data.
        sigma_max: Noise level at the first time.
        rho: Exponent of the spacing: sigma^(1 / rho) decreases linearly. Larger values put more times near the data.

    Raises:
        UsageError: If `steps` is less than 1, or sigma_min, sigma_max and rho are not positive and in order.
    """
    check_integer("steps", steps, ge=1)
    check_number("sigma_min", sigma_min, gt=0, lt=math.inf)
    check_number("sigma_max", sigma_max, gt=sigma_min, lt=math.inf)
    check_number("rho", rho, gt=0, lt=math.inf)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)]
    return [1 / (1 + sigma) for sigma in sigmas] + [1.0]


def linear_grid(steps: int, start: float = 0.0, stop: float = 1.0) -> list[float]:
    """Return steps + 1 equally spaced times, decreasing if stop < start.

    Raises:
        UsageError: If `steps` is less than 1, or a time is not finite.
    """
    check_integer("steps", steps, ge=1)
    check_finite_number("start", start)
    check_finite_number("stop", stop)
    return [start + (stop - start) * i / steps for i in range(steps)] + [float(stop)]
