"""The discrete adjoint: the control problem that adjoint matching solves, by its own gradient through the chain."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.fine_tuning.fine_tuning import Controlled, TuningObjective, velocity, where_counted
from feller.control.fine_tuning.memoryless_chain import control_weight, squared
from feller.control.rewards.reward import reward_gradient
from feller.core.pytree import Cond, State, tree_map
from feller.core.rng import Rng
from feller.paths import Network
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from feller.sampling.solvers.solver import expand_time
from feller.training.objective import Batch, Example, Objective, TrainingContext


@dataclass(frozen=True, kw_only=True)
class DiscreteAdjoint(Controlled):
    """Descend the divergence from the base minus the reward, differentiated through all steps of memoryless roll-outs.

    A loss that means something, and a noisy gradient; the graph of all steps of a micro-batch is kept. The continuous
    adjoint, `AdjointMatching` with the adjoint `Full`, has the same gradient without it. Source: Domingo-Enrich et al.
    2024, "Adjoint Matching", arXiv 2409.08861, section 4.
    """

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective with reference and reward; its cost is half the squared control along a roll-out."""
        return DiscreteAdjointObjective(self, context)


class DiscreteAdjointObjective(TuningObjective):
    """The discrete adjoint with its base and reward."""

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Draw the noise of each step, and roll out once to tell reward and cost."""
        x_0, given = batch["x_0"], batch.get("given", {})
        each = []
        for number in range(self.config.steps):
            draw = rng.stream("simulate", number)
            each.append(tree_map(lambda leaf, d=draw: d.normal(leaf.shape, leaf.dtype, leaf.device), x_0))
        noise = tree_map(lambda *steps: torch.stack(steps, 1), *each)
        with torch.no_grad():
            end, cost = self._follow(network, x_0, noise, given)
        reward, _ = reward_gradient(self.reward, end, given)
        return {"x_0": x_0, "noise": noise, "given": given, "reward": reward, "cost": cost}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the cost of the roll-out minus the reward of its end, times the strength, in nats."""
        given = example["given"]
        end, cost = self._follow(network, example["x_0"], example["noise"], given)
        return cost - self.config.strength * self.reward(end, given)

    def _follow(self, network: Network, x_0: State, noise: State, given: Cond) -> tuple[State, Float[Tensor, " b"]]:
        """Return the end of a roll-out, and half the squared control along it."""
        tuned, base = self.flow(network, given), self.flow(self.reference, given)
        x, costs = x_0, []
        for number, (t, s) in enumerate(itertools.pairwise(linear_grid(self.config.steps))):
            step, time = MemorylessEuler().linear_step(t, s), expand_time(x, t)
            followed, before = velocity(tuned, x, time), velocity(base, x, time)
            apart = squared(where_counted(given, time, followed, before), before)
            costs.append(control_weight(step) / 2 * apart)
            size = math.sqrt(step.variance)
            x = tree_map(
                lambda mean, z, k=number, a=size: torch.add(mean, z[:, k], alpha=a), step.mean(x, followed), noise
            )
        return x, torch.stack(costs).sum(0)
