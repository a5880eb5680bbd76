"""Rules of order 2 and 4 for velocities; jumps happen once a step, with the last call's prediction.

On a manifold each rule runs in the tangent space at the start of the step, whose points are those of the manifold
through the exponential map: it keeps its order and never leaves the manifold.
"""

import abc
from dataclasses import dataclass, field
from typing import ClassVar

from feller.core.errors import check_kind
from feller.core.pytree import State, leaves
from feller.core.rng import Draw
from feller.paths.processes import Process
from feller.sampling.solvers.solver import (
    Solver,
    clock,
    flow,
    jump,
    pull,
    refuse_backwards,
    refuse_noise,
    refuse_symbols,
)
from feller.spaces import Euclidean, Space


@dataclass(frozen=True)
class RungeKutta(Solver):
    """An explicit rule whose calls each look ahead along the velocity before them, as the classical ones do."""

    space: Space = field(default_factory=Euclidean)
    """Where the state lives; a product has one space per leaf."""

    def __post_init__(self) -> None:
        check_kind("space", self.space, Space, "feller.Sphere()")

    @property
    @abc.abstractmethod
    def nodes(self) -> tuple[float, ...]:
        """How far ahead each call but the first looks, in steps."""

    def step(self, process: Process, x: State, t: float, s: float, draw: Draw) -> State:
        """Look ahead, and follow the weighted mean of what was seen.

        Raises:
            UsageError: If the state is of symbols alone, which no velocity moves.
        """
        h, space = s - t, self.space
        refuse_symbols(x, type(self).__name__)
        first = last = process(x, clock(x, t))
        for leaf in leaves(first):
            refuse_noise(leaf, type(self).__name__)
        if h < 0:
            refuse_backwards(first, t, s)
        seen, curved = [first], not space.flat
        for node in self.nodes:
            y = flow(space, x, (h * node, last))
            last = process(y, clock(x, t + node * h))
            if curved:
                last = pull(space, x, y, last)
            seen.append(last)
        end = flow(space, x, *[(h * weight, now) for weight, now in zip(self.weights, seen, strict=True) if weight])
        return jump(end, first, last, s, draw)


@dataclass(frozen=True)
class Midpoint(RungeKutta):
    """Order 2, two calls: the velocity half-way."""

    calls: ClassVar[int] = 2
    nodes = (0.5,)
    weights = (0.0, 1.0)


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Order 2, two calls: the mean of the velocities at both ends."""

    calls: ClassVar[int] = 2
    nodes = (1.0,)
    weights = (0.5, 0.5)


@dataclass(frozen=True)
class RK4(RungeKutta):
    """Order 4, four calls: the classical rule."""

    calls: ClassVar[int] = 4
    nodes = (0.5, 0.5, 1.0)
    weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
