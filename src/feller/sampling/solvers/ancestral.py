"""Steps that go through the predicted ends: denoise, then put the right noise back."""

from dataclasses import dataclass, field

from feller.paths.predictions import Data, Source, Velocity, coefficients
from feller.paths.schedules import Linear, Schedule
from feller.sampling.solvers.linear_step import LinearSolver, LinearStep, scales_at


@dataclass(frozen=True)
class Ancestral(LinearSolver):
    """x_s = alpha_s x_1 + sqrt(sigma_s^2 - nu^2) x_0 + nu noise, with the ends that the velocity at t predicts.

    nu = eta times the noise of the posterior of x_s given x_t and x_1: eta = 1 is ancestral sampling (DDPM), eta = 0
    has no noise (DDIM) and is Euler's step on the linear schedule. Needs a flow (no noise of its own) on an affine path
    with a normal source. Source: Song et al. 2021, "Denoising diffusion implicit models", arXiv 2010.02502.
    """

    schedule: Schedule = field(default_factory=Linear)
    """Of the path whose velocity the process has."""
    eta: float = 1.0

    def linear(self, t: float, s: float) -> LinearStep:
        """Return the step."""
        now, later = (scales_at(self.schedule, time) for time in (t, s))
        (alpha, sigma), (to_alpha, to_sigma) = now[:2], later[:2]
        fresh = max(sigma**2 - (alpha / to_alpha * to_sigma) ** 2, 0.0)  # variance gained from s back to t
        nu = float(min(self.eta * fresh**0.5 / sigma, 1.0) * to_sigma) if sigma > 0 else 0.0
        keep = max(to_sigma**2 - nu**2, 0.0) ** 0.5
        data, source = (coefficients(Velocity(), end, now) for end in (Data(), Source()))
        on_state, on_velocity = (to_alpha * a + keep * b for a, b in zip(data, source, strict=True))
        return LinearStep(float(on_state), float(on_velocity), nu**2)
