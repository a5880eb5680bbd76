"""Couplings of source and data that take conditions into account.

Optimal transport over a whole batch makes the source sample x_0 depend on the condition of the datum it is paired with.
A sampler cannot reproduce this dependence, because it samples x_0 independently of the condition.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State, tree_map
from feller.core.rng import RandomStream
from feller.training.couplings.coupling import Coupling, couple_in_blocks
from feller.training.couplings.ground_cost import GeodesicCost, GroundCost, SquaredDistance
from feller.training.couplings.minibatch_ot import GlobalBatchCoupling, MinibatchOT, linear_assignment
from feller.training.couplings.sinkhorn_ot import SinkhornCoupling, UnbalancedOT, median_normalized


@dataclass(frozen=True)
class ClassConditional(Coupling):
    """Wrapper that applies a coupling separately within each class, which keeps the source independent of the class."""

    coupling: Coupling = field(default_factory=MinibatchOT)
    condition: str = "label"

    def __post_init__(self) -> None:
        if isinstance(self.coupling, GlobalBatchCoupling):  # ranks with different classes would deadlock
            raise UsageError(
                "ClassConditional cannot wrap GlobalBatchCoupling; write GlobalBatchCoupling(ClassConditional(...))"
            )

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        labels = _condition(cond, self.condition)
        out = tree_map(torch.clone, x_0)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            coupled = self.coupling(
                tree_map(lambda leaf, rows=rows: leaf[rows], x_0),
                tree_map(lambda leaf, rows=rows: leaf[rows], x_1),
                tree_map(lambda leaf, rows=rows: leaf[rows], cond),
                rng,
            )
            tree_map(lambda leaf, coupled_leaf, rows=rows: leaf.__setitem__(rows, coupled_leaf), out, coupled)
        return out


@dataclass(frozen=True)
class ConditionalOT(Coupling):
    """Exact optimal transport with a penalty for pairs of different conditions.

    Source sample i is assigned the condition of datum i, as under independent coupling. Penalty 0 is `MinibatchOT`,
    with the shortest paths and the largest dependence of x_0 on the condition; a large penalty is `ClassConditional`,
    without dependence. Intermediate values suit classes with few examples per block, and continuous conditions. Source:
    arXiv 2503.10636.
    """

    penalty: float = 1.0
    """Penalty of a pair of different classes, in units of the median cost; for continuous conditions, per unit of
    squared distance."""
    condition: str = "label"
    block_size: int | None = 256
    """Examples per assignment problem; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)

    def __post_init__(self) -> None:
        check_number("penalty", self.penalty, ge=0, lt=float("inf"), remedy="See ClassConditional")

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:

        def assign(x_0: State, x_1: State, given: Cond, rows: slice) -> Tensor:
            cost = median_normalized(self.cost(x_0, x_1, given))
            return linear_assignment(cost + self.penalty * _condition_cost(_condition(given, self.condition)))

        return couple_in_blocks(x_0, x_1, cond, self.block_size, assign)


def ignores_conditions(coupling: Coupling) -> bool:
    """Return True if a built-in coupling ignores the conditions, which makes the source depend on them."""
    if isinstance(coupling, GlobalBatchCoupling):
        return ignores_conditions(coupling.coupling)
    is_transport = isinstance(coupling, MinibatchOT | SinkhornCoupling | UnbalancedOT)
    return is_transport and isinstance(coupling.cost, SquaredDistance | GeodesicCost)


def _condition(cond: Cond, name: str) -> Tensor:
    if name not in cond:
        raise UsageError(
            argument=name,
            expected="a condition of this name, whose classes are coupled separately",
            found=", ".join(sorted(cond)) or "none",
        )
    return cond[name]


def _condition_cost(condition: Tensor) -> Tensor:
    """Return the cost of each pair of conditions, [n, n]: 1 for different classes, squared distance for real values."""
    flat = condition.reshape(len(condition), -1)
    if condition.is_floating_point():
        return torch.cdist(flat.double(), flat.double()).square()
    return (flat[:, None] != flat[None]).any(-1).double()
