"""Adjoint Matching: fine-tune a model to sample its distribution tilted by a reward.

Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
"""

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
    """Yield the steps of a roll-out from last to first, each with its adjoint (gradient of the remaining path cost).

    The path cost is the control cost plus the noise term minus the reward.

    Each step has a noise z and a control u. The sum of u^2 / 2 + u z along a path, minus the reward, is minus the log
    weight of the path under the tilted distribution. At the optimum this sum is the same for all paths from one state,
    so its gradient has no variance and equals the gradient of the value function. As E[u z] = 0, the mean of this
    gradient is the adjoint of the controlled chain.

    Args:
        base: Flow before fine-tuning.
        chain: Roll-out: states and velocities of a simulated batch.
        gradient: Gradient of the scaled reward with respect to the end states.
        tuned: Flow that was simulated, that is, the flow being fine-tuned.
    """
    adjoint = tree_map(torch.neg, gradient)
    for i in reversed(range(len(chain.states))):
        linear = chain.linear(i)
        mean_end = linear.mean(chain.states[i], chain.velocities[i])
        next_state = chain.states[i + 1] if i + 1 < len(chain.states) else mean_end  # the last step has no noise
        noise = tree_map(lambda y, mean, step=linear: (y - mean) / math.sqrt(step.variance), next_state, mean_end)
        with torch.enable_grad():
            x = tree_map(lambda leaf: leaf.detach().requires_grad_(), chain.states[i])
            time = expand_time(x, chain.times[i])
            base_velocity = velocity(base, x, time)
            tuned_velocity = select_counted(chain.cond, time, velocity(tuned, x, time), base_velocity)
            step = ChainStep(i, linear, tree_map(Tensor.detach, base_velocity), adjoint)
            root_weight = math.sqrt(step.weight)
            control_cost = step.weight / 2 * squared_distance(tuned_velocity, base_velocity)
            outputs, grad_outputs = [control_cost], [torch.ones_like(control_cost)]
            for v, b, z, a in zip(*map(leaves, (tuned_velocity, base_velocity, noise, adjoint)), strict=True):
                outputs += [linear.on_velocity * v, root_weight * (v - b)]
                grad_outputs += [a, z]
            vjps = tree_unflatten(x, torch.autograd.grad(outputs, list(leaves(x)), grad_outputs))
        yield step
        adjoint = tree_map(lambda vjp, a, linear=linear: torch.add(vjp, a, alpha=linear.on_state), vjps, adjoint)


class Weighting(abc.ABC):
    """Base class of time-dependent weights of the regression loss of Adjoint Matching.

    Every weight gives the same minimiser.
    """

    @abc.abstractmethod
    def weight(self, step: ChainStep) -> float:
        """Return the factor that multiplies half the squared difference of predicted and target velocity at a step."""


@dataclass(frozen=True)
class ByControl(Weighting):
    """Weighting that makes the loss the squared difference of controls, as in the paper.

    The weight of the squared difference of velocities is then small at early times and large at late times.
    """

    def weight(self, step: ChainStep) -> float:
        return step.weight


@dataclass(frozen=True)
class ByVelocity(Weighting):
    """Weighting that gives the squared difference of velocities the same weight at all times."""

    def weight(self, step: ChainStep) -> float:
        return step.linear.on_velocity


class Adjoint(abc.ABC):
    """Base class of adjoint ODEs, which carry the gradient of the reward backwards along a roll-out."""

    @abc.abstractmethod
    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        """Yield the steps of a roll-out from last to first, each with the adjoint at its end.

        Args:
            base: Flow before fine-tuning.
            chain: Roll-out: states and velocities of a simulated batch.
            gradient: Gradient of the scaled reward with respect to the end states.
            tuned: Flow that was simulated; the lean adjoint does not use it.
        """


@dataclass(frozen=True)
class LeanAdjoint(Adjoint):
    """Lean adjoint: uses the base flow only, and drops terms with zero mean at the optimum to lower the variance."""

    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        return adjoint_steps(base, chain, gradient)


@dataclass(frozen=True)
class FullAdjoint(Adjoint):
    """Full adjoint: the gradient of the remaining cost with respect to the state, along the controlled chain.

    The cost includes the control cost, which the lean adjoint leaves out. The paper calls this the continuous adjoint.
    """

    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        return adjoint_steps(base, chain, gradient, tuned)


@dataclass(frozen=True)
class LandingAdjoint(Adjoint):
    """Full adjoint plus the noise term of the cost, which removes the variance at the optimum.

    Use it where the lean adjoint is too noisy, for example with many modes or a strong reward.
    """

    def steps(self, base: Process, chain: MemorylessChain, gradient: State, tuned: Process) -> Iterator[ChainStep]:
        return landing_steps(base, chain, gradient, tuned)


@dataclass(frozen=True, kw_only=True)
class AdjointMatching(MemorylessFineTuning):
    """Adjoint Matching: regress the velocity on targets from adjoints of memoryless roll-outs.

    A roll-out is a simulated batch of trajectories from source to data. It is memoryless if its noise makes the end
    independent of the start. The adjoint carries the gradient of the reward back to each state of the roll-out.

    The only fixed point is the tilted distribution p(x) exp(reward_scale * reward(x)) / Z. The loss is not a measure of
    progress; watch the reward and the divergence from the base model. The first rounds overshoot.
    """

    reuses_roll_outs = True
    step_fraction: float = 0.5
    """Fraction of the roll-out's steps that enter the loss: always the last quarter of the steps, plus random other
    steps."""
    solver: LinearSolver = field(default_factory=MemorylessEuler)
    """Solver of the roll-out. Its noise must be memoryless; otherwise x_1 depends on x_0, and the fixed point is not
    the tilted distribution."""
    weighting: Weighting = ByControl()
    adjoint: Adjoint = LeanAdjoint()
    ceiling: float | None = None
    """Upper bound at which the loss of each state is clipped; None for no clipping. Clipping hides differences between
    modes, so that the distribution is tilted too little between them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ceiling", self.ceiling, gt=0)
        if getattr(self.solver, "schedule", Linear()) != Linear():
            raise UsageError(
                "the solver of the roll-outs has another schedule than Linear(), which roll-outs always use, even if"
                " the model has another one",
                remedy="Leave out the schedule of the solver",
            )
        if not self.solver.linear_step(1 - 1 / self.steps, 1.0).variance > 0:
            raise UsageError(
                f"{type(self.solver).__name__} adds no noise in its last step, but fine-tuning needs noise there"
            )
        check_number("step_fraction", self.step_fraction, gt=0, le=1)

    def build(self, context: TrainingContext) -> Objective:
        return AdjointMatchingObjective(self, context)

    def compare(self, process: Process, example: Example) -> Float[Tensor, " b"]:
        """Return half the weighted squared difference of predicted and target velocity, summed over all entries.

        Args:
            process: Flow of the network that is trained.
            example: Training example: states, times, conditions, target velocities and weights.
        """
        x_t, t = example["x_t"], example["t"]
        predicted = select_counted(example["given"], t, velocity(process, x_t, t), example["target"])
        losses = example["weight"] / 2 * squared_distance(predicted, example["target"])
        return losses if self.ceiling is None else losses.clamp(max=self.ceiling)


class AdjointMatchingObjective(FineTuningObjective):
    """Training objective of Adjoint Matching: regression of the velocity on targets from adjoints of roll-outs.

    Its settings are those of `AdjointMatching`.
    """

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Simulate the network, evaluate the reward gradient at the end states, and solve the adjoint ODE backwards.

        Returns:
            States with their target velocities; the `reward` of the roll-out's end; and the `cost`, half the squared
            control along the roll-out. The mean cost is the KL divergence from the base in nats.
        """
        config, x_0, cond = self.config, batch["x_0"], batch.get("given", {})
        times, solver = linear_grid(config.steps), config.solver
        tuned, base = (self.flow(model, cond) for model in (network, self.reference))
        with torch.no_grad():
            chain = roll_out(tuned, x_0, times, solver, rng, cond)
        reward, gradient = reward_gradient(self.reward, chain.end, cond)
        scaled_gradient = tree_map(lambda leaf: config.reward_scale * leaf, gradient)
        selected_steps = _sample_steps(config.steps, config.step_fraction, rng)
        cost, examples = torch.zeros_like(reward), []
        for step in config.adjoint.steps(base, chain, scaled_gradient, tuned):
            t = expand_time(chain.end, times[step.number])
            cost = cost + step.cost(select_counted(cond, t, chain.velocities[step.number], step.base))
            if step.number in selected_steps:
                examples.append(self._example(step, chain, times[step.number], cond))
        labelled_examples = [{**example, "reward": reward, "cost": cost} for example in examples]
        # Steps of one example are adjacent.
        return tree_map(lambda *steps: torch.stack(steps, 1).flatten(0, 1), *labelled_examples)

    def _example(self, step: ChainStep, chain: MemorylessChain, t: float, cond: Cond) -> Example:
        x_t = chain.states[step.number]
        n, leaf = num_examples(x_t), next(leaves(x_t))
        return {
            "x_t": x_t,
            "t": torch.full((n,), t, dtype=leaf.dtype, device=leaf.device),
            "given": cond,
            "target": step.target(),
            "weight": torch.full((n,), self.config.weighting.weight(step), dtype=leaf.dtype, device=leaf.device),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        return self.config.compare(self.flow(network, example["given"]), example)


def _sample_steps(steps: int, step_fraction: float, rng: Rng) -> set[int]:
    """Return the steps of the roll-out that are trained on, the fraction `step_fraction` of all.

    These are the last quarter of the steps, and random earlier ones.
    """
    count = max(1, round(step_fraction * steps))
    num_last = min(count, steps // 4)
    selected = torch.randperm(steps - num_last, generator=rng.stream("steps").shared_generator())[: count - num_last]
    return {*range(steps - num_last, steps), *selected.tolist()}
