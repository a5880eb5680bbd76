"""Adams-Bashforth solvers: multistep methods of order 2 to 4 with one network evaluation per step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from feller.core.errors import UsageError, check_kind
from feller.core.pytree import State, leaves
from feller.core.rng import RandomStream
from feller.paths.processes import Process
from feller.sampling.solvers.euler import Euler
from feller.sampling.solvers.runge_kutta import RK4, Midpoint
from feller.sampling.solvers.solver import (
    MultistepSolver,
    MultistepStepper,
    Solver,
    check_continuous,
    expand_time,
    flow_velocity,
    follow_velocity,
    velocity_at_start,
)
from feller.spaces import Euclidean, Space

STARTERS = {2: Euler, 3: Midpoint, 4: RK4}
"""Order of an Adams-Bashforth method -> the one-step method of its first order - 1 steps."""


@dataclass(frozen=True)
class AdamsBashforth(MultistepSolver):
    """Adams-Bashforth method for flows, on any time grid.

    A step follows the integral of the polynomial through the velocities of the last `order` steps. The first order - 1
    steps are steps of Euler's method for order 2, of the midpoint method for order 3, and of RK4 for order 4; they
    preserve the order. On a manifold, velocities are mapped to the tangent space at the start of the step.
    """

    order: int = 2
    """Order of the method: 2, 3 or 4."""
    space: Space = field(default_factory=Euclidean)
    """Space of the state; a product has one space per leaf."""

    def __post_init__(self) -> None:
        check_kind("space", self.space, Space, "feller.Sphere()")
        if self.order not in STARTERS:
            raise UsageError("order 2, 3 or 4", self.order, argument="order")

    @property
    def starter(self) -> Solver:
        """Method of the first order - 1 steps."""
        return STARTERS[self.order](self.space)

    def num_steps(self, nfe: int) -> int:
        per_step, starting = self.starter.nfe_per_step, self.order - 1
        return nfe - (per_step - 1) * starting if nfe >= per_step * starting else nfe // per_step

    def num_evaluations(self, steps: int) -> int:
        return steps + (self.starter.nfe_per_step - 1) * min(steps, self.order - 1)

    def init_stepper(self) -> MultistepStepper:
        return _AdamsBashforthStepper(self)


class _AdamsBashforthStepper(MultistepStepper):
    """Stepper whose memory holds the time, the state and the characteristics of each of the last steps."""

    def __init__(self, rule: AdamsBashforth) -> None:
        self.rule = rule

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        rule, name, space = self.rule, type(self.rule).__name__, self.rule.space
        check_continuous(x, name)
        first_stage = process(x, expand_time(x, t))
        for leaf in leaves(first_stage):
            flow_velocity(leaf, name)
        self.memory = (*self.memory, (t, x, first_stage))[-rule.order :]
        if len(self.memory) < rule.order:
            stages = iter([first_stage])  # the starter's first evaluation is at x and t, too
            return rule.starter.step(lambda y, r: next(stages, None) or process(y, r), x, t, s, rng)
        weights = adams_weights([time for time, *_ in self.memory], t, s)
        terms = [
            (weight, velocity_at_start(space, x, y, now))
            for weight, (_, y, now) in zip(weights, self.memory, strict=True)
        ]
        return follow_velocity(space, x, *terms)


def adams_weights(nodes: Sequence[float], t: float, s: float) -> list[float]:
    """Return the weights of the values of a function at `nodes` in the integral of their polynomial from t to s."""
    h = s - t
    offsets = torch.tensor([(node - t) / h for node in nodes], dtype=torch.float64)
    powers = torch.arange(len(nodes), dtype=torch.float64)
    moments = 1 / (powers + 1)
    return (h * torch.linalg.solve(offsets[None] ** powers[:, None], moments)).tolist()
