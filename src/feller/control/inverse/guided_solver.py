"""Guided sampling for inverse problems: each step corrects the velocity by the measurement residual."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.inverse.inverse_problem import (
    InverseProblem,
    InverseSolution,
    InverseSolver,
    Measurement,
    check_no_unknown,
    require_linear,
)
from feller.core.errors import check_number
from feller.paths.affine import Affine
from feller.paths.predictions import DataPrediction, VelocityPrediction, convert
from feller.paths.processes import Characteristics, Process
from feller.paths.schedules import shared_alpha_sigma
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, trajectory
from feller.sampling.solvers.linear_step import alpha_sigma_at


class MeasurementGuidance(abc.ABC):
    """Base class of guidance terms, which are added to the velocity of a flow so that samples agree with measurements.

    Subclasses implement `velocity_correction`.
    """

    @abc.abstractmethod
    def velocity_correction(self, state: "GuidedState") -> Float[Tensor, " b *d"]:
        """Return the correction of the velocity, in state units per unit of time."""


@dataclass(frozen=True)
class GuidedState:
    """Intermediate state of a sample, with the predicted endpoint."""

    measurement: Measurement
    x_t: Float[Tensor, " b *d"]
    """State at time t; requires a gradient."""
    x_1: Float[Tensor, " b *d"]
    """Expected endpoint E[x_1 | x_t], a differentiable function of x_t."""
    rows: Tensor
    alpha: float
    sigma: float
    eta: float
    """Coefficient of the score in the velocity; set to 0 at the source, where it is infinite."""

    def residual(self) -> Float[Tensor, " b *m"]:
        """Return the measured values minus the values predicted at the expected endpoint."""
        return self.measurement.residual(self.x_1, self.rows)

    def vjp(self, output: Tensor, weights: Tensor) -> Float[Tensor, " b *d"]:
        """Return the product of `weights` and the Jacobian of `output` with respect to the state `x_t`."""
        return torch.autograd.grad(output, self.x_t, weights)[0]


@dataclass(frozen=True)
class PiGDM(MeasurementGuidance):
    """Pseudoinverse guidance: adds the score of the measurements to the velocity.

    The score is the gradient of their log-likelihood with respect to the state x_t = alpha x_1 + sigma x_0, where x_1
    is the sample and x_0 the noise. Given x_t, x_1 is taken as normal with variance r^2 = sigma^2 / (sigma^2 +
    alpha^2). This is exact for normal data of variance 1. The operator must be linear. Source: Song et al. 2023,
    "Pseudoinverse-guided diffusion models for inverse problems", ICLR; on flows Pokle et al. 2023, arXiv 2310.04432.
    """

    scale: float = 1.0
    """Factor on the score of the measurements; values above 1 often lower the mean squared error."""

    def velocity_correction(self, state: GuidedState) -> Float[Tensor, " b *d"]:
        """Return `scale` * eta J^T A^T (r^2 A A^T + noise^2)^-1 (y - A x_1).

        J is the Jacobian of x_1 with respect to x_t, A the operator, y the measurements, eta the score coefficient.
        """
        measurement = state.measurement
        operator, values = require_linear(measurement.operator), measurement.to_data_units(state.x_1)
        variance = measurement.scale**2 * state.sigma**2 / (state.sigma**2 + state.alpha**2)  # r^2 in data units
        residual = (measurement.y[state.rows] - operator(values)).detach()
        weights = operator.pseudo_inverse(residual, values.detach(), measurement.noise**2 / variance) / variance
        return self.scale * state.eta * state.vjp(values, weights)


@dataclass(frozen=True)
class DPS(MeasurementGuidance):
    """Diffusion posterior sampling: moves each step against the gradient of the residual norm, times `scale`.

    The residual is the difference of measured and predicted values. The operator need not be linear. Tune `scale` for
    each problem.


    Source: Chung et al. 2023, "Diffusion posterior sampling for general noisy inverse problems", arXiv 2209.14687.
    """

    scale: float = 10.0

    def velocity_correction(self, state: GuidedState) -> Float[Tensor, " b *d"]:
        """Return minus `scale` times the gradient of |y - A(x_1)|, the residual norm, with respect to the state."""
        distance = state.residual().square().flatten(1).sum(1).add(1e-12).sqrt() / state.measurement.scale
        return -self.scale * state.vjp(distance, torch.ones_like(distance))


def guide_process(
    process: Process, path: Affine, measurement: Measurement, guidance: MeasurementGuidance, rows: Tensor
) -> Process:
    """Add measurement guidance to a flow, except at the source, where the expected endpoint is constant."""

    def guided(x: Tensor, t: Tensor) -> Characteristics:
        scales = shared_alpha_sigma(path.schedule, t)
        with torch.enable_grad():
            x_t = x.detach().requires_grad_()
            velocity = process(x_t, t).velocity
            expected = convert(velocity, VelocityPrediction(), DataPrediction(), x_t, scales)
            alpha, sigma = (float(torch.as_tensor(n).flatten()[0]) for n in scales[:2])
            eta = float(scales.score_coefficient.flatten()[0]) if alpha > 0 else 0.0
            correction = guidance.velocity_correction(GuidedState(measurement, x_t, expected, rows, alpha, sigma, eta))
        return Characteristics(velocity.detach() + correction.detach())

    return guided


def initial_states(
    measurement: Measurement, path: Affine, x_0: Float[Tensor, " b *d"], start: float, steps: int
) -> tuple[Float[Tensor, " b *d"], list[float]]:
    """Return the initial states alpha x_1 + sigma x_0 at time `start`, and the time grid from `start` to 1.

    alpha and sigma are the coefficients of the path at this time. x_1 is `Measurement.pinv`: the pseudo-inverse A^+ y
    of Pokle et al. without noise; with noise, the ridge estimate.

    Args:
        measurement: Measurements, of a linear operator unless `start` is 0.
        path: Path with the schedule of alpha and sigma.
        x_0: Noise.
        start: First time; 0 starts at the source.
        steps: Number of steps from `start` to 1.

    Raises:
        UsageError: If the operator is not linear and `start` is above 0.
    """
    times = linear_grid(steps, start, 1.0)
    if start == 0:
        return path.initial_state(x_0), times
    alpha, sigma = map(float, alpha_sigma_at(path.schedule, start)[:2])
    return alpha * measurement.pinv(x_0) + sigma * x_0, times


@dataclass(frozen=True)
class GuidedSolver(InverseSolver):
    """Inverse-problem method that samples by Euler steps of a flow, each corrected by measurement guidance.

    With `PiGDM` and `start` = 0.2 this is the method OT-ODE of Pokle et al. 2023, arXiv 2310.04432.
    """

    guidance: MeasurementGuidance
    steps: int = 40
    start: float = 0.0
    """Initial time. If it is above 0, the initial states are computed from the measurements; see `initial_states`."""

    def __post_init__(self) -> None:
        check_number("steps", self.steps, ge=1)
        check_number("start", self.start, ge=0, lt=1)

    def solve(self, problem: InverseProblem) -> InverseSolution:
        prior_model, observation, rows = problem.prior_model, problem.measurement, problem.rows
        check_no_unknown(observation.operator, "guidance")
        process = guide_process(prior_model.process(rows), prior_model.path, observation, self.guidance, rows)
        x, times = initial_states(observation, prior_model.path, problem.x_0, self.start, self.steps)
        for step, x in enumerate(trajectory(process, x, times, Euler(prior_model.space), problem.rng), 1):  # noqa: B007, B020
            problem.on_progress(step / self.steps)
        return InverseSolution(x, observation.residual_mse(x), torch.full_like(rows, self.steps))
