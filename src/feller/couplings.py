"""Which source draw goes with which datum."""

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from feller.draws import Draw
from feller.tree import State, leaves, length, pad_right, tree_map


class Coupling(abc.ABC):
    """Rearranges source draws; the data and their conditions stay where they are."""

    shares_rows: bool = True
    """Whether examples look at each other; training with privacy refuses those that do."""

    @abc.abstractmethod
    def __call__(self, x_0: State, x_1: State, given: dict[str, Tensor], draw: Draw) -> State:
        """Return the source draws in the order in which they meet the data."""


@dataclass(frozen=True)
class Independent(Coupling):
    """Pair them as they come."""

    shares_rows = False

    def __call__(self, x_0: State, x_1: State, given: dict[str, Tensor], draw: Draw) -> State:
        """Return the draws as they are."""
        return x_0


def _flat(x: State, valid: Tensor | None) -> Float[Tensor, "n d"]:
    """Lay all leaves of an example side by side; padding [b, n] counts as zero, so that it costs nothing."""
    parts = [leaf if valid is None else torch.where(pad_right(valid, leaf), leaf, 0) for leaf in leaves(x)]
    return torch.cat([part.flatten(1) for part in parts], 1)


def assign(x_0: Float[Tensor, "n d"], x_1: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Return the permutation p that minimises the sum of squared distances between x_0[p[i]] and x_1[i], exactly."""
    # The squares of both add up to the same for every permutation, so only the products count. The solver places row
    # after row: it is fastest if rows are the source, which is spread out, and those farthest out come first.
    order = x_0.square().sum(1).argsort(descending=True)
    gain = x_0[order].double() @ x_1.double().T
    _, data = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
    return order[torch.as_tensor(data, device=x_0.device).argsort()]


@dataclass(frozen=True)
class MinibatchTransport(Coupling):
    """Exact optimal transport under squared distance within blocks of the batch; every draw is used exactly once.

    Solving blocks costs n instead of n^3: at n = 4096 blocks of 256 keep 99 % of the gain on 2-D data and about 90 %
    in 784 dimensions. Source: Pooladian et al. 2023, "Multisample flow matching", arXiv 2304.14772, with a permutation
    in place of draws with replacement, which lose a third of the data of each batch.
    """

    block: int | None = 256
    """Examples solved together; None for the whole batch."""

    def __call__(self, x_0: State, x_1: State, given: dict[str, Tensor], draw: Draw) -> State:
        """Permute the source draws within each block."""
        n = length(x_1)
        flat_0, flat_1 = (_flat(x, given.get("valid")) for x in (x_0, x_1))
        order = [
            start + assign(flat_0[start : start + size], flat_1[start : start + size])
            for size in [self.block or n]
            for start in range(0, n, size)
        ]
        index = torch.cat(order)
        return tree_map(lambda leaf: leaf[index], x_0)


@dataclass(frozen=True)
class WithinClasses(Coupling):
    """Another coupling inside each class, so that the source stays independent of the class.

    Transport over a whole batch would let x_0 depend on the label, which no sampler can repeat.
    """

    coupling: Coupling = field(default_factory=MinibatchTransport)
    condition: str = "label"

    def __call__(self, x_0: State, x_1: State, given: dict[str, Tensor], draw: Draw) -> State:
        """Rearrange each class by itself."""
        if self.condition not in given:
            raise KeyError(f"expected the condition {self.condition!r} to couple within, got {sorted(given)}")
        labels = given[self.condition]
        out = tree_map(torch.clone, x_0)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            chosen = self.coupling(
                tree_map(lambda leaf, rows=rows: leaf[rows], x_0),
                tree_map(lambda leaf, rows=rows: leaf[rows], x_1),
                {name: value[rows] for name, value in given.items()},
                draw,
            )
            tree_map(lambda leaf, part, rows=rows: leaf.__setitem__(rows, part), out, chosen)
        return out
