"""Affine probability paths x_t = alpha_t x_1 + sigma_t x_0: flow matching and diffusion."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind, check_number
from feller.core.pytree import append_dims
from feller.core.rng import RandomStream
from feller.paths.path import Path, Times, check_times, leads_elsewhere
from feller.paths.predictions import (
    Prediction,
    ScorePrediction,
    VelocityPrediction,
    conversion_coefficients,
    linear_combination,
)
from feller.paths.processes import Characteristics
from feller.paths.schedules import AlphaSigma, Linear, Number, Schedule, shared_alpha_sigma
from feller.spaces import Euclidean, Manifold, Space, Tokens
from feller.spaces.space import Points


class DiffusionCoefficient(abc.ABC):
    """Diffusion coefficient g(t) of the sampling process.

    The drift compensates for it, so any choice keeps the marginals of the path.
    """

    @abc.abstractmethod
    def variance(self, scales: AlphaSigma) -> Number:
        """Return the squared diffusion coefficient g^2 at the times at which the schedule has the values `scales`.

        The result has one value per example, [b], or is one value for all examples.
        """


@dataclass(frozen=True)
class ConstantDiffusion(DiffusionCoefficient):
    """Constant diffusion g; the drift is infinite at t = 1 if sigma is 0 there, so take small steps near t = 1."""

    g: float = 1.0

    def __post_init__(self) -> None:
        check_number("g", self.g, ge=0, lt=math.inf)

    def variance(self, scales: AlphaSigma) -> Number:
        return self.g**2


@dataclass(frozen=True)
class SigmaProportional(DiffusionCoefficient):
    """Diffusion g(t)^2 = c sigma_t, with a finite drift at both ends."""

    c: float = 1.0

    def __post_init__(self) -> None:
        check_number("c", self.c, ge=0, lt=math.inf)

    def variance(self, scales: AlphaSigma) -> Number:
        return self.c * scales.sigma


@dataclass(frozen=True)
class MemorylessDiffusion(DiffusionCoefficient):
    """Memoryless diffusion g^2 = 2 sigma W / alpha, where W = alpha' sigma - sigma' alpha is the Wronskian.

    With it, the end x_1 of the process is independent of the start x_0. g^2 is limited to `max_variance`, because it is
    infinite where alpha is 0.
    """

    max_variance: float = 200.0

    def __post_init__(self) -> None:
        check_number("max_variance", self.max_variance, ge=0)

    def variance(self, scales: AlphaSigma) -> Number:
        return (2 * scales.score_coefficient).clamp(max=self.max_variance)


@dataclass(frozen=True)
class CustomDiffusion(DiffusionCoefficient):
    """Diffusion g^2 given by `formula`, a user-defined function of an `AlphaSigma`, and valid for every schedule.

    The fields of the `AlphaSigma` are tensors. If g^2 vanishes more slowly than sigma, the drift is infinite at t = 1.
    """

    formula: Callable[[AlphaSigma], Tensor]

    def variance(self, scales: AlphaSigma) -> Number:
        tensors = (
            torch.as_tensor(value, dtype=torch.float64) if isinstance(value, float) else value for value in scales
        )
        return self.formula(AlphaSigma(*tensors))


@dataclass(frozen=True)
class Affine(Path):
    """Affine path x_t = alpha_t x_1 + sigma_t x_0.

    Source: Lipman et al. 2024, arXiv 2412.06264, section 4; with noise, section 10.4 there: the drift gains
    g^2 / 2 times the score, which keeps every marginal.
    """

    answers_like_state = True
    schedule: Schedule = field(default_factory=Linear)
    prediction: Prediction = field(default_factory=VelocityPrediction)
    """Quantity that the network predicts."""
    noise: DiffusionCoefficient | None = None
    """Diffusion coefficient, which requires a standard normal source independent of the data; None for a flow."""

    def __post_init__(self) -> None:
        check_kind("schedule", self.schedule, Schedule, "feller.Linear()")
        check_kind(
            "prediction",
            self.prediction,
            Prediction,
            "feller.NoisePrediction() for epsilon, feller.DataPrediction() for x_1",
        )
        if self.noise is not None:
            check_kind("noise", self.noise, DiffusionCoefficient, "feller.SigmaProportional()")

    def check_space(self, space: Space, name: str = "path") -> None:
        is_curved = isinstance(space, Manifold) and not isinstance(space, Euclidean)
        if is_curved or isinstance(space, Tokens):
            reason = "whose straight lines leave the manifold" if is_curved else "a path of real numbers"
            raise leads_elsewhere(self, space, name, reason)

    @property
    def affine_schedule(self) -> Schedule:
        return self.schedule

    def sample(self, x_0: Points, x_1: Points, t: Times, rng: RandomStream | None = None) -> Points:
        check_times(t, x_1)
        return self.schedule.interpolate(x_0, x_1, append_dims(t, x_1))

    def sample_with_target(
        self, x_0: Points, x_1: Points, t: Times, rng: RandomStream | None = None
    ) -> tuple[Points, Points]:
        """Return x_t and its training target; times are not checked, for speed."""
        time = append_dims(t, x_1)
        if isinstance(self.prediction, VelocityPrediction):
            return self.schedule.point_with_slope(x_0, x_1, time)
        x_t = self.schedule.interpolate(x_0, x_1, time)
        return x_t, self.target(x_t, x_0, x_1, t)

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Times) -> Points:
        """Return the training target of `prediction`, by default the velocity alpha' x_1 + sigma' x_0."""
        t = append_dims(t, x_1)
        if isinstance(self.prediction, VelocityPrediction):
            return self.schedule.time_derivative(x_0, x_1, t)
        scales = self.schedule(t)
        a, b = self.prediction.endpoint_coefficients(scales)
        return (a * x_1 + b * x_0) * self.prediction.unit_scale(scales)

    def characteristics(self, prediction: Points, x_t: Points, t: Times) -> Characteristics:
        """Return the velocity u of the flow; with noise, the diffusion g^2 and the drift u + (g^2 / 2) score."""
        if self.noise is None and isinstance(self.prediction, VelocityPrediction):
            return Characteristics(velocity=prediction)
        if prediction.shape != x_t.shape:  # torch would broadcast silently
            raise UsageError(
                f"a prediction in the shape of the state, {list(x_t.shape)}", f"shape {list(prediction.shape)}"
            )
        scales = shared_alpha_sigma(self.schedule, t)
        c, d = conversion_coefficients(self.prediction, VelocityPrediction(), scales)  # u = c x_t + d prediction
        if self.noise is None:
            return Characteristics(velocity=linear_combination(c, x_t, d, prediction))
        # u + (g^2 / 2) score keeps every marginal; both terms are linear in state and prediction
        variance = self.noise.variance(scales)
        score_c, score_d = conversion_coefficients(self.prediction, ScorePrediction(), scales)
        drift = linear_combination(c + variance / 2 * score_c, x_t, d + variance / 2 * score_d, prediction)
        diffusion = torch.as_tensor(variance, dtype=x_t.dtype, device=x_t.device).reshape(-1)
        return Characteristics(velocity=drift, diffusion=append_dims(diffusion, x_t))

    def initial_state(self, x_0: Tensor) -> Tensor:
        """Return sigma_0 x_0, which differs from x_0 for variance-exploding schedules."""
        sigma = self.schedule(torch.zeros((), dtype=torch.float64)).sigma
        return x_0 * float(sigma)
