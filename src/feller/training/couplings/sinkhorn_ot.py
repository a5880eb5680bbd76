"""Transport that is blurred by entropy."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Given, State, length
from feller.core.rng import Draw, categorical
from feller.training.couplings.coupling import Coupling, in_blocks
from feller.training.couplings.ground_cost import Cost, SquaredDistance
from feller.training.couplings.sinkhorn import relative, sinkhorn


@dataclass(frozen=True)
class Entropic(Coupling):
    """Each datum draws its partner from a transport plan with entropy; between independence and transport.

    Every datum is used once. A source draw may be used twice or not at all, but is used once on average, so the source
    keeps its law; within a batch about a third of the draws go unused. In many dimensions all costs are nearly equal
    and epsilon must be smaller for the same effect: 0.05 keeps 93 % of the gain of transport in the plane and 32 % in
    784 dimensions, where 0.002 keeps 90 %.
    """

    epsilon: float = 0.05
    """Strength of the entropy, in units of the median cost; 0 would be transport, infinite is independence."""
    block: int | None = 256
    """Examples solved together; None for the whole batch."""
    cost: Cost = field(default_factory=SquaredDistance)
    tolerance: float = 1e-3
    """Largest error of the source's marginal, as a sum over the block."""
    most: int = 3000
    """Scalings of the plan before it gives up, with a warning."""

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)

    def __call__(self, x_0: State, x_1: State, given: Given, draw: Draw) -> State:
        """Draw a partner for each datum, from its column of the plan."""
        uniform = draw.uniform((length(x_1),), torch.float64)

        def partners(x_0: State, x_1: State, given: Given, rows: slice) -> Tensor:
            cost = relative(self.cost(x_0, x_1, given))
            log_plan = sinkhorn(cost, self.epsilon, tolerance=self.tolerance, most=self.most)
            return draw_partners(log_plan, uniform[rows])

        return in_blocks(x_0, x_1, given, self.block, partners)


def draw_partners(log_plan: Tensor, uniform: Tensor) -> Tensor:
    """Draw a row for each column of a plan, as often as the column says."""
    columns = (log_plan - log_plan.amax(0)).exp()  # of any size; their sums do not matter
    return categorical(columns.T, uniform.to(log_plan.device))


def check_positive(**numbers: float) -> None:
    """Refuse strengths that are not above 0.

    Raises:
        UsageError: If one is not.
    """
    for name, number in numbers.items():
        if not number > 0:
            raise UsageError(f"{name} must be above 0, got {number:g}")
