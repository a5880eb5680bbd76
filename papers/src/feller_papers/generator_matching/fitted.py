"""Networks of the posterior of the end, and samples of the processes that they define."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from feller.core.pytree import State, concatenate, tree_map
from feller.core.rng import Rng
from feller.data.batches import shuffled_loader
from feller.networks.network_config import NetworkConfig
from feller.paths import JumpPath, Path
from feller.paths.processes import freeze_leaves
from feller.paths.product import map_leaf_paths
from feller.sampling import simulate
from feller.spaces import Space
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, FlowMatching
from feller.training.optimizer import TrainConfig
from feller_papers.generator_matching.setting import Sampler

BATCH = 1024
"""Batch size of sampling; a multiple of the block of `RandomStream`, so that it does not change samples."""


@dataclass(frozen=True, eq=False)
class TrainedProcess:
    """Trained network with its path and space."""

    path: Path
    space: Space
    network: nn.Module

    def samples(self, sampler: Sampler, calls: int, n: int, draws: Rng, fixed: dict[str, State] | None = None) -> State:
        """Return samples of the process of a sampler.

        Args:
            sampler: Process and solver.
            calls: Network calls.
            n: Number of samples.
            draws: Source of randomness; all samplers share the initial states.
            fixed: Given leaves of the state, with n entries each.
        """
        with torch.no_grad():
            found = list(self._batches(sampler, calls, n, draws, fixed or {}))
        return found[0] if len(found) == 1 else concatenate(*found)

    def _batches(self, sampler: Sampler, calls: int, n: int, draws: Rng, fixed: dict[str, State]) -> Iterator[State]:
        path, times = map_leaf_paths(lambda part: with_sampler(part, sampler), self.path), sampler.times(calls)
        for first in range(0, n, BATCH):
            size, here = min(BATCH, n - first), replace(draws, first_example=first)
            x = path.initial_state(self.space.sample_base(size, here.stream("source")))
            process = path.process(self.network, {})
            if fixed:
                x = {**x, **tree_map(lambda leaf, first=first, size=size: leaf[first : first + size], fixed)}
                process = freeze_leaves(process, fixed.keys())
            yield simulate(process, x, times, sampler.make_solver(self.space), here)


def with_sampler(path: Path, sampler: Sampler) -> Path:
    """Return a path with the jump weight and step rule of a sampler; other paths are unchanged."""
    return replace(path, jump_weight=sampler.share, step_rule=sampler.step_rule) if isinstance(path, JumpPath) else path


def fit(
    objective: FlowMatching, architecture: NetworkConfig, x_1: State, training: TrainConfig, seed: int
) -> TrainedProcess:
    """Return a network trained on states, with EMA weights."""
    shape = tree_map(lambda leaf: tuple(leaf.shape[1:]), x_1)
    learner = make_train_state(architecture.build(shape, {}, Rng(seed)), training)
    examples: Batch = {"x_1": x_1, "given": {}}
    feed = shuffled_loader(examples, training.batch_size, Rng(seed))
    for _ in train(learner, objective, feed, training, rng=Rng(seed), engine=get_engine()):
        pass
    learner.ema.copy_to(learner.network)
    return TrainedProcess(objective.path, objective.space, learner.network.eval())
