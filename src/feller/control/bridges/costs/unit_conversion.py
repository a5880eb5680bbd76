"""Wrappers of state costs that convert units: states to data units, and time to the local time of one segment."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from feller.control.bridges.costs.state_cost import CostWrapper, InsideFn, PopulationDensity, StateCost, check_finite_at


@dataclass(frozen=True, eq=False)
class InDataUnits(CostWrapper):
    """Cost evaluated on states converted to data units, such as unscaled coordinates or pixel values."""

    to_data_units: Callable[[Tensor], Tensor]
    """Differentiable map from states [*b, d] to data values [*b, k]."""

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        return tuple(lambda x, inside=inside: inside(self.to_data_units(x)) for inside in self.cost.obstacles)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        converted = None if population is None else self._to_data_units(population)
        return self.cost(self.to_data_units(x), t, converted).to(x.dtype)

    def bind_pairs(self, x_0: Tensor, x_1: Tensor) -> StateCost:
        return replace(self, cost=self.cost.bind_pairs(self.to_data_units(x_0), self.to_data_units(x_1)))

    def validated(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> StateCost:
        converted = None if population is None else self._to_data_units(population)
        return replace(self, cost=self.cost.validated(self.to_data_units(x), t, converted))

    def _to_data_units(self, population: PopulationDensity) -> PopulationDensity:
        """Convert the population. Kernel widths are kept, as coordinates are not rescaled."""
        return PopulationDensity(
            self.to_data_units(population.samples), self.to_data_units(population.centres), population.widths
        )


@dataclass(frozen=True, eq=False)
class RescaledCost(CostWrapper):
    """Cost L^2 V(x, start + L t) of a segment of length L in time, where t in [0, 1] is the local time of the segment.

    If the noise is multiplied by sqrt(L) too, the control problem in local time is equivalent to that of the segment.
    """

    start: float
    duration: float

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the rescaled cost; InputError if it is NaN, or infinite while its gradient is needed."""
        global_t = self.start + self.duration * t
        values = self.cost(x, global_t, population)
        is_valid = values.isfinite() if x.requires_grad else ~values.isnan()
        check_finite_at(is_valid, values, x, global_t, "the cost is {value}")
        return self.duration**2 * values

    def bind_pairs(self, x_0: Tensor, x_1: Tensor) -> StateCost:
        return replace(self, cost=self.cost.bind_pairs(x_0, x_1))
