"""Base class of couplings, and the independent coupling."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.core.pytree import Cond, State, num_examples, tree_map
from feller.core.rng import RandomStream

AssignmentFn = Callable[[State, State, Cond, slice], Tensor]
"""(x_0, x_1, cond, rows) of a block -> index, within the block, of the source sample assigned to each datum.

`rows` is the slice of the batch that forms the block.
"""


class Coupling(abc.ABC):
    """Coupling of source and data: permutes or resamples the source samples of a batch."""

    couples_examples: bool = True
    """True if examples depend on each other, which excludes DP-SGD."""

    @abc.abstractmethod
    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        """Return the source sample of each datum, in the order of the data."""


@dataclass(frozen=True)
class IndependentCoupling(Coupling):
    """Independent coupling: source samples keep their random order."""

    couples_examples = False

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return x_0


def couple_in_blocks(x_0: State, x_1: State, cond: Cond, block_size: int | None, assign: AssignmentFn) -> State:
    """Return the source samples of a batch, reordered by applying `assign` to each block of `block_size` examples.

    A `block_size` of None makes the whole batch one block.
    """
    n = num_examples(x_1)
    indices, size = [], block_size or max(n, 1)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        source, data, conditions = (tree_map(lambda leaf, rows=rows: leaf[rows], tree) for tree in (x_0, x_1, cond))
        indices.append(start + assign(source, data, conditions, rows))
    return tree_map(lambda leaf: leaf[torch.cat(indices)], x_0) if indices else x_0
