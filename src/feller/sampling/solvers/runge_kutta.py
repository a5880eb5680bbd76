"""Explicit Runge-Kutta solvers of order 2 and 4; jumps occur once per step, with the last stage's prediction.

On a manifold, each method runs in the tangent space at the start of the step, and maps points to the manifold by the
exponential map. This preserves the order of the method.
"""

import abc
from dataclasses import dataclass, field
from typing import ClassVar

from feller.core.errors import check_kind
from feller.core.pytree import State, leaves
from feller.core.rng import RandomStream
from feller.paths.processes import Process
from feller.sampling.solvers.solver import (
    Solver,
    apply_jumps,
    check_continuous,
    check_direction,
    check_no_noise,
    expand_time,
    follow_velocity,
    velocity_at_start,
)
from feller.spaces import Euclidean, Space


@dataclass(frozen=True)
class RungeKutta(Solver):
    """Explicit Runge-Kutta method in which each stage depends only on the previous stage, as in classical methods."""

    space: Space = field(default_factory=Euclidean)
    """Space of the state; a product has one space per leaf."""

    def __post_init__(self) -> None:
        check_kind("space", self.space, Space, "feller.Sphere()")

    @property
    @abc.abstractmethod
    def nodes(self) -> tuple[float, ...]:
        """Times of the stages after the first, as fractions of the step."""

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        """Advance from t to s: evaluate all stages, and follow the weighted mean of their velocities.

        Raises:
            UsageError: If the state has only tokens.
        """
        h, space = s - t, self.space
        check_continuous(x, type(self).__name__)
        first_stage = last_stage = process(x, expand_time(x, t))
        for leaf in leaves(first_stage):
            check_no_noise(leaf, type(self).__name__)
        if h < 0:
            check_direction(first_stage, t, s)
        stages = [first_stage]
        for node in self.nodes:
            y = follow_velocity(space, x, (h * node, last_stage))
            last_stage = process(y, expand_time(x, t + node * h))
            if not space.is_flat:
                last_stage = velocity_at_start(space, x, y, last_stage)
            stages.append(last_stage)
        terms = [(h * weight, stage) for weight, stage in zip(self.stage_weights, stages, strict=True) if weight]
        return apply_jumps(follow_velocity(space, x, *terms), first_stage, last_stage, s, rng)


@dataclass(frozen=True)
class Midpoint(RungeKutta):
    """Midpoint method: order 2, two network evaluations per step."""

    nfe_per_step: ClassVar[int] = 2
    nodes = (0.5,)
    stage_weights = (0.0, 1.0)


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Heun's method: order 2, two network evaluations per step; mean of the velocities at both ends."""

    nfe_per_step: ClassVar[int] = 2
    nodes = (1.0,)
    stage_weights = (0.5, 0.5)


@dataclass(frozen=True)
class RK4(RungeKutta):
    """Classical Runge-Kutta method: order 4, four network evaluations per step."""

    nfe_per_step: ClassVar[int] = 4
    nodes = (0.5, 0.5, 1.0)
    stage_weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
