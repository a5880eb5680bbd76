"""Trajectories of a drift between two times, and a guard against those that run away."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.control.bridges.drift_matching import Base
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.paths.brownian import BrownianBridge
from feller.sampling import Euler, trajectory

MOST_LOST = 0.01
"""Share of trajectories that may run away before all are given up."""
AGAIN = 5
"""Times that those that ran away are walked anew."""
Way = Callable[[Tensor, Tensor], Tensor]
"""(x [n, *d], t [n]) -> drift, in state per time of the journey."""


@dataclass(frozen=True, eq=False)
class Walk:
    """Trajectories between two times."""

    times: tuple[float, ...]
    """Increasing, of the whole journey."""
    states: Float[Tensor, " n times *d"]
    """In the order of the times, also where the drift goes back."""
    control: Float[Tensor, " n times *d"]
    """The drift there, less what acts by itself."""
    lost: int
    """Trajectories that ran away and were walked anew."""

    def thinned(self, number: int) -> "Walk":
        """Return the trajectories at so many equally spaced ones of their times, both ends among them."""
        every = (len(self.times) - 1) // (number - 1)
        return Walk(self.times[::every], self.states[:, ::every], self.control[:, ::every], self.lost)


@dataclass(frozen=True, eq=False)
class Box:
    """Where trajectories may be."""

    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]

    @staticmethod
    def around(states: Float[Tensor, " n d"], noise: float, room: float = 1.0) -> "Box":
        """Return the box of flat states with room for a greatest extent of them, and for the noise, on all sides."""
        low, high = states.amin(0), states.amax(0)
        beyond = room * (high - low).max() + 6 * noise
        return Box(low - beyond, high + beyond)

    def holds(self, x: Float[Tensor, " n *d"]) -> Bool[Tensor, " n"]:
        """Tell which states are inside, and finite."""
        x = x.flatten(1)
        return ((x >= self.low) & (x <= self.high)).all(1)


def walk(
    way: Way,
    begin: Callable[[Rng], Float[Tensor, " n *d"]],
    noise: float,
    times: Sequence[float],
    logged: int,
    draws: Rng,
    *,
    box: Box | None = None,
    base: Base | None = None,
    backward: bool = False,
    tell: Callable[[float], None] = lambda share: None,
) -> Walk:
    """Simulate from fresh states; those that leave the box are begun anew.

    Args:
        way: The drift ahead, or that back in time.
        begin: Gives the first states, always as many.
        noise: Deviation of a free walk after the whole journey.
        times: Of the steps, increasing.
        logged: Every so many steps a state is kept; divides their number.
        draws: Source of all randomness.
        box: Where trajectories may be; None for everywhere.
        base: What of the drift acts by itself, in state per time ahead, and is no control.
        backward: Walk from the last time to the first.
        tell: Hears which share of the steps is done.

    Raises:
        InputError: If more than 1 % run away.
    """
    kept = _simulated(way, begin(draws.fold_in("begin")), noise, times, logged, draws, base, tell, backward=backward)
    if box is None:
        return kept
    total, lost = len(kept.states), 0
    states, control = kept.states, kept.control
    for again in range(AGAIN + 1):
        gone = ~torch.stack([box.holds(states[:, k]) for k in range(states.shape[1])]).all(0)
        number = int(gone.sum())
        lost += number
        _check_lost(lost, total)
        if not number:
            return Walk(kept.times, states, control, lost)
        if again == AGAIN:
            break
        anew = draws.fold_in("again", again)
        start = begin(anew.fold_in("begin"))[gone]
        more = _simulated(way, start, noise, times, logged, anew, base, lambda share: None, backward=backward)
        states, control = states.clone(), control.clone()
        states[gone], control[gone] = more.states, more.control
    raise InputError(_advice(lost, total))


def _check_lost(lost: int, total: int) -> None:
    if lost > max(MOST_LOST * total, 1):
        raise InputError(_advice(lost, total))


def _advice(lost: int, total: int) -> str:
    return (
        f"{lost} of {total:,} trajectories ran away, more than {MOST_LOST:.0%}: the drift is not learned well enough to"
        " go on. Train it longer (--train.steps), with a lower rate (--train.lr) or more pairs (--pairs), or choose a"
        " weaker cost or another --noise"
    )


def _simulated(
    way: Way,
    x: Tensor,
    noise: float,
    times: Sequence[float],
    logged: int,
    draws: Rng,
    base: Base | None,
    tell: Callable[[float], None],
    *,
    backward: bool,
) -> Walk:
    """Follow the drift, and note states and drifts."""
    seen = [*times[::logged]]
    process = BrownianBridge(noise).process(lambda y, r, given: way(y, 1 - r if backward else r), {})

    def control(y: Tensor, t: Tensor) -> Tensor:
        if base is None:
            return way(y, t)
        own = base(y.flatten(1), t).reshape(y.shape)
        return way(y, t) + own if backward else way(y, t) - own

    states = [x]
    with torch.no_grad():
        steps = [1 - t for t in reversed(times)] if backward else times
        for number, state in enumerate(trajectory(process, x, steps, Euler(), draws), 1):
            tell(number / (len(steps) - 1))
            if number % logged == 0:
                states.append(state)
        states = states[::-1] if backward else states
        controls = [
            control(y, torch.full((len(y),), t, dtype=y.dtype, device=y.device))
            for y, t in zip(states, seen, strict=True)
        ]
    return Walk(tuple(seen), torch.stack(states, 1), torch.stack(controls, 1), 0)


def grid(times: Sequence[float], knots: int, calls: int) -> tuple[list[float], int]:
    """Return the times of all steps through some legs, and how many of them lie between two knots of any.

    Args:
        times: Where legs begin and end.
        knots: Of each leg, at equally spaced times.
        calls: Steps that a journey from 0 to 1 takes at least.
    """
    longest = max(b - a for a, b in itertools.pairwise(times))
    between = max(1, math.ceil(calls * longest / (knots - 1)))
    steps = between * (knots - 1)
    made = [a + (b - a) * k / steps for a, b in itertools.pairwise(times) for k in range(steps)]
    return [*made, times[-1]], between


def legs_of(times: Sequence[float]) -> list[tuple[float, float]]:
    """Return the legs between neighbouring times: start and length."""
    return [(a, b - a) for a, b in itertools.pairwise(times)]
