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
"""Number of multiplicative scalings between two log-domain updates, which prevent overflow."""


def sinkhorn(
    cost: Float[Tensor, "n m"],
    epsilon: float,
    *,
    tau: float = math.inf,
    tolerance: float = 1e-3,
    max_iterations: int = 3000,
) -> Float[Tensor, "n m"]:
    """Return the logarithm of an entropic transport plan, computed by Sinkhorn iterations.

    The plan P minimises <P, cost> + epsilon KL(P | a b^T) + tau KL(P 1 | a) + tau KL(P^T 1 | b). a and b are the
    uniform distributions of rows and columns. The iteration is stabilised: after at most 30 scalings, the scaling
    factors are absorbed into log-domain potentials.

    Args:
        cost: Cost of each pair of a source sample (row) and a datum (column).
        epsilon: Entropic regularisation, in units of the cost.
        tau: Weight of the penalty for wrong marginals, in units of the cost; infinity for exact marginals.
        tolerance: Largest L1 error of the row marginals; column marginals are exact.
        max_iterations: Largest number of scalings; a warning follows if the iteration has not converged by then.

    Returns:
        Logarithm of the transport plan, so that even the tiny entries of an outlier's column can be compared.

    Raises:
        ValueError: If a cost is not finite.
    """
    n, m = cost.shape
    cost = cost.double() / epsilon
    if not cost.isfinite().all():
        raise ValueError("the cost of some pairs is not finite: check the states, or increase epsilon")
    power = 1.0 if math.isinf(tau) else tau / (tau + epsilon)
    f, g = cost.new_zeros(n), cost.new_zeros(m)
    for _ in range(max(1, max_iterations // _SCALINGS)):
        f = power * (math.log(m) - torch.logsumexp(g - cost, 1))
        log_kernel = f[:, None] - cost
        column_max = log_kernel.amax(0)
        plan = (log_kernel - column_max).exp_()
        g = power * (math.log(n) - column_max - plan.sum(0).log())
        plan *= torch.exp(column_max + g) / (n * m)
        row_marginal = torch.exp((1 - 1 / power) * f) / n  # fixed point of the update of f
        if (plan.sum(1) - row_marginal).abs().sum() <= tolerance * row_marginal.sum():
            return log_kernel + (g - math.log(n * m))
        u, v = _scale(plan, f, g, power, tolerance)
        if u.isfinite().all() and v.isfinite().all() and (u > 0).all() and (v > 0).all():
            f, g = f + u.log(), g + v.log()
    warnings.warn(
        f"Sinkhorn has not converged: the marginals are off by more than {tolerance:g} after {max_iterations} scalings;"
        " increase epsilon or max_iterations",
        RuntimeWarning,
        stacklevel=2,
    )
    log_kernel = f[:, None] - cost
    g = power * (math.log(n) - torch.logsumexp(log_kernel, 0))
    return log_kernel + (g - math.log(n * m))


def _scale(plan: Tensor, f: Tensor, g: Tensor, power: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return the factors of rows and columns after Sinkhorn iterations on a transport plan, for potentials f and g.

    `power` below 1 relaxes the marginals, and `tolerance` is the error of the row marginals at which iterations stop.
    """
    n, m = plan.shape
    # A relaxed update raises the whole potential to a power, so scaling factors include the rest of it.
    rest_f, rest_g = torch.exp((power - 1) * f), torch.exp((power - 1) * g)
    u, v = torch.ones_like(f), torch.ones_like(g)
    for _ in range(_SCALINGS - 1):
        row_sums, previous = plan @ v, u
        # rows that underflowed wait for the log update
        u = torch.where(row_sums > 0, rest_f * (n * row_sums) ** -power, 1.0)
        if ((u - previous) * row_sums).abs().sum() <= tolerance / 2:  # L1 error of the row marginals
            break
        column_sums = u @ plan
        v = torch.where(column_sums > 0, rest_g * (m * column_sums) ** -power, 1.0)
    return u, v


def median_normalized(cost: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Return the cost divided by its median, or by its mean if the median is zero."""
    median = cost.median()
    return cost / torch.where(median > 0, median, cost.mean()).clamp(min=torch.finfo(cost.dtype).tiny)


@dataclass(frozen=True)
class SinkhornCoupling(Coupling):
    """Entropic optimal transport: the source of each datum is sampled from its column of the Sinkhorn plan.

    Each datum is used once. A source sample is used once on average, so the source distribution is unchanged, but about
    a third of the source samples of each batch is unused. In high dimension, all costs are similar, so that a smaller
    epsilon is needed: 0.05 keeps 93 % of the cost reduction of exact transport in 2-D and 32 % in 784 dimensions, where
    0.002 keeps 90 %.
    """

    epsilon: float = 0.05
    """Entropic regularisation, in units of the median cost; 0 gives exact transport, infinity independent coupling."""
    block_size: int | None = 256
    """Examples per transport problem; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)
    tolerance: float = 1e-3
    """Largest L1 error of the plan's source marginal."""
    max_iterations: int = 3000
    """Largest number of Sinkhorn scalings; a warning follows if the iteration has not converged by then."""

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, gt=0)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return _by_plan(self, math.inf, x_0, x_1, cond, rng)


def sample_partners(log_plan: Tensor, uniform: Tensor) -> Tensor:
    """Return a sampled row index for each column of the plan, with probabilities proportional to the column's entries.

    `log_plan` holds the logarithms of these entries, and `uniform` one uniform number per column.
    """
    probs = (log_plan - log_plan.amax(0)).exp()  # columns need no normalisation
    return categorical(probs.T, uniform.to(log_plan.device))


def _by_plan(
    coupling: "SinkhornCoupling | UnbalancedOT", tau: float, x_0: State, x_1: State, cond: Cond, rng: RandomStream
) -> State:
    uniform = rng.uniform((num_examples(x_1),), torch.float64)

    def partners(x_0: State, x_1: State, cond: Cond, rows: slice) -> Tensor:
        cost = median_normalized(coupling.cost(x_0, x_1, cond))
        log_plan = sinkhorn(
            cost, coupling.epsilon, tau=tau, tolerance=coupling.tolerance, max_iterations=coupling.max_iterations
        )
        return sample_partners(log_plan, uniform[rows])

    return couple_in_blocks(x_0, x_1, cond, coupling.block_size, partners)


@dataclass(frozen=True)
class UnbalancedOT(Coupling):
    """`SinkhornCoupling` with soft marginals, so that an outlier does not distort other pairs.

    A datum far from all source samples gets little mass in the plan, so it hardly changes the pairs of other data. Each
    datum is still used once, with a partner sampled from its normalised column, so outliers remain in the data. The
    source that the network sees is biased toward the data, more so for small tau. Source: Eyring et al. 2024,
    "Unbalancedness in neural Monge maps improves unpaired domain translation", arXiv 2311.15100.
    """

    epsilon: float = 0.05
    """Entropic regularisation, in units of the median cost."""
    tau: float = 1.0
    """Weight of the penalty for wrong marginals, in units of the median cost; infinity gives `SinkhornCoupling`."""
    block_size: int | None = 256
    """Examples per transport problem; None for the whole batch."""
    cost: GroundCost = field(default_factory=SquaredDistance)
    tolerance: float = 1e-3
    """Largest distance from the fixed point of the iteration, as a fraction of the plan's mass."""
    max_iterations: int = 3000
    """Largest number of Sinkhorn scalings; a warning follows if the iteration has not converged by then."""

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, gt=0)
        check_number("tau", self.tau, gt=0)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        return _by_plan(self, self.tau, x_0, x_1, cond, rng)
