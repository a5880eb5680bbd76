"""Schedules and steps of diffusion models with discrete steps, as in the schedulers of diffusers."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from feller.core.errors import UsageError, check_integer, check_number
from feller.paths.schedules import AlphaSigma, Schedule
from feller.paths.time_distributions import Shifted, TimeDistribution, Uniform

MAX_BETA = 0.999
"""Largest beta of the cosine schedule."""
MAX_ROUNDING = 1e-3
"""Largest distance of a time from that of a step, in steps, that counts as rounding."""


@dataclass(frozen=True)
class DiffusionBetas(Schedule):
    """Variance-preserving schedule of a diffusion model with steps k = 0, 1, ..., steps - 1, given by its betas.

    Step k has alpha_k^2 = (1 - beta_0) ... (1 - beta_k) and takes place at t = 1 - (k + 1) / steps; t = 1 is free of
    noise. Between the steps, alpha is linear in t. Sources: Ho et al. 2020, arXiv 2006.11239; for zero terminal SNR,
    Lin et al. 2023, arXiv 2305.08891, algorithm 1.
    """

    kind: str = "linear"
    """Sequence of the betas: linear, scaled_linear (linear in the square roots) or squaredcos_cap_v2 (cosine)."""
    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000
    zero_terminal_snr: bool = False
    """True if the schedule is rescaled so that alpha is 0 at t = 0."""
    betas: tuple[float, ...] = ()
    """All betas, which replace those of `kind`."""

    def __post_init__(self) -> None:
        if self.kind not in _SEQUENCES:
            raise UsageError.unknown_name("kind", self.kind, _SEQUENCES)
        check_integer("steps", self.steps, ge=1)
        for name in ("beta_start", "beta_end"):
            check_number(name, getattr(self, name), gt=0, lt=1)
        for beta in self.betas:
            check_number("betas", beta, ge=0, le=1)
        if self.betas and len(self.betas) != self.steps:
            raise UsageError(argument="betas", expected=f"{self.steps} betas", found=len(self.betas))

    @functools.cached_property
    def _alphas(self) -> Tensor:
        """Values of alpha from t = 0 to t = 1, float64 [steps + 1]."""
        betas = torch.tensor(self.betas or _SEQUENCES[self.kind](self), dtype=torch.float64)
        alphas = (1 - betas).cumprod(0).sqrt()
        if self.zero_terminal_snr:
            alphas = (alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))
        return torch.cat([alphas.flip(0), torch.ones(1, dtype=torch.float64)])

    def __call__(self, t: Tensor) -> AlphaSigma:
        alphas = self._alphas.to(t.device)
        position = t.double() * self.steps
        off = (position - position.round()).detach()  # rounding of t must not move a step
        position = position - torch.where(off.abs() < MAX_ROUNDING, off, 0.0)
        index = position.long().clamp(0, self.steps - 1)
        d_alpha = (alphas[index + 1] - alphas[index]) * self.steps
        alpha = torch.lerp(alphas[index], alphas[index + 1], position - index)
        sigma = ((1 - alpha) * (1 + alpha)).sqrt()
        return AlphaSigma(*(value.to(t.dtype) for value in (alpha, sigma, d_alpha, -alpha * d_alpha / sigma)))

    def t_from_snr(self, snr: Tensor) -> Tensor:
        """Return the time at which alpha / sigma equals `snr`, by linear interpolation of alpha between the steps."""
        alphas = self._alphas.to(snr.device)
        alpha = snr.double() / (1 + snr.double() ** 2).sqrt()
        index = (torch.searchsorted(alphas, alpha) - 1).clamp(0, self.steps - 1)
        position = index + (alpha - alphas[index]) / (alphas[index + 1] - alphas[index])
        return (position / self.steps).to(snr.dtype)


def _linear(schedule: DiffusionBetas) -> list[float]:
    return np.linspace(schedule.beta_start, schedule.beta_end, schedule.steps).tolist()


def _scaled_linear(schedule: DiffusionBetas) -> list[float]:
    roots = np.linspace(schedule.beta_start**0.5, schedule.beta_end**0.5, schedule.steps)
    return (roots**2).tolist()


def _cosine(schedule: DiffusionBetas) -> list[float]:
    """Return the betas of Nichol and Dhariwal 2021, arXiv 2102.09672."""
    ends = np.cos((np.linspace(0, 1, schedule.steps + 1) + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - ends[1:] / ends[:-1], MAX_BETA).tolist()


_SEQUENCES = {"linear": _linear, "scaled_linear": _scaled_linear, "squaredcos_cap_v2": _cosine}


@dataclass(frozen=True)
class DiffusionSteps(TimeDistribution):
    """Times of some of the steps of a diffusion model, chosen as in the schedulers of diffusers.

    Training times are uniform. A grid starts at the first chosen step, which may be after t = 0.
    """

    spacing: str = "leading"
    """Choice of the steps: leading (from step 0 upwards), trailing (from the last step downwards) or linspace."""
    offset: int = 0
    """Number added to the steps of `leading`."""
    train_steps: int = 1000
    omits_last: bool = False
    """True if one more step is chosen and the last one omitted, as in multistep schedulers; not for `trailing`."""
    ends_at_step_0: bool = False
    """True if samples keep the noise of step 0."""

    def __post_init__(self) -> None:
        if self.spacing not in ("leading", "trailing", "linspace"):
            raise UsageError.unknown_name("spacing", self.spacing, ("leading", "trailing", "linspace"))
        check_integer("offset", self.offset, ge=0)
        check_integer("train_steps", self.train_steps, ge=1)

    def quantile(self, u: Tensor) -> Tensor:
        return u

    def grid(self, steps: int) -> list[float]:
        """Return the times of `steps` steps and of the end.

        Raises:
            UsageError: If `steps` is less than 1, or the model has fewer steps.
        """
        check_integer("steps", steps, ge=1, le=self.train_steps - self.omits_last)
        total, count = self.train_steps, steps + self.omits_last
        if self.spacing == "trailing":
            chosen = np.round(total - np.arange(steps) * (total / steps)) - 1
        elif self.spacing == "leading":
            chosen = (np.arange(count) * (total // count))[::-1][:steps] + self.offset
        else:
            chosen = np.linspace(0, total - 1, count).round()[::-1][:steps]
        chosen = np.minimum(chosen, total - 1)
        end = 1 - 1 / total if self.ends_at_step_0 and chosen[-1] > 0 else 1.0
        return [*((total - 1 - chosen) / total).tolist(), end]


@dataclass(frozen=True)
class FlowMatchSteps(TimeDistribution):
    """Times of the scheduler FlowMatchEulerDiscreteScheduler of diffusers: `Shifted`, without its smallest noises.

    With sigma = 1 - t, the step before the last one ends at the sigma of the first training step, after shifting.
    """

    shift: float = 3.0
    train_steps: int = 1000
    shifts_last: bool = True
    """True if the sigma of the first training step is shifted twice; False with `use_dynamic_shifting`."""

    def __post_init__(self) -> None:
        check_number("shift", self.shift, gt=0, lt=math.inf)
        check_integer("train_steps", self.train_steps, ge=1)

    def quantile(self, u: Tensor) -> Tensor:
        return Shifted(self.shift, Uniform()).quantile(u)

    def grid(self, steps: int) -> list[float]:
        check_integer("steps", steps, ge=1)
        last = torch.tensor(1 - 1 / self.train_steps, dtype=torch.float64)
        end = self.quantile(last) if self.shifts_last else last
        u = torch.linspace(0, float(end), steps, dtype=torch.float64)
        return [*self.quantile(u).tolist(), 1.0]
