"""Ways along which a distance to the data shrinks in proportion, on spaces without a closed form for the way."""

from dataclasses import dataclass

import torch

from feller.core.pytree import append_dims
from feller.core.rng import RandomStream
from feller.paths.geodesic import ManifoldPath
from feller.paths.path import Times, check_times
from feller.spaces.space import Points

_MIN_SIGMA = 1e-3
"""Share of the source below which the rest of the way is taken in one step."""


@dataclass(frozen=True)
class Premetric(ManifoldPath):
    """dist(x_t, x_1) = (1 - alpha_t) dist(x_0, x_1), for the distance whose way the space's `log` is.

    The conditional velocity alpha' / (1 - alpha) log(x_t, x_1), with `log = -dist grad dist / |grad dist|^2`, is the
    one of least length that keeps the rule; with the geodesic distance the path is `Geodesic`. The state has to be
    simulated; within 1e-6 of t = 1 the velocity fades to 0.
    Source: Chen and Lipman 2024, "Flow matching on general geometries", arXiv 2302.03660.
    """

    steps: int = 32
    """Of the simulation from x_0; each covers an equal share of the logarithm of the distance."""

    def sample(self, x_0: Points, x_1: Points, t: Times, rng: RandomStream | None = None) -> Points:
        """Follow the way down the distance, by midpoint steps in the logarithm of the distance."""
        check_times(t, x_1)
        sigma = append_dims(torch.as_tensor(self.schedule(t).sigma).to(x_0.dtype), x_0)
        remaining = sigma.clamp(min=_MIN_SIGMA)
        x, h = x_0, -remaining.log() / self.steps
        for _ in range(self.steps):
            middle = self.space.exp(x, h / 2 * self.space.log(x, x_1))
            x = self.space.exp(x, h * self.space.log_differential(x, middle, self.space.log(middle, x_1)))
        return self.space.exp(x, (1 - sigma / remaining) * self.space.log(x, x_1))

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Times) -> Points:
        """Return alpha' / (1 - alpha) log(x_t, x_1)."""
        scales = self.schedule(t)
        rate = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma).clamp(min=1e-6)
        return append_dims(rate.to(x_t.dtype).expand(len(x_t)), x_t) * self.space.log(x_t, x_1)
