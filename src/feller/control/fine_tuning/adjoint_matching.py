"""Adjoint Matching: fine-tune a model so that it samples its distribution tilted by a reward."""

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.fine_tuning.memoryless_chain import (
    ChainStep,
    MemorylessChain,
    adjoint_steps,
    roll_out,
    squared_distance,
)
from feller.control.fine_tuning.tuning_objective import (
    FineTuningObjective,
    MemorylessFineTuning,
    select_counted,
    velocity,
)
from feller.control.rewards.reward import reward_gradient
from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State, leaves, num_examples, tree_map, tree_unflatten
from feller.core.rng import Rng
from feller.paths import Network
from feller.paths.processes import Process
from feller.paths.schedules import Linear
from feller.paths.time_distributions import linear_grid
from feller.sampling import LinearSolver, MemorylessEuler
from feller.sampling.solvers.solver import expand_time
from feller.training.objective import Batch, Example, Objective, TrainingContext


def landing_steps(base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
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
        mean_end = linear.mean(chain.states[number], chain.velocities[number])
        later = chain.states[number + 1] if number + 1 < len(chain.states) else mean_end  # the last step has no noise
        noise = tree_map(lambda y, mean, step=linear: (y - mean) / math.sqrt(step.variance), later, mean_end)
        with torch.enable_grad():
            x = tree_map(lambda leaf: leaf.detach().requires_grad_(), chain.states[number])
            time = expand_time(x, chain.times[number])
            before = velocity(base, x, time)
            followed = select_counted(chain.cond, time, velocity(tuned, x, time), before)
            step = ChainStep(number, linear, tree_map(Tensor.detach, before), adjoint)
            size = math.sqrt(step.weight)
            control_cost = step.weight / 2 * squared_distance(followed, before)
            outputs, slopes = [control_cost], [torch.ones_like(control_cost)]
            for v, b, z, a in zip(*map(leaves, (followed, before, noise, adjoint)), strict=True):
                outputs += [linear.on_velocity * v, size * (v - b)]
                slopes += [a, z]
            pulled = tree_unflatten(x, torch.autograd.grad(outputs, list(leaves(x)), slopes))
        yield step
        adjoint = tree_map(lambda pull, a, linear=linear: torch.add(pull, a, alpha=linear.on_state), pulled, adjoint)


class Weighting(abc.ABC):
    """How much the velocity counts at each time; every choice has the same minimiser.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    @abc.abstractmethod
    def weight(self, step: ChainStep) -> float:
        """Return the factor on half the squared difference of velocities."""


@dataclass(frozen=True)
class ByControl(Weighting):
    """Squared controls, as the paper has them: little early, much late.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    def weight(self, step: ChainStep) -> float:
        return step.weight


@dataclass(frozen=True)
class ByVelocity(Weighting):
    """Squared velocities, all alike.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    def weight(self, step: ChainStep) -> float:
        return step.linear.on_velocity


class Adjoint(abc.ABC):
    """What is followed back from the end.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    @abc.abstractmethod
    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        """Yield the steps from the last to the first; arguments as for `landing_steps`."""


@dataclass(frozen=True)
class LeanAdjoint(Adjoint):
    """The base alone: what the optimum makes zero on average is left out, and with it most of the noise.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        return adjoint_steps(base, chain, gradient)


@dataclass(frozen=True)
class FullAdjoint(Adjoint):
    """The controlled chain and its cost: the gradient of the control problem itself, known as continuous adjoint.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        return adjoint_steps(base, chain, gradient, tuned)


@dataclass(frozen=True)
class LandingAdjoint(Adjoint):
    """The same with the noise of the chain in the cost, which takes the noise of the adjoint away at the optimum.

    Where the lean adjoint tells each round little about a state, as with many modes or a strong reward.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        return landing_steps(base, chain, gradient, tuned)


@dataclass(frozen=True, kw_only=True)
class AdjointMatching(MemorylessFineTuning):
    """Regress the velocity on what the lean adjoint of memoryless roll-outs asks for.

    The only fixed point is the law p(x) exp(strength reward(x)), up to its total mass. It is no descent: the loss says
    nothing of progress, the reward and the divergence from the base do. First rounds overshoot.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    step_fraction: float = 0.5
    """Of these, those that the loss looks at: the last quarter, and others by chance."""
    solver: LinearSolver = field(default_factory=MemorylessEuler)
    """Makes the steps. With another than memoryless noise the start is not forgotten, and what is learned is not the
    tilted law."""
    weighting: Weighting = ByControl()
    adjoint: Adjoint = LeanAdjoint()
    ceiling: float | None = None
    """Losses of single states beyond which they do not count. It hides what tells modes apart, so that they are tilted
    too little; None for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ceiling", self.ceiling, gt=0)
        if getattr(self.solver, "schedule", Linear()) != Linear():
            raise UsageError(
                "roll-outs follow straight paths, whatever the model's", remedy="Leave the schedule linear"
            )
        if not self.solver.linear_step(1 - 1 / self.steps, 1.0).variance > 0:
            raise UsageError(f"{type(self.solver).__name__} has no noise in its last step, which cannot be tuned then")
        check_number("step_fraction", self.step_fraction, gt=0, le=1)

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective with reference and reward; its cost is half the squared control along a roll-out."""
        return AdjointMatchingObjective(self, context)

    def compare(self, process: Process, example: Example) -> Float[Tensor, " b"]:
        """Return half the weighted squared difference of velocities, over all numbers."""
        x_t, t = example["x_t"], example["t"]
        found = select_counted(example["given"], t, velocity(process, x_t, t), example["target"])
        losses = example["weight"] / 2 * squared_distance(found, example["target"])
        return losses if self.ceiling is None else losses.clamp(max=self.ceiling)


class AdjointMatchingObjective(FineTuningObjective):
    """Adjoint matching with its base and reward.

    Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
    """

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Roll out the network, ask the reward about the ends, and go back along the adjoint of the base.

        Returns:
            States and the velocity that each asks for; `reward` of the end of its roll-out, and `cost`, half the
            squared control along it: their means tell how it goes, the second is the divergence from the base in nats.
        """
        config, x_0, cond = self.config, batch["x_0"], batch.get("given", {})
        times, solver = linear_grid(config.steps), config.solver
        tuned, base = (self.flow(one, cond) for one in (network, self.reference))
        with torch.no_grad():
            chain = roll_out(tuned, x_0, times, solver, rng, cond)
        reward, gradient = reward_gradient(self.reward, chain.end, cond)
        slope = tree_map(lambda leaf: config.reward_scale * leaf, gradient)
        selected_steps = _sample_steps(config.steps, config.step_fraction, rng)
        cost, examples = torch.zeros_like(reward), []
        for step in config.adjoint.steps(base, chain, slope, tuned):
            t = expand_time(chain.end, times[step.number])
            cost = cost + step.cost(select_counted(cond, t, chain.velocities[step.number], step.base))
            if step.number in selected_steps:
                examples.append(self._example(step, chain, times[step.number], cond))
        labelled_examples = [{**example, "reward": reward, "cost": cost} for example in examples]
        return tree_map(
            lambda *steps: torch.stack(steps, 1).flatten(0, 1), *labelled_examples
        )  # all steps of a row together

    def _example(self, step: ChainStep, chain: MemorylessChain, t: float, cond: Cond) -> Example:
        x_t = chain.states[step.number]
        n, some = num_examples(x_t), next(leaves(x_t))
        return {
            "x_t": x_t,
            "t": torch.full((n,), t, dtype=some.dtype, device=some.device),
            "given": cond,
            "target": step.target(),
            "weight": torch.full((n,), self.config.weighting.weight(step), dtype=some.dtype, device=some.device),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        return self.config.compare(self.flow(network, example["given"]), example)


def _sample_steps(steps: int, step_fraction: float, rng: Rng) -> set[int]:
    """Choose the last quarter of the steps, and others by chance, one choice for the whole batch."""
    count = max(1, round(step_fraction * steps))
    last = min(count, steps // 4)
    others = torch.randperm(steps - last, generator=rng.stream("steps").shared_generator())[: count - last]
    return {*range(steps - last, steps), *others.tolist()}
