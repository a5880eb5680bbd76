"""A cost as a leg of a journey sees it."""

from dataclasses import dataclass, replace

from torch import Tensor

from feller.control.bridges.costs.state_cost import Cost, Population, Wrapped, check_here


@dataclass(frozen=True, eq=False)
class InLeg(Wrapped):
    """L^2 V(x, start + L t): with noise times the root of L, a leg in its own time from 0 to 1 is the same problem."""

    start: float
    length: float

    def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
        """Return it.

        Raises:
            InputError: If it is no number somewhere, or infinite where its gradient is asked for; says where.
        """
        whole = self.start + self.length * t
        found = self.cost(x, whole, population)
        good = found.isfinite() if x.requires_grad else ~found.isnan()
        check_here(good, found, x, whole, "the cost is {value}")
        return self.length**2 * found

    def for_pairs(self, x_0: Tensor, x_1: Tensor) -> Cost:
        """Return the cost as the pairs of the leg see it."""
        return replace(self, cost=self.cost.for_pairs(x_0, x_1))
