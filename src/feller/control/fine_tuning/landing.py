"""An adjoint whose noise vanishes as the control becomes optimal."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from feller.control.fine_tuning.fine_tuning import velocity, where_counted
from feller.control.fine_tuning.memoryless_chain import Chain, Step, squared
from feller.core.pytree import State, leaves, tree_like, tree_map
from feller.paths.processes import Process
from feller.sampling.solvers.solver import clock


def landing_steps(base: Process, chain: Chain, gradient: State, tuned: Process) -> Iterator[Step]:
    """Yield the steps from the last to the first, each with the adjoint of its end, of cost, noise and reward.

    With the noise z of a step and its control u, the sum of u^2 / 2 + u z along a path, minus the reward, is minus
    the log of what the tilt weighs the path by: at the optimum it is the same number for all paths from one state, and
    its gradient there is the same for all, which is that of the value. Elsewhere the mean of u z is zero, so that the
    mean is that of the adjoint of the controlled chain.

    Args:
        base: The flow before fine-tuning.
        chain: The roll-out.
        gradient: Of the reward at the end, times its strength.
        tuned: The flow that was rolled out.
    """
    adjoint = tree_map(torch.neg, gradient)
    for number in reversed(range(len(chain.states))):
        linear = chain.linear(number)
        went = linear.mean(chain.states[number], chain.velocities[number])
        later = chain.states[number + 1] if number + 1 < len(chain.states) else went  # the last step has no noise
        noise = tree_map(lambda y, mean, step=linear: (y - mean) / math.sqrt(step.variance), later, went)
        with torch.enable_grad():
            x = tree_map(lambda leaf: leaf.detach().requires_grad_(), chain.states[number])
            time = clock(x, chain.times[number])
            before = velocity(base, x, time)
            followed = where_counted(chain.given, time, velocity(tuned, x, time), before)
            step = Step(number, linear, tree_map(Tensor.detach, before), adjoint)
            size = math.sqrt(step.weight)
            told = step.weight / 2 * squared(followed, before)
            outputs, slopes = [told], [torch.ones_like(told)]
            for v, b, z, a in zip(*map(leaves, (followed, before, noise, adjoint)), strict=True):
                outputs += [linear.on_velocity * v, size * (v - b)]
                slopes += [a, z]
            pulled = tree_like(x, torch.autograd.grad(outputs, list(leaves(x)), slopes))
        yield step
        adjoint = tree_map(lambda pull, a, linear=linear: torch.add(pull, a, alpha=linear.on_state), pulled, adjoint)
