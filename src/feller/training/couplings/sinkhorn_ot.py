"""Entropic and unbalanced optimal transport by Sinkhorn iterations."""

import math
import warnings
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_number
from feller.core.pytree import Cond, State, num_examples
from feller.core.rng import RandomStream, categorical
from feller.training.couplings.coupling import Coupling, couple_in_blocks
from feller.training.couplings.ground_cost import GroundCost, SquaredDistance

_SCALINGS = 30
"""Cheap scalings of a plan between two steps in the logarithm, which cannot overflow."""


def sinkhorn(
    cost: Float[Tensor, "n m"],
    epsilon: float,
    *,
    tau: float = math.inf,
    tolerance: float = 1e-3,
    max_iterations: int = 3000,
) -> Float[Tensor, "n m"]:
    """Minimise <P, cost> + epsilon KL(P | a b) + tau KL(P 1 | a) + tau KL(P^T 1 | b) for uniform a and b.

    No cost is too large: the potentials are kept as logarithms, and a step in them begins every round of scalings.

    Args:
        cost: Of each pair.
        epsilon: Strength of the entropy, in units of the cost.
        tau: Strength of the marginals, in units of the cost; infinite demands them.
        tolerance: Largest sum of errors of the rows; columns meet theirs.
        max_iterations: Scalings before it gives up, with a warning.

    Returns:
        The logarithm of the plan: an outlier's column may be too small for a number and still has a largest entry.
    """
    n, m = cost.shape
    cost = cost.double() / epsilon
    if not cost.isfinite().all():
        raise ValueError("the cost of some pairs is not finite: the states are damaged, or epsilon is too small")
    power = 1.0 if math.isinf(tau) else tau / (tau + epsilon)
    f, g = cost.new_zeros(n), cost.new_zeros(m)
    for _ in range(max(1, max_iterations // _SCALINGS)):
        f = power * (math.log(m) - torch.logsumexp(g - cost, 1))
        columns = f[:, None] - cost
        most_likely = columns.amax(0)
        plan = (columns - most_likely).exp_()
        g = power * (math.log(n) - most_likely - plan.sum(0).log())
        plan *= torch.exp(most_likely + g) / (n * m)
        row_marginal = torch.exp((1 - 1 / power) * f) / n  # of the rows: the fixed point of an update of f
        if (plan.sum(1) - row_marginal).abs().sum() <= tolerance * row_marginal.sum():
            return columns + (g - math.log(n * m))
        u, v = _scale(plan, f, g, power, tolerance)
        if u.isfinite().all() and v.isfinite().all() and (u > 0).all() and (v > 0).all():
            f, g = f + u.log(), g + v.log()
    warnings.warn(
        f"the marginals of an entropic plan are still off by more than {tolerance:g} after {max_iterations} scalings; "
        "raise epsilon, or the number of scalings",
        RuntimeWarning,
        stacklevel=2,
    )
    columns = f[:, None] - cost
    g = power * (math.log(n) - torch.logsumexp(columns, 0))
    return columns + (g - math.log(n * m))


def _scale(plan: Tensor, f: Tensor, g: Tensor, power: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return factors of the rows and columns of a plan that bring it nearer to its marginals."""
    n, m = plan.shape
    # A relaxed update takes the whole potential to a power, so a factor beside it must make up for the rest.
    rest_f, rest_g = torch.exp((power - 1) * f), torch.exp((power - 1) * g)
    u, v = torch.ones_like(f), torch.ones_like(g)
    for _ in range(_SCALINGS - 1):
        rows, before = plan @ v, u
        u = torch.where(rows > 0, rest_f * (n * rows) ** -power, 1.0)  # one without mass waits for the logarithm
        if ((u - before) * rows).abs().sum() <= tolerance / 2:  # what the rows have too much or too little
            break
        columns = u @ plan
        v = torch.where(columns > 0, rest_g * (m * columns) ** -power, 1.0)
    return u, v


def median_normalized(cost: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Return the cost in units of its median, or of its mean where most pairs cost nothing."""
    unit = cost.median()
    return cost / torch.where(unit > 0, unit, cost.mean()).clamp(min=torch.finfo(cost.dtype).tiny)


@dataclass(frozen=True)
class SinkhornCoupling(Coupling):
    """Each datum draws its partner from a transport plan with entropy; between independence and transport.

    Every datum is used once. A source draw may be used twice or not at all, but is used once on average, so the source
    keeps its law; within a batch about a third of the draws go unused. In many dimensions all costs are nearly equal
    and epsilon must be smaller for the same effect: 0.05 keeps 93 % of the gain of transport in the plane and 32 % in
    784 dimensions, where 0.002 keeps 90 %.
    """

    epsilon: float = 0.05
    """Strength of the entropy, in units of the median cost; 0 would be transport, infinite is independence."""
    block_size: int | None = 256
    """Examples solved together; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)
    tolerance: float = 1e-3
    """Largest error of the source's marginal, as a sum over the block."""
    max_iterations: int = 3000
    """Scalings of the plan before it gives up, with a warning."""

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, gt=0)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return _by_plan(self, math.inf, x_0, x_1, cond, rng)


def sample_partners(log_plan: Tensor, uniform: Tensor) -> Tensor:
    """Draw a row for each column of a plan, as often as the column says."""
    columns = (log_plan - log_plan.amax(0)).exp()  # of any size; their sums do not matter
    return categorical(columns.T, uniform.to(log_plan.device))


def _by_plan(
    how: "SinkhornCoupling | UnbalancedOT", tau: float, x_0: State, x_1: State, given: Cond, draw: RandomStream
) -> State:
    uniform = draw.uniform((num_examples(x_1),), torch.float64)

    def partners(x_0: State, x_1: State, given: Cond, rows: slice) -> Tensor:
        cost = median_normalized(how.cost(x_0, x_1, given))
        log_plan = sinkhorn(cost, how.epsilon, tau=tau, tolerance=how.tolerance, max_iterations=how.max_iterations)
        return sample_partners(log_plan, uniform[rows])

    return couple_in_blocks(x_0, x_1, given, how.block_size, partners)


@dataclass(frozen=True)
class UnbalancedOT(Coupling):
    """As `SinkhornCoupling`, with marginals that are wished for and not demanded: an outlier bends no other pairs.

    A datum that is far from all draws gets little mass, so that it claims no draw for itself and shares those of
    others. Every datum is still used once, with a partner from its normalised column, so outliers stay in the data. The
    price: draws are no longer used once on average, and the source that the network sees is pulled towards the data, by
    the more the smaller tau is. Source: Eyring et al. 2024, "Unbalancedness in neural Monge maps improves unpaired
    domain translation", arXiv 2311.15100.
    """

    epsilon: float = 0.05
    """Strength of the entropy, in units of the median cost."""
    tau: float = 1.0
    """Strength of the marginals, in units of the median cost; infinite is `SinkhornCoupling`."""
    block_size: int | None = 256
    """Examples solved together; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)
    tolerance: float = 1e-3
    """Largest distance from the fixed point, as a share of the plan's mass."""
    max_iterations: int = 3000
    """Scalings of the plan before it gives up, with a warning."""

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, gt=0)
        check_number("tau", self.tau, gt=0)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return _by_plan(self, self.tau, x_0, x_1, cond, rng)
