"""Rules of order 2 and 4 for velocities; jumps happen once a step, with the last call's prediction.

On a manifold each rule runs in the tangent space at the start of the step, whose points are those of the manifold
through the exponential map: it keeps its order and never leaves the manifold.
"""

import abc
from dataclasses import dataclass, field
from typing import ClassVar

from feller.draws import Draw
from feller.processes import Process
from feller.simulate.solver import Solver, clock, flow, jump, pull, refuse_backwards, refuse_noise
from feller.spaces import Euclidean, Space
from feller.tree import State, leaves


@dataclass(frozen=True)
class RungeKutta(Solver):
    """An explicit rule, given by its tableau."""

    space: Space = field(default_factory=Euclidean)
    """Where the state lives; a product has one space per leaf."""

    @property
    @abc.abstractmethod
    def nodes(self) -> tuple[float, ...]:
        """When each call but the first looks, in steps."""

    @property
    @abc.abstractmethod
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """What each call but the first adds of the velocities before it."""

    def step(self, process: Process, x: State, t: float, s: float, draw: Draw) -> State:
        """Look ahead along the rows, and follow the weighted mean of what was seen."""
        h = s - t
        first = last = process(x, clock(x, t))
        for leaf in leaves(first):
            refuse_noise(leaf, type(self).__name__)
        if h < 0:
            refuse_backwards(first, t, s)
        seen = [first]
        for node, row in zip(self.nodes, self.rows, strict=True):
            y = flow(self.space, x, *[(h * a, now) for a, now in zip(row, seen, strict=True) if a])
            last = pull(self.space, x, y, process(y, clock(x, t + node * h)))
            seen.append(last)
        end = flow(self.space, x, *[(h * b, now) for b, now in zip(self.weights, seen, strict=True) if b])
        return jump(end, first, last, s, draw)


@dataclass(frozen=True)
class Midpoint(RungeKutta):
    """Order 2, two calls: the velocity half-way."""

    calls: ClassVar[int] = 2
    nodes = (0.5,)
    rows = ((0.5,),)
    weights = (0.0, 1.0)


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Order 2, two calls: the mean of the velocities at both ends."""

    calls: ClassVar[int] = 2
    nodes = (1.0,)
    rows = ((1.0,),)
    weights = (0.5, 0.5)


@dataclass(frozen=True)
class RK4(RungeKutta):
    """Order 4, four calls: the classical rule."""

    calls: ClassVar[int] = 4
    nodes = (0.5, 0.5, 1.0)
    rows = ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0))
    weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
