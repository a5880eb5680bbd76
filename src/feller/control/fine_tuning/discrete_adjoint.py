"""Discrete adjoint: backpropagation of the control objective of Adjoint Matching through the chain."""

import itertools
import math
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
from feller.control.rewards.reward import reward_gradient
from feller.core.pytree import Cond, State, tree_map
from feller.core.rng import Rng
from feller.paths import Network
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from feller.sampling.solvers.solver import expand_time
from feller.training.objective import Batch, Example, Objective, TrainingContext


@dataclass(frozen=True, kw_only=True)
class DiscreteAdjoint(MemorylessFineTuning):
    """Discrete adjoint: minimise (KL divergence from the base model) - reward by backpropagation through roll-outs.

    Gradients flow through all steps of memoryless roll-outs. The loss measures progress, but the gradient is noisy and
    the graph of all steps of a micro-batch stays in memory. `AdjointMatching` with `FullAdjoint` computes the same
    gradient without storing the graph. Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861,
    section 4.
    """

    def build(self, context: TrainingContext) -> Objective:
        return DiscreteAdjointObjective(self, context)


class DiscreteAdjointObjective(FineTuningObjective):
    """Training objective of the discrete adjoint: control cost minus reward, backpropagated through a roll-out.

    A roll-out is a simulated batch of trajectories. The settings are those of `DiscreteAdjoint`.
    """

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Sample the noise of each step, and simulate once without gradients to compute reward and control cost.

        Returns:
            Sources, noise and conditions, from which the loss repeats the simulation; `reward`; and control `cost`.
        """
        x_0, cond = batch["x_0"], batch.get("given", {})
        step_noise = []
        for i in range(self.config.steps):
            stream = rng.stream("simulate", i)
            step_noise.append(tree_map(lambda leaf, d=stream: d.normal(leaf.shape, leaf.dtype, leaf.device), x_0))
        noise = tree_map(lambda *steps: torch.stack(steps, 1), *step_noise)
        with torch.no_grad():
            end, cost = self._rollout(network, x_0, noise, cond)
        reward, _ = reward_gradient(self.reward, end, cond)
        return {"x_0": x_0, "noise": noise, "given": cond, "reward": reward, "cost": cost}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the control cost of the roll-out minus the scaled reward of its end, in nats."""
        cond = example["given"]
        end, cost = self._rollout(network, example["x_0"], example["noise"], cond)
        return cost - self.config.reward_scale * self.reward(end, cond)

    def _rollout(self, network: Network, x_0: State, noise: State, cond: Cond) -> tuple[State, Float[Tensor, " b"]]:
        """Simulate from x_0 with the given noise; return the end state, and half the squared control summed over steps.

        The control is the difference of the velocities of the fine-tuned and the reference network.
        """
        tuned, base = self.flow(network, cond), self.flow(self.reference, cond)
        x, costs = x_0, []
        for i, (t, s) in enumerate(itertools.pairwise(linear_grid(self.config.steps))):
            step, time = MemorylessEuler().linear_step(t, s), expand_time(x, t)
            tuned_velocity, base_velocity = velocity(tuned, x, time), velocity(base, x, time)
            distance_sq = squared_distance(select_counted(cond, time, tuned_velocity, base_velocity), base_velocity)
            costs.append(control_weight(step) / 2 * distance_sq)
            std = math.sqrt(step.variance)
            x = tree_map(
                lambda mean, z, k=i, a=std: torch.add(mean, z[:, k], alpha=a), step.mean(x, tuned_velocity), noise
            )
        return x, torch.stack(costs).sum(0)
