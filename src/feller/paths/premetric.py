"""Premetric paths: flows that shrink a distance to the data, on spaces without closed-form geodesics."""

from dataclasses import dataclass

import torch

from feller.core.pytree import append_dims
from feller.core.rng import RandomStream
from feller.paths.geodesic import ManifoldPath
from feller.paths.path import Times, check_times
from feller.spaces.space import Points

_MIN_SIGMA = 1e-3
"""Value of sigma = 1 - alpha below which the part of the path that is left is simulated in one step."""


@dataclass(frozen=True)
class Premetric(ManifoldPath):
    """Premetric path with dist(x_t, x_1) = (1 - alpha_t) dist(x_0, x_1).

    dist is the distance of the space, which a step along `space.log` reduces.

    The conditional velocity alpha' / (1 - alpha) log(x_t, x_1), with `log = -dist grad dist / |grad dist|^2`, has the
    smallest norm of all velocities with this path. For the geodesic distance, the path is `Geodesic`. x_t has no closed
    form and is simulated; within 1e-6 of t = 1 the velocity decays to 0.
    Source: Chen and Lipman 2024, "Flow matching on general geometries", arXiv 2302.03660.
    """

    steps: int = 32
    """Number of simulation steps from x_0, of equal size in the logarithm of the distance."""

    def sample(self, x_0: Points, x_1: Points, t: Times, rng: RandomStream | None = None) -> Points:
        """Simulate the path from x_0 by midpoint steps in the logarithm of the distance."""
        check_times(t, x_1)
        sigma = append_dims(torch.as_tensor(self.schedule(t).sigma).to(x_0.dtype), x_0)
        remaining = sigma.clamp(min=_MIN_SIGMA)
        x, h = x_0, -remaining.log() / self.steps
        for _ in range(self.steps):
            midpoint = self.space.exp(x, h / 2 * self.space.log(x, x_1))
            x = self.space.exp(x, h * self.space.log_differential(x, midpoint, self.space.log(midpoint, x_1)))
        return self.space.exp(x, (1 - sigma / remaining) * self.space.log(x, x_1))

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Times) -> Points:
        """Return the conditional velocity alpha' / (1 - alpha) log(x_t, x_1)."""
        scales = self.schedule(t)
        rate = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma).clamp(min=1e-6)
        return append_dims(rate.to(x_t.dtype).expand(len(x_t)), x_t) * self.space.log(x_t, x_1)
