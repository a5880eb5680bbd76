"""Simulation of Markov processes with a solver on a time grid."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from feller.core.errors import UsageError, found_instead
from feller.core.pytree import State, StateT, is_concrete, leaves, tree_map
from feller.core.rng import Rng, check_rng
from feller.paths.processes import Characteristics, Process, like_process
from feller.sampling.solvers.solver import MultistepSolver, MultistepStepper, Solver, check_schedule, check_solver


def trajectory(
    process: Process, x: StateT, times: Sequence[float], solver: Solver, rng: Rng, *, recompute: bool = False
) -> Iterator[StateT]:
    """Simulate a process, and yield the state after each step.

    Args:
        process: Process to simulate.
        x: State at `times[0]`, [b, ...].
        times: Time grid in [0, 1]; decreasing only for a process without noise and jumps.
        solver: Integrator of each step.
        rng: Random numbers; one stream per step.
        recompute: Gradient checkpointing: keep one state per step and run the network again in the backward pass. This
            takes 1.4 to 1.6 times as long if only the state requires gradients, 1.2 to 1.3 times if the weights do too.

    Raises:
        UsageError: If the state is not a tensor or a dict of tensors; if the grid has fewer than two times, is not
            monotonic, or leaves [0, 1]; if the process returns no characteristics, a velocity whose shape is not that
            of the state, or a negative diffusion; if the velocity is tangent to a manifold but the space of the solver
            is Euclidean; or if the solver's schedule is not that of the path.
    """
    check_time_grid(times)
    check_rng(rng)
    for leaf in leaves(x):
        if not isinstance(leaf, Tensor):
            expected, found = "a tensor [b, ...], or a dict of tensors", found_instead(leaf)
            raise UsageError(argument="x", expected=expected, found=found, remedy="Write torch.as_tensor(x)")
    if not isinstance(solver, Solver):
        name = getattr(solver, "__name__", type(solver).__name__)
        remedy = f"Use {name}()" if isinstance(solver, type) else None
        raise UsageError(argument="solver", expected="a solver", found=name, remedy=remedy)
    check_schedule(process, solver)
    is_one_step = recompute and not isinstance(solver, MultistepSolver)  # an adaptive step size is not restored
    stepper = solver if is_one_step else solver.init_stepper()
    observed_mask = getattr(process, "observed_mask", None)  # solvers with noise of their own move observed entries

    def checked_process(x: State, t: State, *end: State) -> State:
        now = process(x, t, *end)
        check_characteristics(now, x)  # other shapes could broadcast silently
        check_solver(now, solver)
        return now

    first_process = like_process(checked_process, process)

    def advance(x: State, memory: tuple[Any, ...], t: float, s: float, i: int) -> tuple[State, tuple[Any, ...]]:
        if isinstance(stepper, MultistepStepper):
            stepper.memory = memory  # a recomputed step starts with the memory that it had
        y = stepper.step(process if i else first_process, x, t, s, rng.stream("simulate", i))
        if observed_mask is not None:
            y = tree_map(torch.where, observed_mask, x, y)
        return y, stepper.memory if isinstance(stepper, MultistepStepper) else ()

    memory: tuple[Any, ...] = ()
    for i, (t, s) in enumerate(pairwise(times)):
        if recompute:
            x, memory = checkpoint(advance, x, memory, t, s, i, use_reentrant=False)
        else:
            x, memory = advance(x, memory, t, s, i)
        yield x


def simulate(
    process: Process, x: StateT, times: Sequence[float], solver: Solver, rng: Rng, *, recompute: bool = False
) -> StateT:
    """Simulate a process, and return the state at the last time; arguments and errors are those of `trajectory`."""
    for x in trajectory(process, x, times, solver, rng, recompute=recompute):  # noqa: B007, B020 - only the last counts
        pass
    return x


def check_characteristics(now: State, x: State, context: str = "") -> None:
    """Check that the result `now` of a process has the leaves (components) and shapes of the state x.

    Each leaf must be a `Characteristics` (velocity, diffusion and jumps). Messages start with the text `context`.
    """
    if isinstance(x, dict) and isinstance(now, dict):
        if now.keys() != x.keys():
            raise UsageError(
                f"{context}the process returns characteristics of {', '.join(now)}, but the state consists of"
                f" {', '.join(x)}"
            )
        for name, leaf in x.items():
            check_characteristics(now[name], leaf, context)
    elif not isinstance(now, Characteristics) or isinstance(x, dict):
        found = "None" if now is None else f"a {type(now).__name__}"
        expected = (
            "in a dict with the components of the state"
            if isinstance(x, dict)
            else "such as Characteristics(velocity=...)"
        )
        raise UsageError(f"{context}a process must return Characteristics, {expected}", found=found)
    elif now.velocity is not None and not isinstance(now.velocity, Tensor):
        raise UsageError(f"{context}a velocity must be a tensor", found=f"a {type(now.velocity).__name__}")
    elif now.velocity is not None and now.velocity.shape != x.shape:
        raise UsageError(
            f"{context}the velocity has shape {list(now.velocity.shape)}, but the state has shape {list(x.shape)}"
        )
    elif isinstance(now.diffusion, Tensor) and is_concrete(now.diffusion) and bool((now.diffusion < 0).any()):
        raise UsageError(
            f"{context}a diffusion is a variance, which is not negative", found=f"{float(now.diffusion.min()):g}"
        )


def check_time_grid(times: Sequence[float]) -> None:
    """Check that a time grid is finite, strictly monotonic and within [0, 1]."""
    if not isinstance(times, Sequence):
        found = f"a {type(times).__name__}" if hasattr(times, "shape") else repr(times)
        raise _time_grid_error("a list of floats", found, "Use linear_grid(20), or grid.tolist()")
    if len(times) < 2:
        raise _time_grid_error("at least two times", f"{len(times)}")
    first_bad = next((i for i, t in enumerate(times) if not math.isfinite(t)), None)
    if first_bad is not None:
        raise _time_grid_error("finite times", f"{times[first_bad]:g} at index {first_bad}")
    if not 0 <= min(times) <= max(times) <= 1:
        found = f"[{min(times):g}, {max(times):g}]"
        raise _time_grid_error("times in [0, 1]", found, "Divide step indices by the number of steps")
    steps = [s - t for t, s in pairwise(times)]
    if min(steps) * max(steps) <= 0:
        raise _time_grid_error("strictly increasing or strictly decreasing times", "a grid that is neither")


def _time_grid_error(expected: str, found: str, remedy: str | None = None) -> UsageError:
    return UsageError(argument="times", expected=expected, found=found, remedy=remedy)
