"""Ground costs: cost of pairing a source sample with a datum, which optimal transport couplings minimise."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, append_dims, leaves, masked_map, num_examples, tree_map
from feller.spaces import Manifold, Product, Space


class GroundCost(abc.ABC):
    """Cost of each pair of a source sample and a datum. Subclasses implement `__call__`."""

    @abc.abstractmethod
    def __call__(self, x_0: State, x_1: State, cond: Cond) -> Float[Tensor, "n m"]:
        """Return the cost of each pair, in float64; `cond` holds the conditions of the data."""


@dataclass(frozen=True)
class SquaredDistance(GroundCost):
    """Squared Euclidean distance, summed over all leaves (components) of the state.

    Padding of the data, where the condition `valid` is False, is ignored.
    """

    def __call__(self, x_0: State, x_1: State, cond: Cond) -> Float[Tensor, "n m"]:
        source, data = _flat(x_0), _flat(x_1)
        if "valid" in cond:
            source, data = source.double(), data.double()
            mask = _flat(masked_map(_unpadded_mask, cond["valid"], x_1)).double()
            data = torch.where(mask > 0, data, 0.0)  # padding may hold NaN
            return (source.square() @ mask.T + data.square().sum(1)).addmm_(source, data.T, alpha=-2)
        data = data.to(torch.promote_types(source.dtype, data.dtype))
        source = source.to(data.dtype)
        means = source.mean(0), data.mean(0)
        source, data = source - means[0], data - means[1]  # centred, for accuracy of |x|^2 + |y|^2 - 2 x y
        cost = source.square().sum(1, keepdim=True) + data.square().sum(1)
        cost.addmm_(source, data.T, alpha=-2)
        delta = means[0] - means[1]
        # Cross terms with the difference of the means, in float64.
        source_shift, data_shift = (source @ delta).double(), (data @ delta).double()
        return cost.double().add_(2 * source_shift[:, None]).sub_(2 * data_shift).add_(delta.double().square().sum())


@dataclass(frozen=True)
class GeodesicCost(GroundCost):
    """Squared geodesic distance on a manifold or a product of manifolds."""

    space: Space

    def __post_init__(self) -> None:
        if not isinstance(self.space, Manifold | Product):
            raise UsageError("a geodesic cost needs a manifold or a product of manifolds", found=self.space)

    def __call__(self, x_0: State, x_1: State, cond: Cond) -> Float[Tensor, "n m"]:
        """Return the cost of each pair; UsageError if the data have a padding mask, which distances do not support."""
        if "valid" in cond:
            raise UsageError(
                "a geodesic cost needs data without padding", found="a mask valid", remedy="Use SquaredDistance()"
            )
        n, m = num_examples(x_0), num_examples(x_1)
        rows = tree_map(lambda leaf: leaf.double().repeat_interleave(m, 0), x_0)
        columns = tree_map(lambda leaf: leaf.double().repeat(n, *(1,) * (leaf.ndim - 1)), x_1)
        return self.space.distance(rows, columns).square().view(n, m)  # pyrefly: ignore[missing-attribute] - checked


def _unpadded_mask(valid: Tensor | None, leaf: Tensor) -> Tensor:
    """Broadcast a validity mask to the shape of a leaf."""
    return torch.ones_like(leaf, dtype=torch.bool) if valid is None else append_dims(valid, leaf).expand(leaf.shape)


def _flat(x: State) -> Float[Tensor, "n d"]:
    """Concatenate the flattened leaves, in float32 or better."""
    return torch.cat([leaf.flatten(1).to(torch.promote_types(leaf.dtype, torch.float32)) for leaf in leaves(x)], 1)
