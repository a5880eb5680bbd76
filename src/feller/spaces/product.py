"""Products of spaces: one space per named leaf (component) of a state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_kind
from feller.core.pytree import State
from feller.core.rng import RandomStream
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import safe_sqrt
from feller.spaces.space import Space


@dataclass(frozen=True)
class Product(Space):
    """Product of spaces with the product metric, for states with named leaves (components)."""

    leaf_spaces: dict[str, Space]

    def __post_init__(self) -> None:
        check_kind("leaf_spaces", self.leaf_spaces, dict, '{"position": feller.Euclidean((3,))}')
        for name, space in self.leaf_spaces.items():
            example = "feller.Euclidean((3,)), or feller.ProductPath({...}) for a product of paths"
            check_kind(f"leaf_spaces[{name!r}]", space, Space, example)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> State:
        return {name: space.sample_base(n, rng, device) for name, space in self.leaf_spaces.items()}

    def step(self, x: State, v: State) -> State:
        return {
            name: space.step(x[name], v[name]) if name in v else x[name] for name, space in self.leaf_spaces.items()
        }

    @property
    def is_flat(self) -> bool:
        return all(space.is_flat for space in self.leaf_spaces.values())

    @property
    def dimension(self) -> int:
        """Total number of degrees of freedom of all leaves."""
        return sum(space.dimension for space in self._manifolds().values())

    def exp(self, x: State, v: State) -> State:
        """Apply the exponential map of each leaf."""
        return self._each(lambda space, x, v: space.exp(x, v), x, v)

    def log(self, x: State, y: State) -> State:
        """Apply the logarithmic map of each leaf."""
        return self._each(lambda space, x, y: space.log(x, y), x, y)

    def transport(self, x: State, y: State, v: State) -> State:
        """Parallel-transport the tangent vector of each leaf."""
        return self._each(lambda space, x, y, v: space.transport(x, y, v), x, y, v)

    def project(self, x: State) -> State:
        """Project each leaf onto its manifold."""
        return self._each(lambda space, x: space.project(x), x)

    def to_tangent(self, x: State, v: State) -> State:
        """Project the vector of each leaf onto its tangent space."""
        return self._each(lambda space, x, v: space.to_tangent(x, v), x, v)

    def log_differential(self, x: State, y: State, v: State) -> State:
        return {name: space.log_differential(x[name], y[name], v[name]) for name, space in self.leaf_spaces.items()}

    def base_log_prob(self, x: State) -> Float[Tensor, " b"]:
        """Return the sum of the log densities of all leaves."""
        return self._total(lambda space, x: space.base_log_prob(x), x)

    def log_volume_rate(self, x: State, v: State) -> Float[Tensor, " b"]:
        """Return the sum of the log volume rates of all leaves."""
        return self._total(lambda space, x, v: space.log_volume_rate(x, v), x, v)

    def norm(self, x: State, v: State) -> Float[Tensor, " b"]:
        """Return the root of the summed squared norms of all leaves."""
        return safe_sqrt(self._total(lambda space, x, v: space.norm(x, v).square(), x, v))

    def distance(self, x: State, y: State) -> Float[Tensor, " b"]:
        """Return the root of the summed squared distances of all leaves."""
        return safe_sqrt(self._total(lambda space, x, y: space.distance(x, y).square(), x, y))

    def constraint_error(self, x: State) -> Float[Tensor, " b"]:
        """Return the sum over all leaves of the distance from the leaf's manifold."""
        return self._total(lambda space, x: space.constraint_error(x), x)

    def _manifolds(self) -> dict[str, Any]:
        return {name: as_manifold(space) for name, space in self.leaf_spaces.items()}

    def _each(self, function: Callable[..., Any], *states: State) -> State:
        return {name: function(space, *(s[name] for s in states)) for name, space in self._manifolds().items()}

    def _total(self, function: Callable[..., Tensor], *states: State) -> Float[Tensor, " b"]:
        return torch.stack(list(self._each(function, *states).values())).sum(0)


def as_manifold(space: Space) -> Manifold | Product:
    """Check that a space is a manifold or a product of manifolds, and return it.

    Raises:
        TypeError: If the space or one of its leaves, such as tokens, is not a manifold.
    """
    if isinstance(space, Product):
        for factor in space.leaf_spaces.values():
            as_manifold(factor)
        return space
    if not isinstance(space, Manifold):
        raise TypeError(f"expected a manifold, found {type(space).__name__}")
    return space


def space_map(function: Callable[..., Any], space: Space, tree: State, *others: State) -> State:
    """Call `function(leaf space, leaf, ...)` on the leaves of the same name in `tree` and `others`.

    Return the results in the structure of `tree`.
    """
    if isinstance(tree, dict):
        return {
            name: space_map(function, leaf_space(space, name), leaf, *(other[name] for other in others))
            for name, leaf in tree.items()
        }
    return function(space, tree, *others)


def leaf_space(space: Space, name: str) -> Space:
    """Return the space of the leaf `name` (a component of the state).

    A space that is not a product is the space of every leaf.
    """
    return space.leaf_spaces[name] if isinstance(space, Product) else space
