"""Solvers with Gaussian steps linear in state and velocity: ancestral sampling and memoryless Euler."""

import abc
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind, check_number
from feller.core.pytree import State, tree_map
from feller.paths.predictions import DataPrediction, NoisePrediction, VelocityPrediction, conversion_coefficients
from feller.paths.processes import Process
from feller.paths.schedules import AlphaSigma, Linear, Schedule
from feller.sampling.solvers.solver import GaussianSolver, expand_time, flow_velocity


class LinearStep(NamedTuple):
    """Linear step x_s = on_state x_t + on_velocity v(x_t, t) + sqrt(variance) noise."""

    on_state: float
    on_velocity: float
    variance: float

    def mean(self, x: State, velocity: State) -> State:
        """Return the mean of the state at time s: the linear step without noise."""
        return tree_map(lambda x, v: torch.add(self.on_state * x, v, alpha=self.on_velocity), x, velocity)


class LinearSolver(GaussianSolver):
    """Base class of stochastic solvers for the flow of an affine path; subclasses implement `linear_step`."""

    @abc.abstractmethod
    def linear_step(self, t: float, s: float) -> LinearStep:
        """Return the coefficients of the step from t to s."""

    def moments(self, process: Process, x: State, t: float, s: float) -> tuple[State, State]:
        """Return mean and variance of the state at s > t; UsageError if s < t, or the process is not a flow."""
        name = type(self).__name__
        if s < t:
            expected, found = f"an increasing grid for {name}", f"a step from {t:g} to {s:g}"
            raise UsageError(argument="times", expected=expected, found=found, remedy="Use Midpoint() to go back")
        step = self.linear_step(t, s)

        def variance(x: Tensor) -> Tensor | None:
            return torch.full((1,) * x.ndim, step.variance, dtype=x.dtype, device=x.device) if step.variance else None

        return step.mean(x, tree_map(lambda leaf: flow_velocity(leaf, name), process(x, expand_time(x, t)))), tree_map(
            variance, x
        )


def alpha_sigma_at(schedule: Schedule, time: float) -> AlphaSigma:
    """Return the values of a schedule at one time, as floats."""
    return AlphaSigma(*map(float, schedule(torch.tensor(time, dtype=torch.float64))))


@dataclass(frozen=True)
class Ancestral(LinearSolver):
    """Ancestral step x_s = alpha_s x_1 + sqrt(sigma_s^2 - nu^2) x_0 + nu noise from time t to s.

    The data x_1 and the source x_0 are predicted from x_t; alpha and sigma are their coefficients in the path. nu is
    eta times the standard deviation of x_s given x_t and x_1. eta = 1 is ancestral sampling (DDPM). eta = 0 is
    deterministic (DDIM), and equals an Euler step on the linear schedule. Requires a flow on an affine path with a
    normal source. Source: Song et al. 2021, "Denoising diffusion implicit models", arXiv 2010.02502.
    """

    schedule: Schedule = field(default_factory=Linear)
    """Schedule of the path."""
    eta: float = 1.0

    def __post_init__(self) -> None:
        check_kind("schedule", self.schedule, Schedule, "feller.VP()")
        check_number("eta", self.eta, ge=0, lt=math.inf)

    def linear_step(self, t: float, s: float) -> LinearStep:
        at_t, at_s = (alpha_sigma_at(self.schedule, time) for time in (t, s))
        (alpha, sigma), (alpha_s, sigma_s) = at_t[:2], at_s[:2]
        gained_variance = max(sigma**2 - (alpha / alpha_s * sigma_s) ** 2, 0.0)  # variance gained from s back to t
        nu = float(min(self.eta * gained_variance**0.5 / sigma, 1.0) * sigma_s) if sigma > 0 else 0.0
        source_weight = max(sigma_s**2 - nu**2, 0.0) ** 0.5
        to_data, to_source = (
            conversion_coefficients(VelocityPrediction(), prediction, at_t)
            for prediction in (DataPrediction(), NoisePrediction())
        )
        on_state, on_velocity = (alpha_s * a + source_weight * b for a, b in zip(to_data, to_source, strict=True))
        return LinearStep(float(on_state), float(on_velocity), nu**2)


@dataclass(frozen=True)
class MemorylessEuler(LinearSolver):
    """Euler-Maruyama solver of the memoryless process, whose samples at t = 1 are independent of their start.

    The process has drift 2 v - (alpha' / alpha) x, with the velocity v, and variance 2 sigma W / alpha per unit time.
    The path is x_t = alpha x_1 + sigma x_0, and W = alpha' sigma - alpha sigma' is the Wronskian of its schedule.

    The variance is infinite at t = 0. Its denominator alpha is therefore increased by alpha_h, with step size h, and
    the drift is changed accordingly, so that both belong to one process with the right marginals. The step from t = 0
    is ancestral, which removes the dependence on the start. On the linear schedule, the mean of a Gaussian is exact for
    any number of steps. On other schedules, the error is of first order in the step size, so reschedule the path first
    (`feller.paths.rescheduling`).

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861, whose steps shift only the noise.
    """

    schedule: Schedule = field(default_factory=Linear)
    """Schedule of the path."""

    def __post_init__(self) -> None:
        check_kind("schedule", self.schedule, Schedule, "feller.VP()")

    def linear_step(self, t: float, s: float) -> LinearStep:
        if t == 0:
            return Ancestral(self.schedule).linear_step(t, s)
        h = s - t
        alpha, sigma, d_alpha, d_sigma = map(float, alpha_sigma_at(self.schedule, t))
        denominator = alpha + float(alpha_sigma_at(self.schedule, h).alpha)
        variance = 2 * h * sigma * (d_alpha * sigma - d_sigma * alpha) / denominator
        return LinearStep(1 - h * d_alpha / denominator, h * (1 + alpha / denominator), max(variance, 0.0))
