"""Couplings that know of the conditions.

Transport over a whole batch lets x_0 depend on the condition of its datum, which no sampler can repeat: it draws x_0
from the source, whatever the condition.
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
    """Another coupling inside each class, so that the source stays independent of the class."""

    coupling: Coupling = field(default_factory=MinibatchOT)
    condition: str = "label"

    def __post_init__(self) -> None:
        if isinstance(
            self.coupling, GlobalBatchCoupling
        ):  # each process has classes of its own, and would wait for ever
            raise UsageError("couple within classes inside: GlobalBatchCoupling(ClassConditional(...))")

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        labels = _condition(cond, self.condition)
        out = tree_map(torch.clone, x_0)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            chosen = self.coupling(
                tree_map(lambda leaf, rows=rows: leaf[rows], x_0),
                tree_map(lambda leaf, rows=rows: leaf[rows], x_1),
                tree_map(lambda leaf, rows=rows: leaf[rows], cond),
                rng,
            )
            tree_map(lambda leaf, part, rows=rows: leaf.__setitem__(rows, part), out, chosen)
        return out


@dataclass(frozen=True)
class ConditionalOT(Coupling):
    """Exact transport that pays for each draw that leaves the condition it came with.

    Draw i comes with the condition of datum i, as an independent pairing has it. A penalty of 0 is
    `MinibatchOT`, which gains most and leaks most of the condition into x_0; a large one is `ClassConditional`,
    which leaks nothing. What lies between is for classes with few examples in a block, and for conditions that are
    numbers, which no two examples share. Source: arXiv 2503.10636.
    """

    penalty: float = 1.0
    """Of a pair whose classes differ, in units of the median cost; for conditions that are real numbers, per unit of
    squared distance between them."""
    condition: str = "label"
    block_size: int | None = 256
    """Examples solved together; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)

    def __post_init__(self) -> None:
        check_number("penalty", self.penalty, ge=0, lt=float("inf"), remedy="See ClassConditional")

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:

        def assign(x_0: State, x_1: State, given: Cond, rows: slice) -> Tensor:
            cost = median_normalized(self.cost(x_0, x_1, given))
            return linear_assignment(cost + self.penalty * _condition_cost(_condition(given, self.condition)))

        return couple_in_blocks(x_0, x_1, cond, self.block_size, assign)


def ignores_conditions(coupling: Coupling) -> bool:
    """Tell whether a coupling of ours pairs without a look at conditions, on which the source then depends."""
    if isinstance(coupling, GlobalBatchCoupling):
        return ignores_conditions(coupling.coupling)
    transports = isinstance(coupling, MinibatchOT | SinkhornCoupling | UnbalancedOT)
    return transports and isinstance(coupling.cost, SquaredDistance | GeodesicCost)


def _condition(cond: Cond, name: str) -> Tensor:
    if name not in cond:
        raise UsageError(
            argument=name,
            expected="a condition of that name, to couple within",
            found=", ".join(sorted(cond)) or "none",
        )
    return cond[name]


def _condition_cost(condition: Tensor) -> Tensor:
    """Return 1 where two classes differ, or the squared distance of real numbers, [n, n]."""
    flat = condition.reshape(len(condition), -1)
    if condition.is_floating_point():
        return torch.cdist(flat.double(), flat.double()).square()
    return (flat[:, None] != flat[None]).any(-1).double()
