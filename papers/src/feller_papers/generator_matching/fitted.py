"""Networks that tell where a state ends, and samples of every process that one such network gives."""

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
from feller_papers.generator_matching.setting import Way

BATCH = 1024
"""Samples that are drawn together; a multiple of the block of `RandomStream`, so that it does not matter."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network, and what it was trained for."""

    path: Path
    space: Space
    network: nn.Module

    def samples(self, way: Way, calls: int, n: int, draws: Rng, fixed: dict[str, State] | None = None) -> State:
        """Return ends of the process that a way makes of the network.

        Args:
            way: Which process, and the solver.
            calls: Of the network.
            n: How many.
            draws: Source of the randomness; all ways start from the same states.
            fixed: Leaves of the state that are given, with n entries each.
        """
        with torch.no_grad():
            found = list(self._batches(way, calls, n, draws, fixed or {}))
        return found[0] if len(found) == 1 else concatenate(*found)

    def _batches(self, way: Way, calls: int, n: int, draws: Rng, fixed: dict[str, State]) -> Iterator[State]:
        path, times = map_leaf_paths(lambda part: followed(part, way), self.path), way.times(calls)
        for first in range(0, n, BATCH):
            size, here = min(BATCH, n - first), replace(draws, first_example=first)
            x = path.initial_state(self.space.sample_base(size, here.stream("source")))
            process = path.process(self.network, {})
            if fixed:
                x = {**x, **tree_map(lambda leaf, first=first, size=size: leaf[first : first + size], fixed)}
                process = freeze_leaves(process, fixed.keys())
            yield simulate(process, x, times, way.follower(self.space), here)


def followed(path: Path, way: Way) -> Path:
    """Return the process that a way makes of a path; paths without jumps of their own stay as they are."""
    return replace(path, jump_weight=way.share, step_rule=way.survival) if isinstance(path, JumpPath) else path


def fit(objective: FlowMatching, architecture: NetworkConfig, x_1: State, training: TrainConfig, seed: int) -> Fitted:
    """Train a network on states; its weights are the average."""
    shape = tree_map(lambda leaf: tuple(leaf.shape[1:]), x_1)
    learner = make_train_state(architecture.build(shape, {}, Rng(seed)), training)
    examples: Batch = {"x_1": x_1, "given": {}}
    feed = shuffled_loader(examples, training.batch_size, Rng(seed))
    for _ in train(learner, objective, feed, training, rng=Rng(seed), engine=get_engine()):
        pass
    learner.ema.copy_to(learner.network)
    return Fitted(objective.path, objective.space, learner.network.eval())
