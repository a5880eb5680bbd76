"""Policy gradient (REINFORCE) for the control problem of Adjoint Matching, with non-differentiable rewards."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.fine_tuning.memoryless_chain import control_weight, squared_distance
from feller.control.fine_tuning.tuning_objective import (
    FineTuningObjective,
    MemorylessFineTuning,
    select_counted,
    velocity,
)
from feller.control.rewards.reward import evaluate_reward
from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, num_examples, tree_map
from feller.core.rng import Rng
from feller.paths import Network
from feller.paths.processes import Process
from feller.paths.time_distributions import linear_grid
from feller.sampling import LinearStep, MemorylessEuler, trajectory
from feller.sampling.solvers.solver import expand_time
from feller.training.objective import Batch, Example, Objective, TrainingContext


@dataclass(frozen=True, kw_only=True)
class PolicyGradient(MemorylessFineTuning):
    """REINFORCE on memoryless roll-outs; the return of a step is the reward minus the KL divergence of later steps.

    The KL divergence is from the base model. The mean gradient is that of `DiscreteAdjoint`, but the variance is far
    higher: use large batches, and scale the reward to a standard deviation of about 1. Source: Williams 1992, "Simple
    statistical gradient-following algorithms", Machine Learning 8, on the chains of Domingo-Enrich et al. 2024,
    "Adjoint Matching", arXiv 2409.08861.
    """

    def build(self, context: TrainingContext) -> Objective:
        return PolicyGradientObjective(self, context)


class PolicyGradientObjective(FineTuningObjective):
    """Training objective of the policy gradient: control cost minus advantage-weighted log probability of each step.

    Its settings are those of `PolicyGradient`.
    """

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Simulate the network with noise in each step, and compute the advantage of each step.

        The advantage is the return minus a baseline: the mean return of the other samples in the batch.

        Returns:
            States, each with the velocity of the base model, the velocity that reaches the next state, and the
            advantage.
        """
        x_0, cond, times, solver = (
            batch["x_0"],
            batch.get("given", {}),
            linear_grid(self.config.steps),
            MemorylessEuler(),
        )
        if num_examples(x_0) < 2:
            raise UsageError(
                "the policy gradient needs at least 2 roll-outs per process for its baseline",
                remedy="Increase the batch size",
            )
        with torch.no_grad():
            velocities: list[State] = []
            recording_process = _recording_process(self.flow(network, cond), velocities)
            states = [x_0, *trajectory(recording_process, x_0, times, solver, rng)]
            base, steps = (
                self.flow(self.reference, cond),
                [solver.linear_step(t, s) for t, s in itertools.pairwise(times)],
            )
            examples = [
                self._step(linear, *pair, expand_time(x_0, t), base, cond)
                for linear, pair, t in zip(steps, itertools.pairwise(states), times[:-1], strict=True)
            ]
            costs = torch.stack(
                [_control_cost(step, velocity) for step, velocity in zip(examples, velocities, strict=True)], 1
            )
            reward = evaluate_reward(self.reward, states[-1], cond)
        # The cost of the step itself does not depend on its outcome.
        cost_to_go = costs.flip(1).cumsum(1).flip(1) - costs
        returns = self.config.reward_scale * reward[:, None] - cost_to_go
        baseline = (returns.sum(0) - returns) / (len(returns) - 1)
        advantage, cost = returns - baseline, costs.sum(1)
        examples = [
            {**step, "advantage": advantage[:, k], "reward": reward, "cost": cost} for k, step in enumerate(examples)
        ]
        return tree_map(lambda *steps: torch.stack(steps, 1).flatten(0, 1), *examples)  # steps of one row are adjacent

    def _step(
        self, linear: LinearStep, x_t: State, x_s: State, t: Float[Tensor, " b"], base: Process, cond: Cond
    ) -> Example:
        implied_velocity = tree_map(lambda x, y: (y - linear.on_state * x) / linear.on_velocity, x_t, x_s)
        base_velocity = velocity(base, x_t, t)
        return {
            "x_t": x_t,
            "t": t,
            "given": cond,
            "base": base_velocity,
            "reached": select_counted(cond, t, implied_velocity, base_velocity),
            "weight": torch.full_like(t, control_weight(linear)),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return, for each step, control cost - advantage * log probability, up to a constant, in nats."""
        x_t, t, cond, base = (example[name] for name in ("x_t", "t", "given", "base"))
        predicted = select_counted(cond, t, velocity(self.flow(network, cond), x_t, t), base)
        return _control_cost(example, predicted) + example["advantage"] * example["weight"] / 2 * squared_distance(
            predicted, example["reached"]
        )


def _control_cost(step: Example, predicted: State) -> Float[Tensor, " b"]:
    predicted = select_counted(step["given"], step["t"], predicted, step["base"])
    return step["weight"] / 2 * squared_distance(predicted, step["base"])


def _recording_process(process: Process, velocities: list[State]) -> Process:

    def recording_process(x: State, t: State) -> State:
        characteristics = process(x, t)
        velocities.append(tree_map(lambda leaf: leaf.velocity, characteristics))
        return characteristics

    return recording_process
