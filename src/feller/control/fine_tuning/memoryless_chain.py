"""Memoryless sampling chain for fine-tuning: roll-outs under a network, and their adjoint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.fine_tuning.tuning_objective import select_counted, velocity
from feller.core.pytree import Cond, State, leaves, tree_map, tree_unflatten
from feller.core.rng import Rng
from feller.paths.processes import Process
from feller.sampling import LinearSolver, LinearStep, trajectory
from feller.sampling.solvers.solver import expand_time


@dataclass(frozen=True)
class MemorylessChain:
    """Roll-out: states and velocities of a batch of trajectories that was simulated from source to data."""

    states: list[State]
    """States at all times but the last."""
    velocities: list[State]
    """Velocities of the rolled-out network at these states."""
    end: State
    """State at the last time, without noise in the last step."""
    times: Sequence[float]
    """Times of the states, from source to data."""
    solver: LinearSolver
    """Solver with which the steps were computed."""
    cond: Cond = field(default_factory=dict)
    """Conditions, which include the loss mask."""

    def linear(self, number: int) -> LinearStep:
        """Return the coefficients of step `number`; a step is affine in the state and the velocity."""
        return self.solver.linear_step(self.times[number], self.times[number + 1])


def roll_out(
    process: Process, x_0: State, times: Sequence[float], solver: LinearSolver, rng: Rng, cond: Cond | None = None
) -> MemorylessChain:
    """Simulate a flow with the noise that the solver adds, and record the states and velocities.

    The last step has no noise, so that the samples for the reward are clean.
    """
    velocities: list[State] = []

    def recording_process(x: State, t: State) -> State:
        characteristics = process(x, t)
        velocities.append(tree_map(lambda leaf: leaf.velocity, characteristics))
        return characteristics

    states = [x_0, *trajectory(recording_process, x_0, times[:-1], solver, rng)]
    # The last step uses the tuned velocity, not the base velocity of appendix G.1 of arXiv 2409.08861.
    end, _ = solver.moments(recording_process, states[-1], times[-2], times[-1])
    return MemorylessChain(states, velocities, end, times, solver, cond or {})


@dataclass(frozen=True)
class ChainStep:
    """One step of a roll-out, with the base velocity and the adjoint from which its target velocity is computed."""

    number: int
    linear: LinearStep
    base: State
    """Velocity of the frozen base network."""
    adjoint: State
    """Adjoint at the end of the step: minus the gradient of the value function."""

    def target(self) -> State:
        """Return the velocity of the optimal control given the adjoint."""
        coefficient = self.linear.variance / self.linear.on_velocity
        return tree_map(lambda v, a: torch.sub(v, a, alpha=coefficient), self.base, self.adjoint)

    @property
    def weight(self) -> float:
        """Factor that converts the squared change of the base velocity to (squared control) * (step length)."""
        return control_weight(self.linear)

    def cost(self, velocity: State) -> Float[Tensor, " b"]:
        """Return half the squared control that changes the base velocity to `velocity`, times the step length."""
        return self.weight / 2 * squared_distance(velocity, self.base)


def control_weight(linear: LinearStep) -> float:
    """Return the factor that converts the squared change of the base velocity to (squared control) * (step length).

    `linear` contains the coefficients of the step.
    """
    return linear.on_velocity**2 / linear.variance


def squared_distance(a: State, b: State) -> Float[Tensor, " b"]:
    """Return the squared distance of states, summed over all entries, [b]."""
    per_leaf = tree_map(lambda x, y: (x - y).square().flatten(1).sum(1), a, b)
    return torch.stack(list(leaves(per_leaf))).sum(0)


def adjoint_steps(
    base: Process, chain: MemorylessChain, gradient: State, tuned: Process | None = None
) -> Iterator[ChainStep]:
    """Yield the steps of a roll-out from last to first, each with the adjoint at its end.

    The adjoint is the exact transpose of the discrete steps, so it is consistent for any number of steps. Each step
    takes one vector-Jacobian product; no graph is kept.

    Args:
        base: Flow before fine-tuning.
        chain: Roll-out: states and velocities of a simulated batch.
        gradient: Gradient of the scaled reward with respect to the end states.
        tuned: Flow that was simulated, for the full adjoint; None for the lean adjoint, which uses the base only.
    """
    adjoint = tree_map(torch.neg, gradient)  # a(1) = -grad r; Algorithm 2 of the paper prints the wrong sign
    for i in reversed(range(len(chain.states))):
        linear = chain.linear(i)
        with torch.enable_grad():
            x = tree_map(lambda leaf: leaf.detach().requires_grad_(), chain.states[i])
            time = expand_time(x, chain.times[i])
            base_velocity = velocity(base, x, time)
            step = ChainStep(i, linear, tree_map(Tensor.detach, base_velocity), adjoint)
            path_velocity = base_velocity
            if tuned is not None:
                path_velocity = select_counted(chain.cond, time, velocity(tuned, x, time), base_velocity)
            outputs = [linear.on_velocity * v for v in leaves(path_velocity)]
            grad_outputs = list(leaves(adjoint))
            if tuned is not None:
                cost = step.weight / 2 * squared_distance(path_velocity, base_velocity)
                outputs, grad_outputs = [*outputs, cost], [*grad_outputs, torch.ones_like(cost)]
            vjps = tree_unflatten(x, torch.autograd.grad(outputs, list(leaves(x)), grad_outputs))
        yield step
        adjoint = tree_map(lambda vjp, a, linear=linear: torch.add(vjp, a, alpha=linear.on_state), vjps, adjoint)
