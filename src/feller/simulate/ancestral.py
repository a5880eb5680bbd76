"""Steps that go through the predicted ends: denoise, then put the right noise back."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.paths.predictions import Velocity, ends
from feller.processes import Characteristics, Process
from feller.schedules import Linear, Schedule
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

    def moments(self, process: Process, x: State, t: float, s: float) -> tuple[State, State]:
        """Return mean and variance of the state at s > t."""
        if s < t:
            raise ValueError(f"ancestral steps run forwards, got {t:g} to {s:g}; use a velocity solver to go back")
        time = torch.tensor([t, s], dtype=torch.float64)
        scales = self.schedule(time)
        alpha, sigma = (torch.as_tensor(number).expand(2).tolist() for number in scales[:2])
        shrink = alpha[0] / alpha[1]
        fresh = max(sigma[0] ** 2 - shrink**2 * sigma[1] ** 2, 0.0)  # variance gained from s back to t
        nu = min(self.eta * fresh**0.5 / sigma[0], 1.0) * sigma[1] if sigma[0] > 0 else 0.0
        keep = max(sigma[1] ** 2 - nu**2, 0.0) ** 0.5

        def mean(now: Characteristics, x: Tensor) -> Tensor:
            if now.diffusion is not None or now.jumps is not None or now.velocity is None:
                raise ValueError("ancestral steps need a process with a velocity alone; they bring their own noise")
            x_1, x_0 = ends(now.velocity, Velocity(), x, self.schedule(clock(x, t)))
            return alpha[1] * x_1 + keep * x_0

        now = process(x, clock(x, t))
        return tree_map(mean, now, x), tree_map(lambda x: torch.full_like(x, nu**2) if nu else None, x)
