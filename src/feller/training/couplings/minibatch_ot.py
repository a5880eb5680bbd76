"""Exact optimal transport between the draws and the data of a batch."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.pytree import Given, State
from feller.core.rng import Draw
from feller.training.couplings.coupling import Coupling, in_blocks
from feller.training.couplings.ground_cost import Cost, SquaredDistance


def cheapest(cost: Float[Tensor, "n n"]) -> Int[Tensor, " n"]:
    """Return the permutation p that minimises the sum of cost[p[i], i], exactly."""
    from scipy.optimize import linear_sum_assignment  # takes longer to load than the rest of feller

    # What a row or a column adds to all its entries is the same for every permutation. Without it, the solver, which
    # places row after row, is fastest if those come first that have most to gain or to lose.
    centred = cost - cost.mean(0) - (cost.mean(1, keepdim=True) - cost.mean())
    order = centred.square().sum(1).argsort(descending=True, stable=True)
    _, data = linear_sum_assignment(centred[order].cpu().numpy())
    return order[torch.as_tensor(data, device=cost.device).argsort()]


def assign(x_0: Float[Tensor, "n d"], x_1: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Return the permutation p that minimises the sum of squared distances between x_0[p[i]] and x_1[i], exactly."""
    return cheapest(SquaredDistance()(x_0, x_1, {}))


@dataclass(frozen=True)
class MinibatchTransport(Coupling):
    """Exact optimal transport within blocks of the batch; every draw is used exactly once.

    Solving blocks costs n instead of n^3: at n = 4096 blocks of 256 keep 99 % of the gain on 2-D data and about 90 %
    in 784 dimensions. Source: Pooladian et al. 2023, "Multisample flow matching", arXiv 2304.14772, with a permutation
    in place of draws with replacement, which lose a third of the data of each batch.
    """

    block: int | None = 256
    """Examples solved together; None for the whole batch."""
    cost: Cost = field(default_factory=SquaredDistance)

    def __call__(self, x_0: State, x_1: State, given: Given, draw: Draw) -> State:
        """Permute the source draws within each block."""
        return in_blocks(
            x_0, x_1, given, self.block, lambda x_0, x_1, given, rows: cheapest(self.cost(x_0, x_1, given))
        )
