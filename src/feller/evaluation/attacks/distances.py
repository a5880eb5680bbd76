"""Numbers and symbols in their order: lengths along the space, and symbols that differ."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from feller.core.pytree import State, leaves
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.attacks.measure import Apart
from feller.evaluation.geometric import distances
from feller.spaces import Euclidean, Manifold, Product, Space
from feller.spaces.product import space_map

AT_ONCE = 2**22
"""Pairs of single symbols, or of examples, that are held at once."""


@dataclass(frozen=True)
class Symbols(Apart):
    """Arrays of symbols: how many differ, and copies are those of which none does."""

    asked = 100_000

    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Count symbols that differ."""
        return sum((unlike(x, y) for x, y in _both(a, b)), torch.zeros(len(a), len(b), dtype=torch.float64))

    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Look for the very same symbols."""
        return exactly(some, train)


@dataclass(frozen=True)
class Coordinates(Apart):
    """Points of a space, which may have symbols beside them: lengths are those of geodesics, so that angles wrap."""

    share: float = 0.01
    """Of the usual distance, below which an example counts as a copy: chance alone goes as its power of dimensions."""

    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Return the root of squared lengths plus the number of symbols that differ."""
        total = torch.zeros(len(a), len(b), dtype=torch.float64)
        for part in leaves(space_map(_squares, a.modality.space(), _state(a), _state(b))):
            total += part
        return total.sqrt()

    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Look for the same numbers, or where it is known what is usual, for some that are as good as the same."""
        found = exactly(some, train)
        if not usual or not len(some):
            return found
        for rows in torch.arange(len(train)).split(max(1, AT_ONCE // len(some))):
            found |= (self.apart(some, train.subset(rows)) <= self.share * usual).any(1)
        return found


@dataclass(frozen=True)
class Curved(Apart):
    """The same of curved spaces, whose lengths are dear, so that fewer are measured."""

    most = 1_000
    asked = 500
    among = 5_000

    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Measure along the space."""
        return Coordinates().apart(a, b)

    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Look for the same points, or some that are as good as the same."""
        return Coordinates().known(some, train, usual)


def exactly(some: Dataset, train: Dataset) -> Bool[Tensor, " n"]:
    """Tell whose numbers and symbols are all those of one training example."""
    there = set(_whole(train))
    return torch.tensor([one in there for one in _whole(some)], dtype=torch.bool)


def unlike(x: Tensor, y: Tensor) -> Float64[Tensor, "n m"]:
    """Count the places in which symbols differ, of all pairs."""
    first, second = (leaf.flatten(1).cpu() if leaf.ndim > 1 else leaf[:, None].cpu() for leaf in (x, y))
    rows = max(1, AT_ONCE // max(1, second.numel()))
    parts = [(part[:, None] != second).sum(2).double() for part in first.split(rows)]
    return torch.cat(parts) if parts else torch.zeros(0, len(second), dtype=torch.float64)


def _squares(space: Space, x: Tensor, y: Tensor) -> Float64[Tensor, "n m"]:
    """Return squared lengths of numbers, or counts of symbols that differ."""
    if not x.is_floating_point():
        return unlike(x, y)
    x, y = x.cpu().double(), y.cpu().double()
    if isinstance(space, Manifold | Product) and not isinstance(space, Euclidean):
        return distances(space, x, y).square()
    return torch.cdist(x.flatten(1), y.flatten(1)).square()


def _state(data: Dataset) -> State:
    """Return pictures in their levels, whatever a model sees of them, and states of all else."""
    values = data.values
    return values.float() if isinstance(data.modality, Images) else data.modality.encode(values)


def _both(a: Dataset, b: Dataset) -> list[tuple[Tensor, Tensor]]:
    return list(zip(leaves(a.modality.encode(a.values)), leaves(b.modality.encode(b.values)), strict=True))


def _whole(data: Dataset) -> list[bytes]:
    """Return each example as one piece."""
    flat = [leaf.reshape(len(data), -1).cpu().contiguous() for leaf in leaves(_state(data))]
    parts = [leaf.numpy() for leaf in flat]
    return [b"".join(part[i].tobytes() for part in parts) for i in range(len(data))]
