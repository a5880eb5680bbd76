"""Simulation of a drift between two times, in which diverging trajectories are resampled."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.control.bridges.drift_matching import BaseDrift
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.paths.brownian import BrownianBridge
from feller.sampling import Euler, trajectory

MAX_LOST_FRACTION = 0.01
"""Fraction of diverged trajectories above which a simulation raises an error."""
MAX_RETRIES = 5
"""Maximum number of times that diverged trajectories are resampled."""
DriftFn = Callable[[Tensor, Tensor], Tensor]
"""Function (x [n, *d], t [n]) -> drift, in state units per unit of global time."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Simulated trajectories between two times: the states, and the control at these states."""

    times: tuple[float, ...]
    """Times of the stored states, as global times of the problem, increasing."""
    states: Float[Tensor, " n times *d"]
    """States at these times, in order of increasing time; this also holds for the backward drift."""
    control: Float[Tensor, " n times *d"]
    """Drift minus the base drift at the states."""
    num_lost: int
    """Number of trajectories that diverged and were resampled."""

    def thin(self, number: int) -> "Trajectories":
        """Return the trajectories at `number` equally spaced times, both ends included."""
        every = (len(self.times) - 1) // (number - 1)
        return Trajectories(self.times[::every], self.states[:, ::every], self.control[:, ::every], self.num_lost)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounding box of trajectories."""

    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]

    @staticmethod
    def around(states: Float[Tensor, " n d"], noise: float, room: float = 1.0) -> "Bounds":
        """Return the bounding box of flattened states, with a margin of `room` * (largest extent) + 6 * `noise`."""
        low, high = states.amin(0), states.amax(0)
        margin = room * (high - low).max() + 6 * noise
        return Bounds(low - margin, high + margin)

    def contains(self, x: Float[Tensor, " n *d"]) -> Bool[Tensor, " n"]:
        """Return True for each state that is finite and inside the box."""
        x = x.flatten(1)
        return ((x >= self.low) & (x <= self.high)).all(1)


def simulate_drift(
    drift: DriftFn,
    sample_start: Callable[[Rng], Float[Tensor, " n *d"]],
    noise: float,
    times: Sequence[float],
    log_every: int,
    rng: Rng,
    *,
    box: Bounds | None = None,
    base_drift: BaseDrift | None = None,
    backward: bool = False,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Trajectories:
    """Simulate a drift; trajectories that leave the box are simulated again from new initial states.

    Args:
        drift: Function (x [n, *d], t [n]) -> forward or backward drift, in state units per unit of time.
        sample_start: Function (random streams) -> initial states; each call must return the same number of states.
        noise: Standard deviation at time 1 of the Brownian motion without drift.
        times: Step times, increasing.
        log_every: Steps between two stored states; must divide the number of steps.
        rng: Random streams.
        box: Region that trajectories must not leave; None for no limit.
        base_drift: Base drift of the forward process, in state units per unit of time. The control is the drift minus
            the base drift.
        backward: Simulate from the last time to the first.
        on_progress: Callback with the completed fraction.

    Raises:
        InputError: If more than 1 % of the trajectories diverge.
    """
    trajectories = _simulated(
        drift,
        sample_start(rng.fold_in("begin")),
        noise,
        times,
        log_every,
        rng,
        base_drift,
        on_progress,
        backward=backward,
    )
    if box is None:
        return trajectories
    total, lost = len(trajectories.states), 0
    states, control = trajectories.states, trajectories.control
    for attempt in range(MAX_RETRIES + 1):
        is_outside = ~torch.stack([box.contains(states[:, k]) for k in range(states.shape[1])]).all(0)
        num_outside = int(is_outside.sum())
        lost += num_outside
        if lost > max(MAX_LOST_FRACTION * total, 1):
            raise InputError(_divergence_message(lost, total))
        if not num_outside:
            return Trajectories(trajectories.times, states, control, lost)
        if attempt == MAX_RETRIES:
            break
        retry_rng = rng.fold_in("again", attempt)
        start = sample_start(retry_rng.fold_in("begin"))[is_outside]
        retried = _simulated(
            drift, start, noise, times, log_every, retry_rng, base_drift, lambda fraction: None, backward=backward
        )
        states, control = states.clone(), control.clone()
        states[is_outside], control[is_outside] = retried.states, retried.control
    raise InputError(_divergence_message(lost, total))


def _divergence_message(lost: int, total: int) -> str:
    return (
        f"{lost} of {total:,} trajectories diverged, more than {MAX_LOST_FRACTION:.0%}: the drift is undertrained."
        " Train longer (--train.steps), with a lower learning rate (--train.lr) or more pairs (--pairs), or use a"
        " weaker cost or another --noise"
    )


def _simulated(
    drift: DriftFn,
    x: Tensor,
    noise: float,
    times: Sequence[float],
    log_every: int,
    rng: Rng,
    base_drift: BaseDrift | None,
    on_progress: Callable[[float], None],
    *,
    backward: bool,
) -> Trajectories:
    """Simulate the drift; store states and controls."""
    logged_times = [*times[::log_every]]
    process = BrownianBridge(noise).process(lambda y, r, cond: drift(y, 1 - r if backward else r), {})

    def control(y: Tensor, t: Tensor) -> Tensor:
        if base_drift is None:
            return drift(y, t)
        base = base_drift(y.flatten(1), t).reshape(y.shape)
        return drift(y, t) + base if backward else drift(y, t) - base

    states = [x]
    with torch.no_grad():
        steps = [1 - t for t in reversed(times)] if backward else times
        for i, state in enumerate(trajectory(process, x, steps, Euler(), rng), 1):
            on_progress(i / (len(steps) - 1))
            if i % log_every == 0:
                states.append(state)
        states = states[::-1] if backward else states
        controls = [
            control(y, torch.full((len(y),), t, dtype=y.dtype, device=y.device))
            for y, t in zip(states, logged_times, strict=True)
        ]
    return Trajectories(tuple(logged_times), torch.stack(states, 1), torch.stack(controls, 1), 0)


def time_grid(times: Sequence[float], knots: int, nfe: int) -> tuple[list[float], int]:
    """Return the times of all simulation steps, and the number of steps between two knots."""
    max_duration = max(b - a for a, b in itertools.pairwise(times))
    steps_per_knot = max(1, math.ceil(nfe * max_duration / (knots - 1)))
    steps = steps_per_knot * (knots - 1)
    step_times = [a + (b - a) * k / steps for a, b in itertools.pairwise(times) for k in range(steps)]
    return [*step_times, times[-1]], steps_per_knot


def segments_of(times: Sequence[float]) -> list[tuple[float, float]]:
    """Return a pair (start, duration) for each segment between neighbouring times."""
    return [(a, b - a) for a, b in itertools.pairwise(times)]
