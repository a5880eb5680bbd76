"""Sample weights of growing and shrinking populations, from unbalanced optimal transport."""

from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.population import Population
from feller.core.errors import check_number
from feller.training.couplings.sinkhorn_ot import median_normalized, sinkhorn

EPSILON = 0.05
"""Entropic regularisation of the transport plan, in units of the median squared distance."""


def unbalanced_weights(
    x_0: Float[Tensor, " n *d"], x_1: Float[Tensor, " m *d"], tau: float
) -> tuple[Population, Population]:
    """Return two populations whose members are weighted by the marginals of an unbalanced transport plan.

    Members far from the other population get less weight: cells with many descendants are paired more often, cells
    without descendants rarely.

    Source: Chizat et al. 2018, "Scaling algorithms for unbalanced optimal transport problems", arXiv 1607.05816; its
    use for cells that divide and die: Schiebinger et al. 2019, "Optimal-transport analysis of single-cell gene
    expression".

    Args:
        x_0: Members at the earlier time.
        x_1: Members at the later time.
        tau: Factor of the penalty on unequal weights, in units of the median squared distance; infinity gives equal
            weights.

    Raises:
        UsageError: If tau is not above 0.
    """
    check_number("tau", tau, gt=0, remedy="1 is usual")
    a, b = x_0.flatten(1).double(), x_1.flatten(1).double()
    mean = a.mean(0)
    distances_sq = (a - mean).square().sum(1)[:, None] + (b - mean).square().sum(1) - 2 * (a - mean) @ (b - mean).T
    plan = sinkhorn(median_normalized(distances_sq.clamp(min=0)), EPSILON, tau=tau).exp()
    weights_0, weights_1 = plan.sum(1), plan.sum(0)
    return Population(x_0, weights_0 / weights_0.sum()), Population(x_1, weights_1 / weights_1.sum())
