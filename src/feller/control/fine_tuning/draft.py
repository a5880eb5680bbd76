"""Fine-tuning with reward gradients that are backpropagated through sampling steps: DRaFT and ReFL.

There is no regularisation towards the base model: training collapses to a few samples of high reward. Stop early.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.fine_tuning.tuning_objective import FineTuning, FineTuningObjective, check_flow
from feller.control.rewards.reward import reward_gradient
from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State, append_dims, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.paths import Network
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, Solver, simulate, trajectory
from feller.sampling.solvers.solver import follow_velocity, with_space
from feller.training.objective import Batch, Example, Objective, TrainingContext


@dataclass(frozen=True, kw_only=True)
class DRaFT(FineTuning):
    """DRaFT-K: backpropagate the reward through the last K sampling steps (default 1).

    Source: Clark et al. 2023, "Directly fine-tuning diffusion models on differentiable rewards", arXiv 2309.17400.
    """

    backprop_steps: int = 1
    """Number K of last sampling steps through which the reward is backpropagated, at most `steps`."""
    steps: int = 20
    """Number of sampling steps."""
    solver: Solver = field(default_factory=Euler)
    """Solver of the sampling steps, applied in `space`."""
    recompute: bool = False
    """Whether the backpropagated steps use gradient checkpointing: memory does not grow with K, and training takes a
    third longer. Checkpointing does not support per-example gradients (private training)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flow(self.path)
        if not 1 <= self.backprop_steps <= self.steps:
            raise UsageError(f"backprop_steps from 1 to {self.steps}", self.backprop_steps)

    def build(self, context: TrainingContext) -> Objective:
        return DRaFTObjective(self, context)


class DRaFTObjective(FineTuningObjective):
    """Training objective of DRaFT: minus the scaled reward, backpropagated through the last sampling steps.

    Its settings are those of `DRaFT`.
    """

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Generate samples and compute their reward; return the state before the backpropagated steps."""
        config, cond = self.config, batch.get("given", {})
        with torch.no_grad():
            states = _sample_states(self, network, batch["x_0"], cond)
        reward, _ = reward_gradient(self.reward, states[-1], cond)
        return {"x_t": states[config.steps - config.backprop_steps], "given": cond, "reward": reward}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        config, cond = self.config, example["given"]
        times = linear_grid(config.steps)[config.steps - config.backprop_steps :]
        solver = with_space(config.solver, config.space)
        process, start = self.flow(network, cond), example["x_t"]
        end = simulate(process, start, times, solver, _UNUSED, recompute=config.recompute)
        return -config.reward_scale * self.reward(end, cond)


@dataclass(frozen=True, kw_only=True)
class ReFL(FineTuning):
    """ReFL: backpropagate the reward of the endpoint predicted by one step from a random intermediate state.

    Source: Xu et al. 2023, "ImageReward", arXiv 2304.05977.
    """

    steps: int = 20
    """Number of sampling steps; the intermediate state is drawn uniformly from their states."""
    solver: Solver = field(default_factory=Euler)
    """Solver of the sampling steps, applied in `space`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flow(self.path)
        check_number("steps", self.steps, ge=1)

    def build(self, context: TrainingContext) -> Objective:
        return ReFLObjective(self, context)


class ReFLObjective(FineTuningObjective):
    """Training objective of ReFL: minus the scaled reward of the endpoint predicted from an intermediate state.

    Its settings are those of `ReFL`.
    """

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Generate samples and compute their reward; return one intermediate state of each sample, and its time."""
        x_0, cond, steps = batch["x_0"], batch.get("given", {}), self.config.steps
        n, leaf = num_examples(x_0), next(leaves(x_0))
        with torch.no_grad():
            states = _sample_states(self, network, x_0, cond)
        reward, _ = reward_gradient(self.reward, states[-1], cond)
        step_index, x_t = rng.stream("step").randint(steps, (n,), leaf.device), x_0
        for i, state in enumerate(states[:-1]):
            is_chosen = step_index == i
            x_t = tree_map(lambda new, old, c=is_chosen: torch.where(append_dims(c, new), new, old), state, x_t)
        return {"x_t": x_t, "t": step_index.to(reward.dtype) / steps, "given": cond, "reward": reward}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_t, t, cond = example["x_t"], example["t"], example["given"]
        characteristics = self.flow(network, cond)(x_t, t)
        end = follow_velocity(self.config.space, x_t, (1.0, tree_map(lambda leaf: leaf * (1 - t), characteristics)))
        return -self.config.reward_scale * self.reward(end, cond)


_UNUSED = Rng(0)
"""Placeholder random streams for solvers of flows, which use no randomness."""


def _sample_states(objective: FineTuningObjective, network: Network, x_0: State, cond: Cond) -> list[State]:
    config = objective.config
    process, solver = objective.flow(network, cond), with_space(config.solver, config.space)
    return [x_0, *trajectory(process, x_0, linear_grid(config.steps), solver, _UNUSED)]
