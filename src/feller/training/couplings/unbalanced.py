"""Transport that may leave out what is too far."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.pytree import Given, State, length
from feller.core.rng import Draw
from feller.training.couplings.coupling import Coupling, in_blocks
from feller.training.couplings.ground_cost import Cost, SquaredDistance
from feller.training.couplings.sinkhorn import relative, sinkhorn
from feller.training.couplings.sinkhorn_ot import check_positive, draw_partners


@dataclass(frozen=True)
class Unbalanced(Coupling):
    """As `Entropic`, with marginals that are wished for and not demanded: an outlier does not bend the others' pairs.

    A datum that is far from all draws gets little mass, so that it claims no draw for itself and shares those of
    others. Every datum is still used once, with a partner from its normalised column, so outliers stay in the data. The
    price: draws are no longer used once on average, and the source that the network sees is pulled towards the data, by
    the more the smaller tau is. Source: Eyring et al. 2024, "Unbalancedness in neural Monge maps improves unpaired
    domain translation", arXiv 2311.15100.
    """

    epsilon: float = 0.05
    """Strength of the entropy, in units of the median cost."""
    tau: float = 1.0
    """Strength of the marginals, in units of the median cost; infinite is `Entropic`."""
    block: int | None = 256
    """Examples solved together; None for the whole batch."""
    cost: Cost = field(default_factory=SquaredDistance)
    tolerance: float = 1e-3
    """Largest distance from the fixed point, as a share of the plan's mass."""
    most: int = 3000
    """Scalings of the plan before it gives up, with a warning."""

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon, tau=self.tau)

    def __call__(self, x_0: State, x_1: State, given: Given, draw: Draw) -> State:
        """Draw a partner for each datum, from its column of the plan."""
        uniform = draw.uniform((length(x_1),), torch.float64)

        def partners(x_0: State, x_1: State, given: Given, rows: slice) -> Tensor:
            cost = relative(self.cost(x_0, x_1, given))
            log_plan = sinkhorn(cost, self.epsilon, tau=self.tau, tolerance=self.tolerance, most=self.most)
            return draw_partners(log_plan, uniform[rows])

        return in_blocks(x_0, x_1, given, self.block, partners)
