"""Steps after which the end knows nothing of the start, in the one way that keeps a velocity a velocity."""

from dataclasses import dataclass, field

from feller.paths.schedules import Linear, Schedule
from feller.sampling.solvers.ancestral import Ancestral
from feller.sampling.solvers.linear_step import LinearSolver, LinearStep, scales_at


@dataclass(frozen=True)
class MemorylessEuler(LinearSolver):
    """Euler-Maruyama with variance 2 sigma W / alpha per time, and the drift 2 v - (alpha' / alpha) x that pays for it.

    The noise is infinite at t = 0. Its denominator gains the share of data after one step, and the drift changes with
    it, so that both still belong to one process with the right marginals; the step from t = 0 is ancestral, which makes
    the start irrelevant at once. On the linear schedule the mean of a Gaussian is exact in any number of steps, on
    others its error is of order one: change the schedule first, see `feller.paths.rescheduled`.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861, whose steps shift the noise alone.
    """

    schedule: Schedule = field(default_factory=Linear)
    """Of the path whose velocity the process has."""

    def linear(self, t: float, s: float) -> LinearStep:
        """Return the step."""
        if t == 0:
            return Ancestral(self.schedule).linear(t, s)
        h = s - t
        alpha, sigma, d_alpha, d_sigma = map(float, scales_at(self.schedule, t))
        shifted = alpha + float(scales_at(self.schedule, h).alpha)
        variance = 2 * h * sigma * (d_alpha * sigma - d_sigma * alpha) / shifted
        return LinearStep(1 - h * d_alpha / shifted, h * (1 + alpha / shifted), max(variance, 0.0))
