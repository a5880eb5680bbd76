"""The one loop that follows a process."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch.utils.checkpoint import checkpoint

from feller.draws import Draws
from feller.processes import Process
from feller.simulate.solver import Solver
from feller.tree import State


def simulate(
    process: Process,
    x: State,
    times: Sequence[float],
    solver: Solver,
    draws: Draws,
    *,
    recompute: bool = False,
) -> Iterator[State]:
    """Yield the state after each step.

    Args:
        process: What to follow.
        x: The state at `times[0]`, tensors [b, ...].
        times: Where to stop, in [0, 1]; decreasing for a pure velocity only.
        solver: Makes each step.
        draws: Source of the noise.
        recompute: Keep one state per step and run the network again in the backward
            pass: memory no longer grows with the network, time grows by about a third.

    Raises:
        ValueError: If fewer than two times are given, one lies outside [0, 1], or they change direction.
    """
    check_times(times)
    if not isinstance(solver, Solver):
        name = getattr(solver, "__name__", type(solver).__name__)
        raise ValueError(f"expected a solver, got {name}" + (f"; say {name}()" if isinstance(solver, type) else ""))
    stepper = solver if recompute else solver.begin()  # memory of earlier steps would not come back when recomputed

    def advance(x: State, t: float, s: float, i: int) -> State:
        return stepper.step(process, x, t, s, draws.at("simulate", i))

    for i, (t, s) in enumerate(pairwise(times)):
        x = checkpoint(advance, x, t, s, i, use_reentrant=False) if recompute else advance(x, t, s, i)
        yield x


def endpoint(
    process: Process, x: State, times: Sequence[float], solver: Solver, draws: Draws, *, recompute: bool = False
) -> State:
    """Return the state at the last time; arguments and errors as for `simulate`."""
    for x in simulate(process, x, times, solver, draws, recompute=recompute):  # noqa: B007, B020 - only the last counts
        pass
    return x


def check_times(times: Sequence[float]) -> None:
    """Refuse a grid that no solver could follow."""
    if not isinstance(times, Sequence):
        raise ValueError(f"times must be a sequence of numbers, such as linear_grid({times}), got {times!r}")
    if len(times) < 2:
        raise ValueError(f"times must hold a start and an end, got {len(times)} of them")
    if not all(map(math.isfinite, times)) or not 0 <= min(times) <= max(times) <= 1:
        raise ValueError(
            f"times must lie in [0, 1], got [{min(times):g}, {max(times):g}]; divide steps by their number"
        )
    steps = [s - t for t, s in pairwise(times)]
    if min(steps) * max(steps) <= 0:
        raise ValueError("times must strictly increase or strictly decrease")
