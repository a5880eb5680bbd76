"""What the crowd costs its members."""

from dataclasses import dataclass

from torch import Tensor

from feller.control.bridges.costs.smooth_functions import congestion_kernel
from feller.control.bridges.costs.state_cost import PopulationDensity, StateCost, require_population


@dataclass(frozen=True)
class CongestionCost(StateCost):
    """E_y 2 / (|x - y|^2 + 1) over members y of the crowd, from one of them for each state.

    Source: Liu et al. 2022, "Deep generalized Schrödinger bridge", arXiv 2209.09893.
    """

    needs_population = True

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return it; its gradient flows through both, so it is that of the crowd's mean."""
        return congestion_kernel(x, require_population(population, "of congestion").samples)


@dataclass(frozen=True)
class EntropyCost(StateCost):
    """log p_t(x): less where the crowd is thin, so it spreads. It may be negative."""

    needs_population = True

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return it; its gradient flows through the state alone, so it is that of E log p_t, as E grad log p is 0."""
        return require_population(population, "of entropy").log_density(x)
