"""Several spaces in one state, each under its name."""

from dataclasses import dataclass

import torch

from feller.draws import Draw
from feller.spaces.space import Space
from feller.tree import State


@dataclass(frozen=True)
class Product(Space):
    """A state with named leaves, each in its own space."""

    parts: dict[str, Space]

    def reference(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> State:
        """Draw every leaf, independently."""
        return {name: part.reference(n, draw, device) for name, part in self.parts.items()}

    def step(self, x: State, v: State) -> State:
        """Move every leaf that has a velocity; the others stay."""
        return {name: part.step(x[name], v[name]) if name in v else x[name] for name, part in self.parts.items()}


def part(space: Space, name: str) -> Space:
    """Return the space of a leaf; a space that is no product serves all leaves."""
    return space.parts[name] if isinstance(space, Product) else space
