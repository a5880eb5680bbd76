"""The one loop that follows a process."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from feller.core.errors import UsageError
from feller.core.pytree import State, StateT
from feller.core.rng import Rng, check_rng
from feller.paths.processes import Characteristics, Process
from feller.sampling.solvers.solver import Solver, check_solver


def trajectory(
    process: Process,
    x: StateT,
    times: Sequence[float],
    solver: Solver,
    rng: Rng,
    *,
    recompute: bool = False,
) -> Iterator[StateT]:
    """Yield the state after each step.

    Args:
        process: What to follow.
        x: The state at `times[0]`, tensors [b, ...].
        times: Where to stop, in [0, 1]; decreasing for a pure velocity only.
        solver: Makes each step.
        rng: Source of the noise.
        recompute: Keep one state per step and run the network again in the backward pass: memory no longer grows with
            the network. Time grows to 1.4 to 1.6 of it where only the state has a gradient (a call beside one and
            its backward pass), to 1.2 to 1.3 of it where the weights have one, too.

    Raises:
        UsageError: If fewer than two times are given, one is no finite number in [0, 1], or they change direction; if
            in the first step the process returns no characteristics, or a velocity of another shape than the state; or
            if the velocity is tangent to a manifold that the solver does not know.
    """
    check_time_grid(times)
    check_rng(rng)
    if not isinstance(solver, Solver):
        name = getattr(solver, "__name__", type(solver).__name__)
        remedy = f"Write {name}()" if isinstance(solver, type) else None
        raise UsageError(argument="solver", expected="a solver", found=name, remedy=remedy)
    stepper = (
        solver if recompute else solver.init_stepper()
    )  # memory of earlier steps would not come back when recomputed

    first = _checked(process, solver)

    def advance(x: State, t: float, s: float, i: int) -> State:
        return stepper.step(process if i else first, x, t, s, rng.stream("simulate", i))

    for i, (t, s) in enumerate(pairwise(times)):
        x = checkpoint(advance, x, t, s, i, use_reentrant=False) if recompute else advance(x, t, s, i)
        yield x


def simulate(
    process: Process, x: StateT, times: Sequence[float], solver: Solver, rng: Rng, *, recompute: bool = False
) -> StateT:
    """Return the state at the last time; arguments and errors as for `trajectory`."""
    for x in trajectory(process, x, times, solver, rng, recompute=recompute):  # noqa: B007, B020 - only the last counts
        pass
    return x


def _checked(process: Process, solver: Solver) -> Process:
    """Check what a process returns: shapes, since a velocity of one column would move all alike, and the solver."""

    def checked(x: State, t: State) -> State:
        now = process(x, t)
        check_characteristics(now, x)
        check_solver(now, solver)
        return now

    return checked


def check_characteristics(now: State, x: State, context: str = "") -> None:
    """Refuse what no solver could follow, and a velocity that would be broadcast."""
    if isinstance(x, dict) and isinstance(now, dict):
        if now.keys() != x.keys():
            raise UsageError(f"{context}the process tells of {', '.join(now)}, and the state has {', '.join(x)}")
        for name, leaf in x.items():
            check_characteristics(now[name], leaf, context)
    elif not isinstance(now, Characteristics) or isinstance(x, dict):
        got = "None" if now is None else f"a {type(now).__name__}"
        expected = "a dict of them, one for each leaf of the state" if isinstance(x, dict) else "as velocity=..."
        raise UsageError(f"{context}a process returns Characteristics, {expected}", found=got)
    elif now.velocity is not None and not isinstance(now.velocity, Tensor):
        raise UsageError(f"{context}a velocity is a tensor like the state", found=f"a {type(now.velocity).__name__}")
    elif now.velocity is not None and now.velocity.shape != x.shape:
        raise UsageError(
            f"{context}the velocity is {list(now.velocity.shape)} and the state {list(x.shape)}; a velocity has the"
            " shape of its state"
        )


def check_time_grid(times: Sequence[float]) -> None:
    """Refuse a grid that no solver could follow."""
    if not isinstance(times, Sequence):
        found = f"a {type(times).__name__}" if hasattr(times, "shape") else repr(times)
        raise _time_grid_error("a list of floats", found, "Write linear_grid(20), or grid.tolist()")
    if len(times) < 2:
        raise _time_grid_error("a start and an end", f"{len(times)} of them")
    first_bad = next((i for i, t in enumerate(times) if not math.isfinite(t)), None)
    if first_bad is not None:
        raise _time_grid_error("finite numbers", f"{times[first_bad]:g} at place {first_bad}")
    if not 0 <= min(times) <= max(times) <= 1:
        found = f"[{min(times):g}, {max(times):g}]"
        raise _time_grid_error("numbers in [0, 1]", found, "Divide steps by their number")
    steps = [s - t for t, s in pairwise(times)]
    if min(steps) * max(steps) <= 0:
        raise _time_grid_error("a grid that strictly increases or strictly decreases", "one that does neither")


def _time_grid_error(expected: str, found: str, remedy: str | None = None) -> UsageError:
    return UsageError(argument="times", expected=expected, found=found, remedy=remedy)
