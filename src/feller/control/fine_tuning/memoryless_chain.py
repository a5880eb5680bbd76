"""The chain of memoryless steps that fine-tuning controls: forwards under a network, and its adjoint backwards."""

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
    """States that a network went through, and where it wanted to go from each."""

    states: list[State]
    """At all times but the last."""
    velocities: list[State]
    """Of the network that was followed, there."""
    end: State
    """At the last time, without the noise of the last step."""
    times: Sequence[float]
    """The grid."""
    solver: LinearSolver
    """What made the steps."""
    cond: Cond = field(default_factory=dict)
    """Conditions, which say what counts."""

    def linear(self, number: int) -> LinearStep:
        """Return what a step did to states and velocities."""
        return self.solver.linear_step(self.times[number], self.times[number + 1])


def roll_out(
    process: Process, x_0: State, times: Sequence[float], solver: LinearSolver, rng: Rng, cond: Cond | None = None
) -> MemorylessChain:
    """Follow a flow with the noise of the solver, but in the last step, so that the reward sees what samples are."""
    velocities: list[State] = []

    def recording_process(x: State, t: State) -> State:
        now = process(x, t)
        velocities.append(tree_map(lambda part: part.velocity, now))
        return now

    states = [x_0, *trajectory(recording_process, x_0, times[:-1], solver, rng)]
    end, _ = solver.moments(recording_process, states[-1], times[-2], times[-1])
    return MemorylessChain(states, velocities, end, times, solver, cond or {})


def control_cost(base: Process, chain: MemorylessChain) -> Float[Tensor, " b"]:
    """Return half the squared control along each path: its mean is the divergence from the base, in nats.

    It is that of paths from one source, which bounds the divergence of their ends from above, and is that if the
    followed network samples the base's law tilted by a function of the end.

    Args:
        base: The flow before fine-tuning.
        chain: Roll-outs of the other, with memoryless noise.
    """
    costs = []
    for number, (x, followed) in enumerate(zip(chain.states, chain.velocities, strict=True)):
        t = expand_time(x, chain.times[number])
        step = ChainStep(number, chain.linear(number), velocity(base, x, t), followed)
        costs.append(step.cost(select_counted(chain.cond, t, followed, step.base)))
    return torch.stack(costs).sum(0)


@dataclass(frozen=True)
class ChainStep:
    """One step of a chain, as the regression sees it."""

    number: int
    linear: LinearStep
    base: State
    """Velocity of the frozen network."""
    adjoint: State
    """Of the end of the step: minus what the reward gains as that state moves, under the base."""

    def target(self) -> State:
        """Return the velocity that the control at this state and adjoint asks for."""
        pull = self.linear.variance / self.linear.on_velocity
        return tree_map(lambda v, a: torch.sub(v, a, alpha=pull), self.base, self.adjoint)

    @property
    def weight(self) -> float:
        """Squared control for a squared difference of velocities, times the length of the step."""
        return control_weight(self.linear)

    def cost(self, velocity: State) -> Float[Tensor, " b"]:
        """Return half the squared control of another velocity, times the length of the step."""
        return self.weight / 2 * squared_distance(velocity, self.base)


def control_weight(linear: LinearStep) -> float:
    """Return the squared control for a squared difference of velocities, times the length of the step."""
    return linear.on_velocity**2 / linear.variance


def squared_distance(a: State, b: State) -> Float[Tensor, " b"]:
    """Return the squared distance of states, over all their numbers, [b]."""
    each = tree_map(lambda x, y: (x - y).square().flatten(1).sum(1), a, b)
    return torch.stack(list(leaves(each))).sum(0)


def adjoint_steps(
    base: Process, chain: MemorylessChain, gradient: State, tuned: Process | None = None
) -> Iterator[ChainStep]:
    """Yield the steps from the last to the first, each with the adjoint of its end.

    The adjoint is the transpose of the steps themselves, so that it belongs to the chain for any number of them; each
    takes one product with a Jacobian, and no graph is kept.

    Args:
        base: The flow before fine-tuning.
        chain: The roll-out.
        gradient: Of the reward at the end, times its strength.
        tuned: The flow that was rolled out, for the adjoint of the controlled chain and its cost; None for the lean
            one, of the base alone.
    """
    adjoint = tree_map(torch.neg, gradient)
    for number in reversed(range(len(chain.states))):
        linear = chain.linear(number)
        with torch.enable_grad():
            x = tree_map(lambda leaf: leaf.detach().requires_grad_(), chain.states[number])
            time = expand_time(x, chain.times[number])
            base_velocity = velocity(base, x, time)
            step = ChainStep(number, linear, tree_map(Tensor.detach, base_velocity), adjoint)
            followed = base_velocity
            if tuned is not None:
                followed = select_counted(chain.cond, time, velocity(tuned, x, time), base_velocity)
            outputs = [linear.on_velocity * part for part in leaves(followed)]
            slopes = list(leaves(adjoint))
            if tuned is not None:
                cost = step.weight / 2 * squared_distance(followed, base_velocity)
                outputs, slopes = [*outputs, cost], [*slopes, torch.ones_like(cost)]
            pulled = tree_unflatten(x, torch.autograd.grad(outputs, list(leaves(x)), slopes))
        yield step
        adjoint = tree_map(lambda pull, a, linear=linear: torch.add(pull, a, alpha=linear.on_state), pulled, adjoint)
