"""Noise schedules alpha_t, sigma_t of paths x_t = alpha_t x_1 + sigma_t x_0 from source x_0 to data x_1.

Source: Lipman et al. 2024, "Flow Matching Guide and Code", arXiv 2412.06264, section 4.8.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import is_concrete

Number = Tensor | float


class AlphaSigma(NamedTuple):
    """Values of a schedule and their time derivatives; values that do not depend on time may be floats."""

    alpha: Number
    """Coefficient of the data."""
    sigma: Number
    """Coefficient of the source."""
    d_alpha: Number
    """Time derivative of alpha."""
    d_sigma: Number
    """Time derivative of sigma."""

    @property
    def wronskian(self) -> Number:
        """Wronskian alpha' sigma - sigma' alpha, positive inside (0, 1)."""
        return self.d_alpha * self.sigma - self.d_sigma * self.alpha

    @property
    def d_log_snr(self) -> Number:
        """Time derivative of log(alpha / sigma)."""
        return self.wronskian / (self.alpha * self.sigma)

    @property
    def score_coefficient(self) -> Tensor:
        """Coefficient sigma W / alpha of the score in the velocity (W the Wronskian): half the memoryless variance.

        The coefficient is infinite where alpha is 0, and set to 0 where sigma is 0 and sigma' is infinite.
        """
        alpha = torch.as_tensor(self.alpha)
        eta = self.sigma * self.wronskian / alpha
        return torch.where(alpha == 0, torch.inf, eta).nan_to_num(nan=0.0, posinf=torch.inf)


def shared_alpha_sigma(schedule: "Schedule", t: Tensor) -> AlphaSigma:
    """Return a schedule's values at times [b], as floats if all examples share one time, as in solvers.

    Coefficients are then computed once instead of per example. A time is shared if it was broadcast by `expand`.
    Tensors are returned on accelerators (floats would synchronize), inside transformations such as `vmap` (which hide
    values), and if gradients are required.
    """
    if is_concrete(t) and t.ndim == 1 and t.stride(0) == 0 and len(t) and not t.requires_grad:
        scales = schedule(t[0].double())
        if not any(isinstance(value, Tensor) and value.requires_grad for value in scales):
            return AlphaSigma(*map(float, scales))
    return schedule(t)


class Schedule(abc.ABC):
    """Noise schedule alpha_t, sigma_t of x_t = alpha_t x_1 + sigma_t x_0; subclasses implement `__call__`."""

    @abc.abstractmethod
    def __call__(self, t: Tensor) -> AlphaSigma:
        """Return alpha, sigma and their derivatives at times [b] in [0, 1]."""

    def interpolate(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """Return alpha x_1 + sigma x_0 for times that broadcast against the state."""
        alpha, sigma, *_ = self(t)
        return alpha * x_1 + sigma * x_0

    def time_derivative(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """Return alpha' x_1 + sigma' x_0 for times that broadcast against the state."""
        *_, d_alpha, d_sigma = self(t)
        return d_alpha * x_1 + d_sigma * x_0

    def point_with_slope(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the results of `interpolate` and `time_derivative`."""
        return self.interpolate(x_0, x_1, t), self.time_derivative(x_0, x_1, t)

    def t_from_snr(self, snr: Tensor) -> Tensor:
        """Return the time at which alpha / sigma equals `snr` in (0, inf); default: bisection."""
        low, high = torch.zeros_like(snr), torch.ones_like(snr)
        for _ in range(64):
            middle = (low + high) / 2
            scales = self(middle)
            is_below = scales.alpha < snr * scales.sigma
            low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
        return (low + high) / 2


@dataclass(frozen=True)
class Linear(Schedule):
    """Linear schedule alpha = t, sigma = 1 - t (CondOT)."""

    def __call__(self, t: Tensor) -> AlphaSigma:
        return AlphaSigma(t, 1 - t, 1.0, -1.0)

    def interpolate(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """Return x_0 + t (x_1 - x_0), exact at both ends."""
        return torch.lerp(x_0, x_1, t.to(x_0.dtype))

    def time_derivative(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return x_1 - x_0

    def point_with_slope(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_1 + (t - 1) v, exact at t = 1, and v = x_1 - x_0."""
        velocity = x_1 - x_0
        return torch.addcmul(x_1, t.to(x_0.dtype) - 1, velocity), velocity

    def t_from_snr(self, snr: Tensor) -> Tensor:
        return snr / (1 + snr)


@dataclass(frozen=True)
class LinearSigmaMin(Schedule):
    """Linear schedule alpha = t, sigma = 1 - (1 - sigma_min) t, which ends with noise sigma_min around the data.

    Source: Lipman et al. 2023, "Flow matching for generative modeling", arXiv 2210.02747, equation 20.
    """

    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        check_number("sigma_min", self.sigma_min, ge=0, lt=1)

    def __call__(self, t: Tensor) -> AlphaSigma:
        # (1 - t) + sigma_min t is precise near t = 1
        return AlphaSigma(t, (1 - t) + self.sigma_min * t, 1.0, self.sigma_min - 1)

    def t_from_snr(self, snr: Tensor) -> Tensor:
        return snr / (1 + (1 - self.sigma_min) * snr)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Polynomial schedule alpha = t^n, sigma = 1 - t^n."""

    n: float = 2.0

    def __post_init__(self) -> None:
        check_number("n", self.n, ge=1, lt=math.inf)

    def __call__(self, t: Tensor) -> AlphaSigma:
        alpha, d_alpha = t**self.n, self.n * t ** (self.n - 1)
        return AlphaSigma(alpha, 1 - alpha, d_alpha, -d_alpha)

    def t_from_snr(self, snr: Tensor) -> Tensor:
        return (snr / (1 + snr)) ** (1 / self.n)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine schedule alpha = sin(pi t / 2), sigma = cos(pi t / 2): constant variance and Wronskian."""

    def __call__(self, t: Tensor) -> AlphaSigma:
        # the cosine as a sine of 1 - t is exactly 0 at t = 1
        alpha, sigma = torch.sin(math.pi / 2 * t), torch.sin(math.pi / 2 * (1 - t))
        return AlphaSigma(alpha, sigma, math.pi / 2 * sigma, -math.pi / 2 * alpha)

    def t_from_snr(self, snr: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(snr)


@dataclass(frozen=True)
class LinearVP(Schedule):
    """Variance-preserving schedule alpha = t, sigma = sqrt(1 - t^2); sigma' is infinite at t = 1."""

    def __call__(self, t: Tensor) -> AlphaSigma:
        sigma = ((1 - t) * (1 + t)).sqrt()
        return AlphaSigma(t, sigma, 1.0, -t / sigma)

    def t_from_snr(self, snr: Tensor) -> Tensor:
        return snr / (1 + snr**2).sqrt()


@dataclass(frozen=True)
class VP(Schedule):
    """Variance-preserving diffusion schedule, with a noise rate that falls linearly from beta_max to beta_min.

    With the default rates, the schedule starts at alpha = 0.0066 instead of 0, so a start from normal noise has a small
    bias.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        check_number("beta_min", self.beta_min, ge=0, lt=math.inf)
        check_number("beta_max", self.beta_max, gt=0, lt=math.inf)

    def __call__(self, t: Tensor) -> AlphaSigma:
        """Return alpha = exp(-T / 2) and sigma = sqrt(1 - exp(-T)), with T the integral of beta; precise near t = 1."""
        beta_range = self.beta_max - self.beta_min
        integrated_beta = (1 - t) ** 2 * beta_range / 2 + (1 - t) * self.beta_min
        rate = -(1 - t) * beta_range - self.beta_min
        alpha, sigma = torch.exp(-integrated_beta / 2), (-torch.expm1(-integrated_beta)).sqrt()
        return AlphaSigma(alpha, sigma, -rate * alpha / 2, rate * torch.exp(-integrated_beta) / (2 * sigma))

    def t_from_snr(self, snr: Tensor) -> Tensor:
        """Return the time at which alpha / sigma equals `snr`, where the integral of beta is log(1 + 1 / snr^2)."""
        beta_range, integrated_beta = self.beta_max - self.beta_min, torch.log1p(snr**-2)
        # (sqrt(b^2 + 2 s T) - b) / s, without cancellation at small T
        return 1 - 2 * integrated_beta / ((self.beta_min**2 + 2 * beta_range * integrated_beta).sqrt() + self.beta_min)


@dataclass(frozen=True)
class VE(Schedule):
    """Variance-exploding schedule: alpha = 1, sigma falls geometrically from sigma_max to sigma_min.

    The state starts as sigma_max x_0 and ends with noise sigma_min.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        check_number("sigma_min", self.sigma_min, gt=0, lt=math.inf)
        check_number("sigma_max", self.sigma_max, gt=self.sigma_min, lt=math.inf)

    def __call__(self, t: Tensor) -> AlphaSigma:
        log_ratio = math.log(self.sigma_max / self.sigma_min)
        sigma = self.sigma_min * torch.exp(log_ratio * (1 - t))
        return AlphaSigma(1.0, sigma, 0.0, -log_ratio * sigma)

    def t_from_snr(self, snr: Tensor) -> Tensor:
        return 1 + torch.log(snr * self.sigma_min) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class CustomSchedule(Schedule):
    """Schedule from user-defined functions alpha(t) and sigma(t); automatic differentiation gives their derivatives."""

    alpha: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]

    def __call__(self, t: Tensor) -> AlphaSigma:
        t = t.contiguous()  # tangents of an expanded time would share memory
        ones = torch.ones_like(t)
        alpha, d_alpha = torch.func.jvp(self.alpha, (t,), (ones,))[:2]
        sigma, d_sigma = torch.func.jvp(self.sigma, (t,), (ones,))[:2]
        return AlphaSigma(alpha, sigma, d_alpha.to(t.dtype), d_sigma.to(t.dtype))  # torch promotes tangents of scalars


def is_same_schedule(schedule: Schedule, other: Schedule) -> bool:
    """Return True if two schedules are equal, or have the same values at five times."""
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    return schedule == other or all(
        torch.allclose(torch.as_tensor(a, dtype=t.dtype).expand(5), torch.as_tensor(b, dtype=t.dtype).expand(5))
        for a, b in zip(schedule(t)[:2], other(t)[:2], strict=True)
    )


def check_convex(schedule: Schedule, owner: str) -> None:
    """Check that alpha + sigma = 1, which the path named `owner` requires.

    Raises:
        UsageError: If alpha and sigma do not sum to 1.
    """
    scales = schedule(torch.linspace(0.1, 0.9, 5, dtype=torch.float64))
    total = torch.as_tensor(scales.alpha + scales.sigma)
    if not torch.allclose(total, torch.ones_like(total)):
        raise UsageError(f"{owner} requires alpha + sigma = 1", found=schedule, remedy="Use Linear() or Polynomial()")
