"""Distributions of the steps from t to s on which flow maps are trained."""

import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind
from feller.core.rng import Rng
from feller.paths.time_distributions import TIMES, Stratified, TimeDistribution, Uniform


class StepDistribution(abc.ABC):
    """Distribution of steps (t, s) with 0 <= t <= s <= 1."""

    last_only: bool = False
    """True if all steps end at s = 1."""

    @abc.abstractmethod
    def sample(self, n: int, rng: Rng, device: torch.device) -> tuple[Tensor, Tensor]:
        """Sample the starts t and ends s of n independent steps, [n] each."""


def check_independent(times: TimeDistribution) -> None:
    """Raise a UsageError unless times are a distribution from which each example draws on its own."""
    check_kind("times", times, TimeDistribution, "feller.LogitNormal()")
    if isinstance(times, Stratified):
        remedy = f"Use its base, {times.base}"
        raise UsageError("independent times", type(times).__name__, remedy, argument="times")


@dataclass(frozen=True)
class AnySteps(StepDistribution):
    """Steps between two independent times, the earlier of which is t."""

    times: TimeDistribution = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_independent(self.times)

    def sample(self, n: int, rng: Rng, device: torch.device) -> tuple[Tensor, Tensor]:
        one, other = (self.times(n, rng.stream(name), device) for name in ("time", "end"))
        return torch.minimum(one, other), torch.maximum(one, other)


@dataclass(frozen=True)
class StepsToLast(StepDistribution):
    """Steps that end at s = 1, for consistency models."""

    times: TimeDistribution = field(default_factory=Uniform)
    last_only = True

    def __post_init__(self) -> None:
        check_independent(self.times)

    def sample(self, n: int, rng: Rng, device: torch.device) -> tuple[Tensor, Tensor]:
        t = self.times(n, rng.stream("time"), device)
        return t, torch.ones_like(t)


@dataclass(frozen=True)
class GridSteps(StepDistribution):
    """Steps of samplers with fixed numbers of steps of equal length."""

    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Numbers of steps, which are equally frequent. For `Shortcut`, whose halves of steps must be trained too, each
    number is twice the one before, up to steps that are as good as the velocity."""

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1:
            raise UsageError("numbers of steps of at least 1", str(self.counts), argument="counts")

    def sample(self, n: int, rng: Rng, device: torch.device) -> tuple[Tensor, Tensor]:
        counts = torch.tensor(self.counts, device=device, dtype=torch.get_default_dtype())
        which, where = (rng.stream(name).uniform((n,), device=device, block=TIMES) for name in ("count", "time"))
        count = counts[(which * len(counts)).long().clamp(max=len(counts) - 1)]
        index = torch.minimum((where * count).floor(), count - 1)
        return index / count, (index + 1) / count
