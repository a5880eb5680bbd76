"""RED-diff: variational fit of the measurements, regularised by a diffusion or flow prior."""

from dataclasses import dataclass

import torch
from torch import Tensor

from feller.control.inverse.inverse_problem import (
    MIN_NOISE,
    InverseProblem,
    InverseSolution,
    InverseSolver,
    PriorModel,
    check_no_unknown,
)
from feller.control.optimize.minimize import AdamMoments
from feller.core.errors import UsageError
from feller.paths.predictions import DataPrediction, VelocityPrediction, convert
from feller.paths.schedules import shared_alpha_sigma
from feller.sampling.solvers.solver import expand_time


@dataclass(frozen=True)
class REDDiff(InverseSolver):
    """RED-diff: fit of the states by gradient descent on the squared residual plus a denoising regulariser.

    The gradient of the regulariser is the noise that the prior model predicts in noised states minus the noise that
    was added, weighted by the noise level.

    Source: Mardani et al. 2023, "A variational perspective on solving inverse problems with diffusion models", arXiv
    2305.04391.
    """

    weight: float = 0.25
    """Weight of the regulariser's gradient; the weight of the residual's gradient is 1."""
    lr: float = 0.1
    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or self.weight < 0:
            raise UsageError("at least 1 step, a positive learning rate and a weight of at least 0", self)

    def solve(self, problem: InverseProblem) -> InverseSolution:
        """Return the fitted states.

        The fit starts at the posterior mean with prior N(0, I) (`Measurement.pinv`); the problem's `x_0` gives only the
        shape.
        """
        prior_model, observation, x_0, rows = problem.prior_model, problem.measurement, problem.x_0, problem.rows
        check_no_unknown(observation.operator, "a regularised fit")
        x, moments = observation.pinv(x_0), AdamMoments(x_0, (0.9, 0.99))
        for step in range(self.steps):
            noise = problem.rng.stream("noise", step).normal(x.shape, x.dtype, x.device)
            prior_gradient = self._prior_gradient(prior_model, x, noise, rows, (step + 0.5) / self.steps)
            with torch.enable_grad():
                point = x.detach().requires_grad_()
                data_loss = observation.residual(point, rows).square().sum() / (2 * observation.scale**2)
                (data_gradient,) = torch.autograd.grad(data_loss, point)
            x = x - self.lr * moments.step(data_gradient + self.weight * prior_gradient, rows)
            problem.on_progress((step + 1) / self.steps)
        return InverseSolution(x, observation.residual_mse(x), torch.full_like(rows, self.steps))

    @torch.no_grad()
    def _prior_gradient(self, prior_model: PriorModel, x: Tensor, noise: Tensor, rows: Tensor, time: float) -> Tensor:
        """Return the gradient of the RED-Diff regulariser: predicted minus added noise, times a weight.

        States x are noised to `time` with `noise`; the weight is sigma / alpha, up to a maximum.
        """
        t = expand_time(x, time)
        scales = shared_alpha_sigma(prior_model.path.schedule, t)
        alpha, sigma = map(float, scales[:2])
        state = alpha * x + sigma * noise
        expected = convert(
            prior_model.process(rows)(state, t).velocity, VelocityPrediction(), DataPrediction(), state, scales
        )
        return ((state - alpha * expected) / sigma - noise) * min(sigma / alpha, 1 / MIN_NOISE)
