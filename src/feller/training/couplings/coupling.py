"""What every coupling offers."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.core.pytree import Cond, State, num_examples, tree_map
from feller.core.rng import RandomStream

AssignmentFn = Callable[[State, State, Cond, slice], Tensor]
"""(x_0, x_1, given, rows) of a block -> for each datum the number of its source draw, within the block."""


class Coupling(abc.ABC):
    """Rearranges source draws; the data and their conditions stay where they are."""

    couples_examples: bool = True
    """Whether examples look at each other; training with privacy refuses those that do."""

    @abc.abstractmethod
    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        """Return the source draws in the order in which they meet the data."""


@dataclass(frozen=True)
class IndependentCoupling(Coupling):
    """Pair them as they come."""

    couples_examples = False

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return x_0


def couple_in_blocks(x_0: State, x_1: State, cond: Cond, block_size: int | None, assign: AssignmentFn) -> State:
    """Rearrange the source draws of each block by themselves; None is one block."""
    n = num_examples(x_1)
    order, size = [], block_size or max(n, 1)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        source, data, conditions = (tree_map(lambda leaf, rows=rows: leaf[rows], tree) for tree in (x_0, x_1, cond))
        order.append(start + assign(source, data, conditions, rows))
    return tree_map(lambda leaf: leaf[torch.cat(order)], x_0) if order else x_0
