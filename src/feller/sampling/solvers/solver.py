"""What every solver offers, and the moves that all of them share."""

import abc
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import RandomStream
from feller.paths.processes import Characteristics, Process
from feller.spaces import Euclidean, Space
from feller.spaces.product import leaf_space, space_map


class Solver(abc.ABC):
    """One step of a simulation. Implement one method to add one."""

    nfe_per_step: ClassVar[int] = 1
    """Network calls per step."""
    stage_weights: ClassVar[tuple[float, ...]] = (1.0,)
    """Share of each call in the step, one for each call that it makes; empty where that is not known beforehand."""

    @abc.abstractmethod
    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        """Move a batch from time t to s."""

    def init_stepper(self) -> "Solver":
        """Return what makes the steps of one simulation; a solver with memory starts afresh here."""
        return self


class GaussianSolver(Solver):
    """A solver whose step is Gaussian given x. Implement `moments`; `step` follows."""

    @abc.abstractmethod
    def moments(self, process: Process, x: State, t: float, s: float) -> tuple[State, State]:
        """Return mean of the state at s, and variance, which may broadcast to it; None for a leaf without noise."""

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        return tree_map(lambda mean, variance: add_noise(mean, variance, rng), *self.moments(process, x, t, s))


def space_of(solver: Solver) -> Space:
    """Return where a solver moves states.

    Raises:
        UsageError: If it moves in no space of its own.
    """
    space = getattr(solver, "space", None)
    if space is None:
        raise UsageError(expected=f"a solver that moves in a space; {type(solver).__name__} has none")
    return space


def with_space(solver: Solver, space: Space) -> Solver:
    """Return a solver that moves in another space; errors as for `space_of`."""
    space_of(solver)
    return replace(cast(Any, solver), space=space)


def add_noise(mean: Tensor, variance: Tensor | None, rng: RandomStream) -> Tensor:
    """Return mean + sqrt(variance) noise."""
    if variance is None:
        return mean
    return torch.addcmul(mean, variance.sqrt(), rng.normal(mean.shape, mean.dtype, mean.device))


def check_solver(now: State, solver: Solver) -> None:
    """Refuse a solver that would leave the manifold of a process.

    Raises:
        UsageError: If a velocity is tangent to a manifold, and the solver moves in a Euclidean space.
    """
    space = getattr(solver, "space", None)
    if space is not None:
        space_map(lambda space, now: _check_manifold(space, now, solver), space, now)


def _check_manifold(space: Space, now: Characteristics, solver: Solver) -> None:
    if now.is_tangent and isinstance(space, Euclidean):
        name = type(solver).__name__
        raise UsageError(
            argument="solver",
            expected="one that moves on the manifold to which the velocity is tangent",
            found=f"{name} along straight lines, which leave it",
            remedy=f"Write {name}(space) with the manifold of the path",
        )


def expand_time(x: State, t: float) -> Tensor:
    """Return the time as the network wants it, [b], in the state's precision."""
    if isinstance(x, dict):
        x = next((leaf for leaf in leaves(x) if leaf.is_floating_point()), next(leaves(x)))
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return torch.full((), t, dtype=dtype, device=x.device).expand(len(x))


def follow_velocity(space: Space, x: State, *terms: tuple[float, State]) -> State:
    """Follow a combination of velocities, each for its time; leaves without velocity stay."""
    if isinstance(x, dict):
        return {
            k: follow_velocity(leaf_space(space, k), leaf, *((h, now[k]) for h, now in terms)) for k, leaf in x.items()
        }
    moving = [(h, now.velocity) for h, now in terms if now.velocity is not None]
    if not moving:
        return x
    if len(moving) == 1:
        return space.integrate_step(x, moving[0][1], moving[0][0])
    (h, velocity), *others = moving
    total = h * velocity
    for h, velocity in others:
        total = torch.add(total, velocity, alpha=h)
    return space.step(x, total)


def velocity_at_start(space: Space, x: State, y: State, now: State) -> State:
    """Bring the velocities of a process at y to x, where they can be combined with those there."""
    return space_map(_leaf_velocity_at_start, space, x, y, now)


def _leaf_velocity_at_start(space: Space, x: Tensor, y: Tensor, now: Characteristics) -> Characteristics:
    if now.velocity is None:
        return now
    velocity = space.log_differential(x, y, now.velocity)
    return now if velocity is now.velocity else replace(now, velocity=velocity)


def apply_jumps(x: State, first: State, last: State, s: float, rng: RandomStream) -> State:
    """Let those jump whom the first call's hazard picks, to where the last call lets them land.

    A leaf without a flow stood still between the calls, so only the first call knows where it may land: the last one
    would ask about an old state at a later time.
    """
    if isinstance(x, dict):
        return {k: apply_jumps(leaf, first[k], last[k], s, rng) for k, leaf in x.items()}
    if first.jumps is None:
        return x
    jumps = first.jumps if first.velocity is None else first.jumps.with_destinations(last.jumps)
    return jumps.apply(x, s, rng)


def check_direction(now: State, t: float, s: float) -> None:
    """Refuse noise and jumps on a decreasing grid, where they would spread what they should gather."""
    if any(leaf.diffusion is not None or leaf.jumps is not None for leaf in leaves(now)):
        expected, found = "an increasing grid, since the process has noise or jumps", f"a step from {t:g} to {s:g}"
        raise UsageError(argument="times", expected=expected, found=found, remedy="Reverse the process first")


def check_no_noise(now: Characteristics, solver: str) -> None:
    """Refuse a diffusion where a solver has no place for it."""
    if now.diffusion is not None:
        expected = "Euler(), since the process has noise"
        raise UsageError(argument="solver", expected=expected, found=solver)


def check_continuous(x: State, solver: str) -> None:
    """Refuse a state of symbols alone where a solver follows velocities; beside other leaves they may jump."""
    if isinstance(x, Tensor) and not x.is_floating_point():
        raise UsageError(argument="solver", expected="Euler(), since symbols jump", found=solver)
