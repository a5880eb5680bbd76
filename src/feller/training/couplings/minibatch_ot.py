"""Exact minibatch optimal transport, also over the batch of all processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.pytree import Cond, State, leaves, num_examples, tree_map
from feller.core.rng import RandomStream
from feller.training.couplings.coupling import Coupling, couple_in_blocks
from feller.training.couplings.ground_cost import GroundCost, SquaredDistance


def linear_assignment(cost: Float[Tensor, "n n"]) -> Int[Tensor, " n"]:
    """Return the permutation p that minimises the sum of cost[p[i], i], exactly."""
    from scipy.optimize import linear_sum_assignment  # takes longer to load than the rest of feller

    # What a row or a column adds to all its entries is the same for every permutation. Without it, the solver, which
    # places row after row, is fastest if those come first that have most to gain or to lose.
    centred = cost - cost.mean(0) - (cost.mean(1, keepdim=True) - cost.mean())
    order = centred.square().sum(1).argsort(descending=True, stable=True)
    _, data = linear_sum_assignment(centred[order].cpu().numpy())
    return order[torch.as_tensor(data, device=cost.device).argsort()]


def optimal_permutation(x_0: Float[Tensor, "n d"], x_1: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Return the permutation p that minimises the sum of squared distances between x_0[p[i]] and x_1[i], exactly."""
    return linear_assignment(SquaredDistance()(x_0, x_1, {}))


@dataclass(frozen=True)
class MinibatchOT(Coupling):
    """Exact optimal transport within blocks of the batch; every draw is used exactly once.

    Solving blocks costs n instead of n^3: at n = 4096 blocks of 256 keep 99 % of the gain on 2-D data and about 90 %
    in 784 dimensions. Source: Pooladian et al. 2023, "Multisample flow matching", arXiv 2304.14772, with a permutation
    in place of draws with replacement, which lose a third of the data of each batch.
    """

    block_size: int | None = 256
    """Examples solved together; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return couple_in_blocks(
            x_0,
            x_1,
            cond,
            self.block_size,
            lambda x_0, x_1, given, rows: linear_assignment(self.cost(x_0, x_1, given)),
        )


@dataclass(frozen=True)
class GlobalBatchCoupling(Coupling):
    """Another coupling over the whole batch: the pairs do not depend on how many processes share it.

    Every process gathers all parts, in the order of the ranks, couples them and keeps its own; parts may differ in
    length. The price is the traffic of the batch and of the source draws, once per step.
    """

    coupling: Coupling = field(default_factory=MinibatchOT)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return self.coupling(x_0, x_1, cond, rng)
        sizes = _sizes(num_examples(x_1), next(leaves(x_1)).device)
        gathered = tree_map(lambda leaf: _gather(leaf, sizes), {"x_0": x_0, "x_1": x_1, "cond": cond})
        coupled = self.coupling(**gathered, rng=RandomStream(rng.key, 0, sum(sizes)))
        first = sum(sizes[: dist.get_rank()])
        return tree_map(lambda leaf: leaf[first : first + num_examples(x_1)], coupled)


def _sizes(local_size: int, device: torch.device) -> list[int]:
    """Return how many examples each process holds."""
    every = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(every, torch.tensor([local_size], device=device))
    return [int(size) for size in every]


def _gather(leaf: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the parts of all processes as one; on the way all are as long as the longest."""
    padded = leaf.new_zeros(max(sizes), *leaf.shape[1:])
    padded[: len(leaf)] = leaf
    every = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(every, padded)
    return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])
