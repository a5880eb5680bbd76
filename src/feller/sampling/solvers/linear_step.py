"""Gaussian steps whose mean is linear in state and velocity: what fine-tuning takes apart."""

import abc
from typing import NamedTuple

import torch
from torch import Tensor

from feller.core.pytree import State, tree_map
from feller.paths.processes import Characteristics, Process
from feller.paths.schedules import Scales, Schedule
from feller.sampling.solvers.solver import GaussianSolver, clock


class LinearStep(NamedTuple):
    """x_s = on_state x_t + on_velocity v(x_t, t) + sqrt(variance) noise."""

    on_state: float
    on_velocity: float
    variance: float

    def mean(self, x: State, velocity: State) -> State:
        """Return the mean of the state at s."""
        return tree_map(lambda x, v: torch.add(self.on_state * x, v, alpha=self.on_velocity), x, velocity)


class LinearSolver(GaussianSolver):
    """Follows the flow of an affine path, to which it brings its own noise. Implement `linear` to add one."""

    @abc.abstractmethod
    def linear(self, t: float, s: float) -> LinearStep:
        """Return the step from t to s."""

    def moments(self, process: Process, x: State, t: float, s: float) -> tuple[State, State]:
        """Return mean and variance of the state at s > t.

        Raises:
            ValueError: If time runs backwards, or the process is no flow.
        """
        name = type(self).__name__
        if s < t:
            raise ValueError(f"{name} runs forwards, got {t:g} to {s:g}; use a velocity solver to go back")
        step = self.linear(t, s)

        def velocity(now: Characteristics) -> Tensor:
            if now.diffusion is not None or now.jumps is not None or now.velocity is None:
                raise ValueError(f"{name} needs a process with a velocity alone; it brings its own noise")
            return now.velocity

        def variance(x: Tensor) -> Tensor | None:
            return torch.full((1,) * x.ndim, step.variance, dtype=x.dtype, device=x.device) if step.variance else None

        return step.mean(x, tree_map(velocity, process(x, clock(x, t)))), tree_map(variance, x)


def scales_at(schedule: Schedule, time: float) -> Scales:
    """Return the scales at one time, as floats."""
    return Scales(*map(float, schedule(torch.tensor(time, dtype=torch.float64))))
