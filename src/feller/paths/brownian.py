"""Brownian bridges between paired endpoints."""

import math
from dataclasses import dataclass

from feller.core.errors import check_number
from feller.core.pytree import append_dims
from feller.core.rng import RandomStream
from feller.paths.path import Path, Times, require_rng
from feller.paths.processes import Characteristics
from feller.spaces.space import Points


@dataclass(frozen=True)
class BrownianBridge(Path):
    """Brownian bridge X_t ~ N((1 - t) x_0 + t x_1, noise^2 t (1 - t) I); the network predicts the drift.

    Source: Peluchetti 2022, "Non-denoising forward-time diffusions"; Shi et al. 2023, "Diffusion Schrödinger bridge
    matching", arXiv 2303.16852.
    """

    noise: float
    """Standard deviation at time 1 of the unconditioned Brownian motion, in data units; 0 for straight lines."""

    def __post_init__(self) -> None:
        check_number("noise", self.noise, ge=0, lt=math.inf, remedy="Pass the noise in units of the data")

    def sample(self, x_0: Points, x_1: Points, t: Times, rng: RandomStream | None = None) -> Points:
        time = append_dims(t.to(x_0.dtype), x_0)
        mean = (1 - time) * x_0 + time * x_1
        if not self.noise:
            return mean
        rng = require_rng(rng)
        return mean + self.noise * (time * (1 - time)).sqrt() * rng.normal(tuple(x_0.shape), x_0.dtype, x_0.device)

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Times) -> Points:
        """Return the drift (x_1 - x_t) / (1 - t), in state units per time; 1 - t is clamped to at least 1e-6."""
        return (x_1 - x_t) / append_dims((1 - t).to(x_t.dtype).clamp(min=1e-6), x_t)

    def characteristics(self, prediction: Points, x_t: Points, t: Times) -> Characteristics:
        if not self.noise:
            return Characteristics(velocity=prediction)
        return Characteristics(velocity=prediction, diffusion=x_t.new_full((1,) * x_t.ndim, self.noise**2))
