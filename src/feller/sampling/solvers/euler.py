"""Euler and Euler-Maruyama solver, with exact jumps."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind
from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import RandomStream
from feller.paths.processes import Characteristics, Process
from feller.sampling.solvers.solver import (
    GaussianSolver,
    add_noise,
    apply_jumps,
    at_step,
    check_direction,
    follow_velocity,
)
from feller.spaces import Euclidean, Space
from feller.spaces.product import space_map


@dataclass(frozen=True)
class Euler(GaussianSolver):
    """Euler-Maruyama solver with exact jumps: order 1 for an ODE, weak order 1 for an SDE.

    A step of a flow map is exact: it follows the average velocity from t to s.
    """

    space: Space = field(default_factory=Euclidean)
    """Space of the state; a product has one space per leaf."""

    def __post_init__(self) -> None:
        check_kind("space", self.space, Space, "feller.Sphere()")

    def moments(self, process: Process, x: State, t: float, s: float) -> tuple[State, State]:
        """Return the mean and the variance of the state at time s, given the state x at time t.

        The mean is x + h * velocity and the variance h * diffusion, with the step size h = s - t.

        Raises:
            UsageError: If the process has jumps, which are not Gaussian.
        """
        now = at_step(process, x, t, s)
        if any(leaf.jumps is not None for leaf in leaves(now)):
            raise UsageError("a process with jumps has no Gaussian step", remedy="Use `step`")
        return self._moments(now, x, t, s)

    def _moments(self, now: State, x: State, t: float, s: float) -> tuple[State, State]:
        if s < t:
            check_direction(now, t, s)
        space_map(_check_flat, self.space, now)

        def variance(leaf: Characteristics, x: Tensor) -> Tensor | None:
            return None if leaf.diffusion is None else torch.clamp((s - t) * leaf.diffusion, min=0)

        return follow_velocity(self.space, x, (s - t, now)), tree_map(variance, now, x)

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        """Apply drift, then noise, then jumps."""
        now = at_step(process, x, t, s)
        if isinstance(now, Characteristics) and now.diffusion is None and (now.jumps is None or s >= t):
            y = follow_velocity(self.space, x, (s - t, now))  # without the walks of a tree
            return apply_jumps(y, now, now, s, rng)
        y = tree_map(lambda mean, variance: add_noise(mean, variance, rng), *self._moments(now, x, t, s))
        return apply_jumps(y, now, now, s, rng)


def _check_flat(space: Space, leaf: Characteristics) -> None:
    if leaf.diffusion is not None and not space.is_flat:
        raise UsageError("noise requires a flat space", found=type(space).__name__, remedy="Remove the noise")
