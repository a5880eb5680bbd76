"""Exact minibatch optimal transport, per rank or over the global batch."""

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
    from scipy.optimize import linear_sum_assignment  # slow to import

    # Row and column offsets are the same for every permutation. Without them the solver, which inserts row after row,
    # is fastest if the rows with the largest entries come first.
    centred = cost - cost.mean(0) - (cost.mean(1, keepdim=True) - cost.mean())
    row_order = centred.square().sum(1).argsort(descending=True, stable=True)
    _, assigned = linear_sum_assignment(centred[row_order].cpu().numpy())
    return row_order[torch.as_tensor(assigned, device=cost.device).argsort()]


def optimal_permutation(x_0: Float[Tensor, "n d"], x_1: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Return the permutation p that minimises the sum of |x_0[p[i]] - x_1[i]|^2, exactly."""
    return linear_assignment(SquaredDistance()(x_0, x_1, {}))


@dataclass(frozen=True)
class MinibatchOT(Coupling):
    """Exact optimal transport within blocks of the batch; each source sample is used exactly once.

    Blocks cost O(n) instead of O(n^3): at n = 4096, blocks of 256 keep 99 % of the reduction in cost on 2-D data and
    about 90 % in 784 dimensions. Source: Pooladian et al. 2023, "Multisample flow matching", arXiv 2304.14772, with a
    permutation instead of sampling with replacement, which loses a third of the data of each batch.
    """

    block_size: int | None = 256
    """Examples per assignment problem; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return couple_in_blocks(
            x_0, x_1, cond, self.block_size, lambda x_0, x_1, given, rows: linear_assignment(self.cost(x_0, x_1, given))
        )


@dataclass(frozen=True)
class GlobalBatchCoupling(Coupling):
    """Wrapper that applies a coupling to the global batch, so that the result does not depend on the number of ranks.

    Each rank gathers the parts of all ranks, couples the whole batch, and keeps its own part. The whole batch and its
    source samples are therefore communicated once per step.
    """

    coupling: Coupling = field(default_factory=MinibatchOT)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return self.coupling(x_0, x_1, cond, rng)
        sizes = _sizes(num_examples(x_1), next(leaves(x_1)).device)
        gathered = tree_map(lambda leaf: _gather(leaf, sizes), {"x_0": x_0, "x_1": x_1, "cond": cond})
        coupled = self.coupling(**gathered, rng=RandomStream(rng.key, 0, sum(sizes)))
        start = sum(sizes[: dist.get_rank()])
        return tree_map(lambda leaf: leaf[start : start + num_examples(x_1)], coupled)


def _sizes(local_size: int, device: torch.device) -> list[int]:
    """Return the number of examples on each rank."""
    sizes = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([local_size], device=device))
    return [int(size) for size in sizes]


def _gather(leaf: Tensor, sizes: Sequence[int]) -> Tensor:
    """Concatenate a tensor over all ranks, which have `sizes` examples each."""
    padded = leaf.new_zeros(max(sizes), *leaf.shape[1:])
    padded[: len(leaf)] = leaf
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([tensor[:size] for tensor, size in zip(gathered, sizes, strict=True)])
