"""Networks that others wrote, in their own conventions of time and sign."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import Given, State, tree_map
from feller.core.rng import Draws
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import RESERVED


@dataclass(frozen=True)
class Foreign(Architecture):
    """A network of somebody else's, called as network(x, t) or network(x, t, condition, ...), times [b]."""

    make: Callable[..., Any]
    """Returns the network: a module, or a plain function. A record holds its name alone."""
    times: tuple[float, float] = (0.0, 1.0)
    """Its times at the source and at the data: (1, 0) where it runs backwards, (999, 0) where it counts steps."""
    factor: float = 1.0
    """What its answers are multiplied by: -1 for a velocity that points from the data to the source."""
    nulls: dict[str, int] = field(default_factory=dict)
    """Its own number of "not given" of each condition that it can do without."""

    def __post_init__(self) -> None:
        if self.times[0] == self.times[1]:
            raise UsageError(f"times at the source and at the data must differ, got {self.times[0]:g} twice")

    def build(self, shape: State, conditions: dict[str, int], draws: Draws) -> "ForeignNetwork":
        """Call what makes the network; its new weights are its own affair."""
        with weights_from(draws):
            made = self.make()
        if not callable(made):
            raise UsageError(f"expected a function that returns a network, it returned {type(made).__name__}")
        return ForeignNetwork(self, made, conditions)


class ForeignNetwork(nn.Module):
    """The network of `Foreign`."""

    def __init__(self, settings: Foreign, inner: Callable[..., Any], conditions: dict[str, int]) -> None:
        super().__init__()
        self.settings, self.inner, self.conditions = settings, inner, conditions
        self.nulls: dict[str, int | float] = {name: conditions[name] for name in settings.nulls}
        if not isinstance(inner, nn.Module) or next(inner.parameters(), None) is None:
            self.place = nn.Parameter(torch.zeros(1))  # a device is where the weights are, so there must be some

    def forward(self, x_t: State, t: Tensor, given: Given) -> State:
        """Ask it in its own terms."""
        if given.keys() - RESERVED != self.conditions.keys():
            raise KeyError(f"expected the conditions {sorted(self.conditions)}, got {sorted(given)}")
        source, data = self.settings.times
        plain = self.settings.times == (0.0, 1.0)
        values = [self._theirs(name, given[name]) for name in self.conditions]
        answer = self.inner(x_t, t if plain else source + (data - source) * t, *values)
        return answer if self.settings.factor == 1 else tree_map(lambda leaf: self.settings.factor * leaf, answer)

    def _theirs(self, name: str, value: Tensor) -> Tensor:
        """Replace our number of "not given" by its own."""
        own = self.settings.nulls.get(name, self.conditions[name])
        return value if own == self.conditions[name] else torch.where(value == self.conditions[name], own, value)
