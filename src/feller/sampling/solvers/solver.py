"""Base classes of solvers, and operations that they share."""

import abc
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import RandomStream
from feller.paths.processes import Characteristics, Process, takes_end
from feller.paths.product import iter_leaf_paths
from feller.paths.schedules import is_same_schedule
from feller.spaces import Euclidean, Space
from feller.spaces.product import leaf_space, space_map


class Solver(abc.ABC):
    """Integrator of one simulation step; subclasses implement `step`."""

    nfe_per_step: ClassVar[int] = 1
    """Network evaluations per step."""
    stage_weights: ClassVar[tuple[float, ...]] = (1.0,)
    """Weight of each stage's velocity in a step; empty if the weights are not fixed."""

    @abc.abstractmethod
    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        """Advance a batch from time t to s."""

    def init_stepper(self) -> "Solver":
        """Return the solver for one simulation; a solver that keeps state between steps returns a new object."""
        return self

    def num_steps(self, nfe: int) -> int:
        """Return the largest number of steps that takes at most `nfe` network evaluations; 0 if `nfe` is too small."""
        return nfe // self.nfe_per_step

    def num_evaluations(self, steps: int) -> int:
        """Return the number of network evaluations of a simulation with this number of steps."""
        return steps * self.nfe_per_step


class MultistepSolver(Solver):
    """Solver whose steps use predictions of previous steps; subclasses implement `init_stepper`.

    `step` is a first step, without previous predictions.
    """

    stage_weights: ClassVar[tuple[float, ...]] = ()

    @abc.abstractmethod
    def init_stepper(self) -> "MultistepStepper":
        """Return a new stepper, which keeps the predictions of previous steps."""

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        return self.init_stepper().step(process, x, t, s, rng)


class GaussianSolver(Solver):
    """Solver whose step is Gaussian given x; subclasses implement `moments`."""

    @abc.abstractmethod
    def moments(self, process: Process, x: State, t: float, s: float) -> tuple[State, State]:
        """Return mean and variance of the state at time s, given the state x at time t.

        The variance broadcasts to the mean; it is None without noise.
        """

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        return tree_map(lambda mean, variance: add_noise(mean, variance, rng), *self.moments(process, x, t, s))


class MultistepStepper(Solver):
    """Stepper of one simulation by a multistep solver; `step` replaces `memory`, and does not modify it."""

    memory: tuple[Any, ...] = ()
    """Times, states and predictions of previous steps; empty before the first step."""


def space_of(solver: Solver) -> Space:
    """Return the space of a solver; UsageError if the solver has no space."""
    space = getattr(solver, "space", None)
    if space is None:
        raise UsageError("a solver with an attribute `space`", type(solver).__name__)
    return space


def with_space(solver: Solver, space: Space) -> Solver:
    """Return a copy of the solver that takes its steps in `space`; errors are those of `space_of`."""
    space_of(solver)
    return replace(cast(Any, solver), space=space)


def add_noise(mean: Tensor, variance: Tensor | None, rng: RandomStream) -> Tensor:
    """Return mean + sqrt(variance) noise; no noise for a variance of None."""
    if variance is None:
        return mean
    return torch.addcmul(mean, variance.sqrt(), rng.normal(mean.shape, mean.dtype, mean.device))


def check_solver(now: State, solver: Solver) -> None:
    """Check that a solver stays on the manifold to which the velocity of a process is tangent.

    `now` holds the characteristics that the process returned.

    Raises:
        UsageError: If a velocity is tangent to a manifold, and the solver's space is Euclidean.
    """
    solver_space = getattr(solver, "space", None)
    if solver_space is None:
        return

    def check(space: Space, leaf: Characteristics) -> None:
        if leaf.is_tangent and isinstance(space, Euclidean):
            name = type(solver).__name__
            raise UsageError(
                argument="solver",
                expected="a solver on the manifold to which the velocity is tangent",
                found=f"{name} in Euclidean space",
                remedy=f"Use {name}(space) with the manifold of the path",
            )

    space_map(check, solver_space, now)


def check_schedule(process: Process, solver: Solver) -> None:
    """Check that a solver with a schedule follows a process of an affine path with this schedule.

    Only processes returned by `Path.process` are checked, because others do not have a path.

    Raises:
        UsageError: If a path is not affine, or has another schedule than the solver.
    """
    path, schedule = getattr(process, "path", None), getattr(solver, "schedule", None)
    if path is None or schedule is None:
        return
    name = type(solver).__name__
    for leaf_path in iter_leaf_paths(path):
        affine_schedule = leaf_path.affine_schedule
        if affine_schedule is None:
            found, path_name = name, type(leaf_path).__name__
            expected = f"a solver for the path {path_name}, which is not affine"
            raise UsageError(argument="solver", expected=expected, found=found, remedy="Use Euler(space)")
        if not is_same_schedule(schedule, affine_schedule):
            raise UsageError(
                argument="solver",
                expected=f"{name} with {affine_schedule}, the schedule of the path",
                found=str(schedule),
                remedy=f"Use {name}(path.schedule)",
            )


def expand_time(x: State, t: float) -> Tensor:
    """Return a time broadcast to [b], in the dtype of the state."""
    if isinstance(x, dict):
        x = next((leaf for leaf in leaves(x) if leaf.is_floating_point()), next(leaves(x)))
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return torch.full((), t, dtype=dtype, device=x.device).expand(len(x))


def at_step(process: Process, x: State, t: float, s: float) -> State:
    """Return the characteristics at time t for a step that ends at s: of a flow map, the average velocity of the step.

    Other processes are evaluated at (x, t) alone.
    """
    return process(x, expand_time(x, t), expand_time(x, s)) if takes_end(process) else process(x, expand_time(x, t))


def follow_velocity(space: Space, x: State, *terms: tuple[float, State]) -> State:
    """Move the state x by the sum of h * velocity over `terms`; leaves (components) without a velocity stay.

    Each term is a pair: a time step h, and characteristics of the process, which hold the velocity.
    """
    if isinstance(x, dict):
        return {
            k: follow_velocity(leaf_space(space, k), leaf, *((h, term[k]) for h, term in terms))
            for k, leaf in x.items()
        }
    velocities = [(h, term.velocity) for h, term in terms if term.velocity is not None]
    if not velocities:
        return x
    if len(velocities) == 1:
        return space.integrate_step(x, velocities[0][1], velocities[0][0])
    (h, velocity), *others = velocities
    total = h * velocity
    for h, velocity in others:
        total = torch.add(total, velocity, alpha=h)
    return space.step(x, total)


def velocity_at_start(space: Space, x: State, y: State, now: State) -> State:
    """Map the velocities of the characteristics `now`, taken at y, to the tangent space at x."""

    def at_start(space: Space, x: Tensor, y: Tensor, leaf: Characteristics) -> Characteristics:
        if leaf.velocity is None or space.is_flat:
            return leaf
        return replace(leaf, velocity=space.log_differential(x, y, leaf.velocity))

    return space_map(at_start, space, x, y, now)


def apply_jumps(x: State, first: State, last: State, s: float, rng: RandomStream) -> State:
    """Apply the jumps of one step that ends at time s, and return the new state.

    Jumps occur with the hazards (rates of leaving a state) of the first stage, and lead to the destinations of the last
    stage. `first` and `last` are the characteristics of the process at these stages. A leaf without a flow did not move
    between stages, so its destinations come from the first stage too: the last stage would combine the old state of
    the leaf with a later time.
    """
    if isinstance(x, dict):
        return {k: apply_jumps(leaf, first[k], last[k], s, rng) for k, leaf in x.items()}
    if first.jumps is None:
        return x
    jumps = first.jumps if first.velocity is None else first.jumps.with_destinations(last.jumps)
    return jumps.apply(x, s, rng)


def check_direction(now: State, t: float, s: float) -> None:
    """Raise an error if a process has noise or jumps, for a solver step backward in time, from t to s < t.

    `now` holds the characteristics that the process returned.
    """
    if any(leaf.diffusion is not None or leaf.jumps is not None for leaf in leaves(now)):
        expected, found = "an increasing grid for a process with noise or jumps", f"a step from {t:g} to {s:g}"
        raise UsageError(argument="times", expected=expected, found=found, remedy="Reverse the process first")


def check_no_noise(now: Characteristics, solver: str) -> None:
    """Raise an error if a process has noise, for a solver that does not support noise.

    `now` holds the characteristics that the process returned; `solver` is the name of the solver, for the message.
    """
    if now.diffusion is not None:
        expected = "Euler(), for a process with noise"
        raise UsageError(argument="solver", expected=expected, found=solver)


def flow_velocity(now: Characteristics, solver: str) -> Tensor:
    """Return the velocity of a process, for a solver that supports neither noise nor jumps.

    `now` holds the characteristics that the process returned; `solver` is the name of the solver, for the message.

    Raises:
        UsageError: If the process has noise or jumps, or no velocity.
    """
    check_no_noise(now, solver)
    if now.jumps is not None or now.velocity is None:
        expected = "Euler() or Midpoint(), for a process with jumps"
        raise UsageError(argument="solver", expected=expected, found=solver)
    return now.velocity


def check_continuous(x: State, solver: str) -> None:
    """Raise an error if the state is a tensor of tokens, for a solver that needs a continuous state.

    In a dict, tokens are allowed next to other leaves. `solver` is the name of the solver, for the message.
    """
    if isinstance(x, Tensor) and not x.is_floating_point():
        raise UsageError(argument="solver", expected="Euler(), for a state of tokens", found=solver)
