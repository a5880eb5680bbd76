"""Rules of order 2 and 4 for velocities; jumps happen once a step, with the last call's prediction."""

from dataclasses import dataclass, field
from typing import ClassVar

from feller.draws import Draw
from feller.processes import Process
from feller.simulate.solver import Solver, clock, flow, jump, refuse_backwards, refuse_noise
from feller.spaces import Euclidean, Space
from feller.tree import State, leaves


def _checked(now: State, t: float, s: float, solver: str) -> State:
    for leaf in leaves(now):
        refuse_noise(leaf, solver)
    if s < t:
        refuse_backwards(now, t, s)
    return now


@dataclass(frozen=True)
class Midpoint(Solver):
    """Order 2, two calls: the velocity half-way."""

    space: Space = field(default_factory=Euclidean)
    """Where the state lives; a product has one space per leaf."""
    calls: ClassVar[int] = 2

    def step(self, process: Process, x: State, t: float, s: float, draw: Draw) -> State:
        """Look at the velocity at the middle of an Euler step, and follow it."""
        h = s - t
        first = _checked(process(x, clock(x, t)), t, s, "Midpoint")
        middle = flow(self.space, x, (h / 2, first))
        second = process(middle, clock(x, t + h / 2))
        return jump(flow(self.space, x, (h, second)), first, second, s, draw)


@dataclass(frozen=True)
class Heun(Solver):
    """Order 2, two calls: the mean of the velocities at both ends."""

    space: Space = field(default_factory=Euclidean)
    """Where the state lives; a product has one space per leaf."""
    calls: ClassVar[int] = 2

    def step(self, process: Process, x: State, t: float, s: float, draw: Draw) -> State:
        """Average the velocity here and where it leads."""
        h = s - t
        first = _checked(process(x, clock(x, t)), t, s, "Heun")
        second = process(flow(self.space, x, (h, first)), clock(x, s))
        return jump(flow(self.space, x, (h / 2, first), (h / 2, second)), first, second, s, draw)


@dataclass(frozen=True)
class RK4(Solver):
    """Order 4, four calls: the classical rule."""

    space: Space = field(default_factory=Euclidean)
    """Where the state lives; a product has one space per leaf."""
    calls: ClassVar[int] = 4

    def step(self, process: Process, x: State, t: float, s: float, draw: Draw) -> State:
        """Combine velocities at the start, twice in the middle, and at the end."""
        h = s - t
        a = _checked(process(x, clock(x, t)), t, s, "RK4")
        b = process(flow(self.space, x, (h / 2, a)), clock(x, t + h / 2))
        c = process(flow(self.space, x, (h / 2, b)), clock(x, t + h / 2))
        d = process(flow(self.space, x, (h, c)), clock(x, s))
        return jump(flow(self.space, x, (h / 6, a), (h / 3, b), (h / 3, c), (h / 6, d)), a, d, s, draw)
