"""Couplings over the batch of all processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from feller.core.pytree import Given, State, leaves, length, tree_map
from feller.core.rng import Draw
from feller.training.couplings.coupling import Coupling
from feller.training.couplings.minibatch_ot import MinibatchTransport


@dataclass(frozen=True)
class AcrossRanks(Coupling):
    """Another coupling over the whole batch: the pairs do not depend on how many processes share it.

    Every process gathers all parts, in the order of the ranks, couples them and keeps its own; parts may differ in
    length. The price is the traffic of the batch and of the source draws, once per step.
    """

    coupling: Coupling = field(default_factory=MinibatchTransport)

    def __call__(self, x_0: State, x_1: State, given: Given, draw: Draw) -> State:
        """Couple the whole batch and return this process's part."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return self.coupling(x_0, x_1, given, draw)
        sizes = _sizes(length(x_1), next(leaves(x_1)).device)
        whole = tree_map(lambda leaf: _gather(leaf, sizes), {"x_0": x_0, "x_1": x_1, "given": given})
        moved = self.coupling(**whole, draw=Draw(draw.place, 0, sum(sizes)))
        first = sum(sizes[: dist.get_rank()])
        return tree_map(lambda leaf: leaf[first : first + length(x_1)], moved)


def _sizes(mine: int, device: torch.device) -> list[int]:
    """Return how many examples each process holds."""
    every = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(every, torch.tensor([mine], device=device))
    return [int(size) for size in every]


def _gather(leaf: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the parts of all processes as one; on the way all are as long as the longest."""
    padded = leaf.new_zeros(max(sizes), *leaf.shape[1:])
    padded[: len(leaf)] = leaf
    every = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(every, padded)
    return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])
