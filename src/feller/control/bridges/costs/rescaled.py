"""State costs in other units: of the data, and of one segment of the time axis."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from feller.control.bridges.costs.state_cost import Cost, Inside, Population, Wrapped, check_here


@dataclass(frozen=True, eq=False)
class OfValues(Wrapped):
    """V of what states stand for: moved places, or pictures in their levels."""

    values: Callable[[Tensor], Tensor]
    """States [*b, d] -> values [*b, k], with a gradient."""

    @property
    def obstacles(self) -> tuple[Inside, ...]:
        """Those of the cost, as states see them."""
        return tuple(lambda x, one=one: one(self.values(x)) for one in self.cost.obstacles)

    def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
        """Return it."""
        seen = None if population is None else self._crowd(population)
        return self.cost(self.values(x), t, seen).to(x.dtype)

    def for_pairs(self, x_0: Tensor, x_1: Tensor) -> Cost:
        """Return the cost as the pairs see it."""
        return replace(self, cost=self.cost.for_pairs(self.values(x_0), self.values(x_1)))

    def examined(self, x: Tensor, t: Tensor, population: Population | None = None) -> Cost:
        """Examine the cost."""
        seen = None if population is None else self._crowd(population)
        return replace(self, cost=self.cost.examined(self.values(x), t, seen))

    def _crowd(self, population: Population) -> Population:
        """See the crowd alike; the widths of its density stay, as values are not scaled where they are places."""
        return Population(self.values(population.samples), self.values(population.centres), population.widths)


@dataclass(frozen=True, eq=False)
class InLeg(Wrapped):
    """L^2 V(x, start + L t): with noise times the root of L, a leg in its own time from 0 to 1 is the same problem."""

    start: float
    length: float

    def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
        """Return it; InputError, which says where, if it is no number, or infinite where its gradient is asked for."""
        whole = self.start + self.length * t
        found = self.cost(x, whole, population)
        good = found.isfinite() if x.requires_grad else ~found.isnan()
        check_here(good, found, x, whole, "the cost is {value}")
        return self.length**2 * found

    def for_pairs(self, x_0: Tensor, x_1: Tensor) -> Cost:
        """Return the cost as the pairs of the leg see it."""
        return replace(self, cost=self.cost.for_pairs(x_0, x_1))
