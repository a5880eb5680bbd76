"""Mean-field costs: congestion and entropy of the population."""

from dataclasses import dataclass

from torch import Tensor

from feller.control.bridges.costs.smooth_functions import congestion_kernel
from feller.control.bridges.costs.state_cost import PopulationDensity, StateCost, require_population


@dataclass(frozen=True)
class CongestionCost(StateCost):
    """Congestion cost: the mean of 2 / (|x - y|^2 + 1) over members y of the population; high in crowded regions.

    The mean is estimated with one random member y for each state x.


    Source: Liu et al. 2022, "Deep generalized Schrödinger bridge", arXiv 2209.09893.
    """

    needs_population = True

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the cost; its gradient flows through x and through the random members of the population."""
        return congestion_kernel(x, require_population(population, "of congestion").samples)


@dataclass(frozen=True)
class EntropyCost(StateCost):
    """Entropy cost log p_t(x), where p_t is the density of the population at time t.

    It spreads the population out, and may be negative.
    """

    needs_population = True

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the cost; the gradient flows through x alone, which suffices as E grad log p = 0."""
        return require_population(population, "of entropy").log_density(x)
