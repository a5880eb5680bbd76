"""Steps that go through the predicted ends: denoise, then put the right noise back."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.paths.predictions import Data, Source, Velocity, coefficients, combine
from feller.processes import Characteristics, Process
from feller.schedules import Linear, Scales, Schedule
from feller.simulate.solver import GaussianSolver, clock
from feller.tree import State, tree_map


@dataclass(frozen=True)
class Ancestral(GaussianSolver):
    """x_s = alpha_s x_1 + sqrt(sigma_s^2 - nu^2) x_0 + nu noise, with the ends that the velocity at t predicts.

    nu = eta times the noise of the posterior of x_s given x_t and x_1: eta = 1 is ancestral sampling (DDPM), eta = 0
    has no noise (DDIM) and is Euler's step on the linear schedule. Needs a flow (no noise of its own) on an affine path
    with a normal source. Source: Song et al. 2021, "Denoising diffusion implicit models", arXiv 2010.02502.
    """

    schedule: Schedule = field(default_factory=Linear)
    """Of the path whose velocity the process has."""
    eta: float = 1.0

    def _scales(self, time: float) -> Scales:
        return Scales(*map(float, self.schedule(torch.tensor(time, dtype=torch.float64))))

    def moments(self, process: Process, x: State, t: float, s: float) -> tuple[State, State]:
        """Return mean and variance of the state at s > t."""
        if s < t:
            raise ValueError(f"ancestral steps run forwards, got {t:g} to {s:g}; use a velocity solver to go back")
        now, later = (self._scales(time) for time in (t, s))
        (alpha, sigma), (to_alpha, to_sigma) = now[:2], later[:2]
        fresh = max(sigma**2 - (alpha / to_alpha * to_sigma) ** 2, 0.0)  # variance gained from s back to t
        nu = float(min(self.eta * fresh**0.5 / sigma, 1.0) * to_sigma) if sigma > 0 else 0.0
        keep = max(to_sigma**2 - nu**2, 0.0) ** 0.5
        data, source = (coefficients(Velocity(), end, now) for end in (Data(), Source()))
        on_state, on_velocity = (to_alpha * a + keep * b for a, b in zip(data, source, strict=True))

        def mean(now: Characteristics, x: Tensor) -> Tensor:
            if now.diffusion is not None or now.jumps is not None or now.velocity is None:
                raise ValueError("ancestral steps need a process with a velocity alone; they bring their own noise")
            return combine(on_state, x, on_velocity, now.velocity)

        def variance(x: Tensor) -> Tensor | None:
            return torch.full((1,) * x.ndim, nu**2, dtype=x.dtype, device=x.device) if nu else None

        return tree_map(mean, process(x, clock(x, t)), x), tree_map(variance, x)
