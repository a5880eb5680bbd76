"""Gaussian conditional path of real numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.paths.jumps.conditional_path import ConditionalPath, same_times
from feller.paths.jumps.jump_step_rules import EulerJump, IntegratedRate, JumpStepRule, MaximalCoupling
from feller.paths.schedules import Linear, Schedule


def bisect(
    function: Callable[[Tensor], Tensor],
    target: Float64[Tensor, "..."],
    low: Float64[Tensor, "..."],
    high: Float64[Tensor, "..."],
) -> Float64[Tensor, "..."]:
    """Solve function(x) = target by bisection, for an increasing function, with an error of 2^-34 (high - low)."""
    low, high = low.expand(target.shape), high.expand(target.shape)
    for _ in range(34):
        middle = (low + high) / 2
        is_below = function(middle) < target
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    return (low + high) / 2


_MIN_SIGMA = 1e-12
"""Lower bound on sigma, so that quotients stay finite at t = 1."""
_MAX_DEVIATIONS = 12.0
"""Number of standard deviations beyond which no mass is left in float64."""


@dataclass(frozen=True)
class GaussianConditionalPath(ConditionalPath):
    """Conditional path N(alpha_t z, sigma_t^2) with source N(0, 1).

    With s = (x - alpha z) / sigma and zeta = alpha' z / -sigma', the jump rate is [s^2 - zeta s - 1]_+ times
    -sigma' / sigma. Destinations have density [1 + zeta s - s^2]_+ phi(s), with antiderivative (s - zeta) phi(s)
    between the roots of the parabola; phi is the standard normal density.
    Source: Holderrieth et al. 2024, arXiv 2410.20587, equation 13.
    """

    schedule: Schedule = field(default_factory=Linear)
    """Schedule with decreasing sigma."""

    @property
    def default_rule(self) -> JumpStepRule:
        return IntegratedRate() if isinstance(self.schedule, Linear) else MaximalCoupling()

    @property
    def default_rule_with_flow(self) -> JumpStepRule:
        """Default jump rule if a flow is superposed: integrated rate on straight paths, else Euler steps.

        A maximal coupling would also count the change of the density that the flow causes.
        """
        return IntegratedRate() if isinstance(self.schedule, Linear) else EulerJump()

    def sample(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        return self.schedule.interpolate(x_0, z, t)

    def initial_state(self, x_0: Tensor) -> Tensor:
        return x_0 * float(self.schedule(torch.zeros((), dtype=torch.float64)).sigma)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, sigma, alpha' and sigma' in float64; sigma is clamped to be positive."""
        scales = self.schedule(t.double())
        alpha, sigma, d_alpha, d_sigma = (torch.as_tensor(v, dtype=torch.float64, device=t.device) for v in scales)
        return alpha, sigma.clamp(min=_MIN_SIGMA), d_alpha, d_sigma

    def _standard(self, x: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x - alpha.to(x.dtype) * z.to(x.dtype)) / sigma.to(x.dtype)

    def log_density(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        alpha, sigma, *_ = self.alpha_sigma(t)
        log_norm = sigma.log() + 0.5 * math.log(2 * math.pi)
        return -0.5 * self._standard(x, z, alpha, sigma).square() - log_norm.to(x.dtype)

    def time_derivative(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        """Return d/dt log p_t(x | z) = [alpha' z s - sigma' (1 - s^2)] / sigma with s = (x - alpha z) / sigma."""
        alpha, sigma, d_alpha, d_sigma = self.alpha_sigma(t)
        s = self._standard(x, z, alpha, sigma)
        a, b = (d_alpha / sigma).to(x.dtype), (d_sigma / sigma).to(x.dtype)
        return a * z.to(x.dtype) * s - b * (1 - s.square())

    def integrated_derivative(self, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return the integral over u in [t, s] of an approximation of d/du log p_u(x | z), with state x and endpoint z.

        The derivative grows as (1 - u)^-3; its factor is taken from its value at time t. The integral is
        `time_derivative` at t times (1 - t) / 2 [(1 - t)^2 / (1 - s)^2 - 1]; it is infinite for s = 1.
        """
        if not isinstance(self.schedule, Linear):
            return super().integrated_derivative(x, z, t, s)
        remaining_t, remaining_s = 1 - t.double(), 1 - s.double()
        factor = remaining_t / 2 * (s.double() - t.double()) * (remaining_t + remaining_s) / remaining_s.square()
        return (self.time_derivative(x, z, t) * factor.to(x.dtype)).nan_to_num(
            nan=0.0, posinf=torch.inf, neginf=-torch.inf
        )

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the velocity alpha' z + sigma' s with s = (x - alpha z) / sigma; s = 0 where sigma vanishes."""
        alpha, sigma, d_alpha, d_sigma = self.alpha_sigma(t)
        s = torch.where(sigma > _MIN_SIGMA, self._standard(x, z, alpha, sigma), 0)
        return d_alpha.to(x.dtype) * z.to(x.dtype) + d_sigma.to(x.dtype) * s

    def mean_velocity(self, x: Tensor, z: Tensor, p: Float[Tensor, "... K"], t: Tensor) -> Tensor:
        mean = p @ z.to(p.dtype) if z.ndim == 1 else (p * z.to(p.dtype)).sum(-1)
        return self.velocity(x, mean, t)

    def sample_increase(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        if same_times(t, s):
            return self._from_standard(z, s, _sample_rising(self._zeta(z, s), u[..., 0]))
        shift, ratio = self._standardized_later(z, t, s)
        low, high, cdf_change = _crossings(shift, ratio)
        lowest = cdf_change(low)
        target = lowest + u[..., 0] * (cdf_change(high) - lowest)
        low, high = (
            torch.maximum(low, shift - _MAX_DEVIATIONS * ratio),
            torch.minimum(high, shift + _MAX_DEVIATIONS * ratio),
        )
        return self._from_standard(z, t, bisect(cdf_change, target, low, high))

    def sample_decrease(self, z: Tensor, t: Tensor, s: Tensor, u: Float64[Tensor, "... n"]) -> Tensor:
        if same_times(t, s):
            return self._from_standard(z, s, _sample_falling(self._zeta(z, s), u[..., 0]))
        low, high, cdf_change = _crossings(*self._standardized_later(z, t, s))
        return self._from_standard(z, t, _sample_outside(lambda v: -cdf_change(v), low, high, u[..., 0]))

    def _zeta(self, z: Tensor, t: Tensor) -> Tensor:
        _, _, d_alpha, d_sigma = self.alpha_sigma(t)
        return d_alpha * z.double() / (-d_sigma).clamp(min=1e-9)

    def _standardized_later(self, z: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of v = (x_s - alpha_t z) / sigma_t under p_s(x_s | z).

        v is the state at the later time s, standardized with the mean and deviation at time t given the endpoint z.
        """
        alpha, sigma, *_ = self.alpha_sigma(t)
        alpha_s, sigma_s, *_ = self.alpha_sigma(s)
        return (alpha_s - alpha) * z.double() / sigma, sigma_s / sigma

    def _from_standard(self, z: Tensor, t: Tensor, standard: Tensor) -> Tensor:
        alpha, sigma, *_ = self.alpha_sigma(t)
        return alpha * z.double() + sigma * standard


def _density(s: Tensor) -> Tensor:
    return torch.exp(-0.5 * s.square()) / math.sqrt(2 * math.pi)


def _roots(zeta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the roots of s^2 - zeta s - 1, whose product is -1."""
    outer_root = (zeta.abs() + torch.hypot(zeta, torch.full_like(zeta, 2.0))) / 2
    return torch.where(zeta > 0, -1 / outer_root, -outer_root), torch.where(zeta > 0, outer_root, 1 / outer_root)


def _sample_rising(zeta: Tensor, u: Tensor) -> Tensor:
    """Sample from the density [1 + zeta s - s^2]_+ phi(s), normalised, by inverting its CDF at u."""
    low, high = _roots(zeta)

    def antiderivative(s: Tensor) -> Tensor:
        return (s - zeta) * _density(s)

    lowest = antiderivative(low)
    target = lowest + u * (antiderivative(high) - lowest)
    return bisect(antiderivative, target, low.clamp(min=-_MAX_DEVIATIONS), high.clamp(max=_MAX_DEVIATIONS))


def _sample_falling(zeta: Tensor, u: Tensor) -> Tensor:
    """Sample from the density [s^2 - zeta s - 1]_+ phi(s), normalised, by inverting its CDF at u."""
    low, high = _roots(zeta)
    return _sample_outside(lambda s: (zeta - s) * _density(s), low, high, u)


def _sample_outside(antiderivative, low: Tensor, high: Tensor, u: Tensor) -> Tensor:
    """Sample below `low` or above `high`, by the uniform numbers u.

    The density has the given antiderivative, which vanishes at both infinities.
    """
    mass = antiderivative(low) - antiderivative(high)
    is_below = u * mass < antiderivative(low)
    target = torch.where(is_below, u * mass, (u - 1) * mass)
    lowest, highest = (
        torch.minimum(low, torch.zeros_like(low)) - _MAX_DEVIATIONS,
        torch.maximum(high, torch.zeros_like(high)) + _MAX_DEVIATIONS,
    )
    return bisect(antiderivative, target, torch.where(is_below, lowest, high), torch.where(is_below, low, highest))


def _crossings(shift: Tensor, ratio: Tensor):
    """Return the two points where the densities N(shift, ratio^2) and N(0, 1) are equal.

    The third result is the function CDF of N(shift, ratio^2) minus CDF of N(0, 1).
    """
    variance_gap = ((1 - ratio) * (1 + ratio)).clamp(min=_MIN_SIGMA)
    half_width = ratio * (shift.square() - 2 * variance_gap * ratio.log()).clamp(min=0).sqrt()

    def cdf_change(v: Tensor) -> Tensor:
        return torch.special.ndtr((v - shift) / ratio) - torch.special.ndtr(v)

    return (shift - half_width) / variance_gap, (shift + half_width) / variance_gap, cdf_change
