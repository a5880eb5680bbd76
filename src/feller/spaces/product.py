"""Several spaces in one state, each under its name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import RandomStream
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import safe_sqrt
from feller.spaces.space import Space


@dataclass(frozen=True)
class Product(Space):
    """A state with named leaves, each in its own space; the geometry is that of the metric product."""

    leaf_spaces: dict[str, Space]

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> State:
        return {name: part.sample_base(n, rng, device) for name, part in self.leaf_spaces.items()}

    def step(self, x: State, v: State) -> State:
        return {name: part.step(x[name], v[name]) if name in v else x[name] for name, part in self.leaf_spaces.items()}

    @property
    def is_flat(self) -> bool:
        return all(part.is_flat for part in self.leaf_spaces.values())

    @property
    def dimension(self) -> int:
        """Degrees of freedom of all leaves."""
        return sum(part.dimension for part in self._manifolds().values())

    def exp(self, x: State, v: State) -> State:
        """Follow each leaf's geodesic."""
        return self._each(lambda part, x, v: part.exp(x, v), x, v)

    def log(self, x: State, y: State) -> State:
        """Return each leaf's way from x to y."""
        return self._each(lambda part, x, y: part.log(x, y), x, y)

    def transport(self, x: State, y: State, v: State) -> State:
        """Carry each leaf's tangent vector."""
        return self._each(lambda part, x, y, v: part.transport(x, y, v), x, y, v)

    def project(self, x: State) -> State:
        """Return each leaf's nearest point."""
        return self._each(lambda part, x: part.project(x), x)

    def to_tangent(self, x: State, v: State) -> State:
        """Project each leaf's vector."""
        return self._each(lambda part, x, v: part.to_tangent(x, v), x, v)

    def log_differential(self, x: State, y: State, v: State) -> State:
        return {name: part.log_differential(x[name], y[name], v[name]) for name, part in self.leaf_spaces.items()}

    def base_log_prob(self, x: State) -> Float[Tensor, " b"]:
        """Add the log densities of the leaves."""
        return self._total(lambda part, x: part.base_log_prob(x), x)

    def log_volume_rate(self, x: State, v: State) -> Float[Tensor, " b"]:
        """Add the rates of the leaves."""
        return self._total(lambda part, x, v: part.log_volume_rate(x, v), x, v)

    def norm(self, x: State, v: State) -> Float[Tensor, " b"]:
        """Return the root of the sum of squares."""
        return safe_sqrt(self._total(lambda part, x, v: part.norm(x, v).square(), x, v))

    def distance(self, x: State, y: State) -> Float[Tensor, " b"]:
        """Return the root of the sum of squares."""
        return safe_sqrt(self._total(lambda part, x, y: part.distance(x, y).square(), x, y))

    def constraint_error(self, x: State) -> Float[Tensor, " b"]:
        """Add how far the leaves are from their manifolds."""
        return self._total(lambda part, x: part.constraint_error(x), x)

    def _manifolds(self) -> dict[str, Any]:
        """Return the parts, all of which must have a geometry."""
        return {name: as_manifold(part) for name, part in self.leaf_spaces.items()}

    def _each(self, function: Callable[..., Any], *states: State) -> State:
        return {name: function(part, *(s[name] for s in states)) for name, part in self._manifolds().items()}

    def _total(self, function: Callable[..., Tensor], *states: State) -> Float[Tensor, " b"]:
        return torch.stack(list(self._each(function, *states).values())).sum(0)


def as_manifold(space: Space) -> Manifold | Product:
    """Return a space, known to be a manifold or a product of manifolds.

    Raises:
        TypeError: If a part of it is none, such as tokens.
    """
    if isinstance(space, Product):
        for each in space.leaf_spaces.values():
            as_manifold(each)
        return space
    if not isinstance(space, Manifold):
        raise TypeError(f"{type(space).__name__} has no geometry, so nothing flows along it")
    return space


def space_map(function: Callable[..., Any], space: Space, tree: State, *others: State) -> State:
    """Apply a function to the space of each leaf and the leaf, beside the leaves at the same place of other trees."""
    if isinstance(tree, dict):
        return {
            name: space_map(function, leaf_space(space, name), leaf, *(other[name] for other in others))
            for name, leaf in tree.items()
        }
    return function(space, tree, *others)


def leaf_space(space: Space, name: str) -> Space:
    """Return the space of a leaf; a space that is no product serves all leaves."""
    return space.leaf_spaces[name] if isinstance(space, Product) else space
