"""RAFT: training on the model's best samples, for rewards without a gradient."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.fine_tuning.tuning_objective import FineTuning, FineTuningObjective
from feller.control.rewards.reward import evaluate_reward
from feller.core.errors import UsageError, check_number
from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.paths import Network
from feller.paths.product import iter_leaf_paths
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, Midpoint, Solver, simulate
from feller.sampling.guidance import cfg
from feller.sampling.solvers.solver import with_space
from feller.training.objective import Batch, Example, FlowMatching, Objective, TrainingContext


@dataclass(frozen=True, kw_only=True)
class RAFT(FineTuning):
    """RAFT: repeatedly train on the fraction of samples with the highest reward.

    `reward_scale` has no effect. The distribution narrows in every round and does not converge to a target.
    Source: Dong et al. 2023, "RAFT: Reward ranked fine-tuning", arXiv 2304.06767.
    """

    top_fraction: float = 0.25
    """Fraction of the samples of a batch that are used for training; at least one sample is used."""
    steps: int = 20
    """Number of sampling steps."""
    solver: Solver = field(default_factory=Midpoint)
    """Solver of the sampling steps, applied in `space`. Discrete states use Euler steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for path in iter_leaf_paths(self.path):
            if path.has_jumps and not path.is_discrete:
                raise UsageError(f"RAFT needs continuous flows or tokens, but the path is {type(path).__name__}")
        check_number("top_fraction", self.top_fraction, gt=0, le=1)
        check_number("steps", self.steps, ge=1)

    def build(self, context: TrainingContext) -> Objective:
        return RAFTObjective(self, context)


class RAFTObjective(FineTuningObjective):
    """Training objective of RAFT: the training loss on the generated samples with the highest reward.

    Its settings are those of `RAFT`.
    """

    def __init__(self, config: RAFT, context: TrainingContext) -> None:
        super().__init__(config, context)
        self.regression = FlowMatching(config.path, config.space, cond_dropout=config.cond_dropout, null=self.null)

    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Sample from the network, and repeat the samples of highest reward to fill the batch.

        Each repetition gets a new random time and source.

        Returns:
            Flow matching examples; `reward` holds the rewards of all samples, in the order of the batch.
        """
        config, cond = self.config, batch.get("given", {})
        with torch.no_grad():
            base_solver = Euler() if config.path.is_discrete else config.solver
            process, solver = self.flow(network, cond), with_space(base_solver, config.space)
            x_1 = simulate(process, batch["x_0"], linear_grid(config.steps), solver, rng.fold_in("samples"))
            reward = evaluate_reward(self.reward, x_1, cond)
        n = len(reward)
        top = reward.argsort(descending=True, stable=True)[: max(1, round(config.top_fraction * n))]
        repeated = top[torch.arange(n, device=top.device) % len(top)]
        selected = tree_map(lambda leaf: leaf[repeated], {"x_1": x_1, "given": cond})
        return {**self.regression.draw(selected, rng.fold_in("matching"), network), "reward": reward}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the loss of the guided network on the selected samples, which were also sampled with guidance."""
        droppable = tuple(name for name in example["given"] if name in self.null)
        guided = cfg(network, self.config.guidance, droppable=droppable, nulls=self.null)
        return self.regression.loss(guided, example)
