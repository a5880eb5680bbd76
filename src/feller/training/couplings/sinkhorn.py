"""Transport plans with entropy, by alternate scaling of rows and columns.

Source: Cuturi 2013, "Sinkhorn distances", arXiv 1306.0895; with relaxed marginals Chizat et al. 2018, "Scaling
algorithms for unbalanced optimal transport problems", arXiv 1607.05816.
"""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

_SCALINGS = 30
"""Cheap scalings of a plan between two steps in the logarithm, which cannot overflow."""


def sinkhorn(
    cost: Float[Tensor, "n m"],
    epsilon: float,
    *,
    tau: float = math.inf,
    tolerance: float = 1e-3,
    most: int = 3000,
) -> Float[Tensor, "n m"]:
    """Minimise <P, cost> + epsilon KL(P | a b) + tau KL(P 1 | a) + tau KL(P^T 1 | b) for uniform a and b.

    No cost is too large: the potentials are kept as logarithms, and a step in them begins every round of scalings.

    Args:
        cost: Of each pair.
        epsilon: Strength of the entropy, in units of the cost.
        tau: Strength of the marginals, in units of the cost; infinite demands them.
        tolerance: Largest sum of errors of the rows; columns meet theirs.
        most: Scalings before it gives up, with a warning.

    Returns:
        The logarithm of the plan: an outlier's column may be too small for a number and still has a largest entry.
    """
    n, m = cost.shape
    cost = cost.double() / epsilon
    if not cost.isfinite().all():
        raise ValueError("the cost of some pairs is not finite: the states are damaged, or epsilon is too small")
    power = 1.0 if math.isinf(tau) else tau / (tau + epsilon)
    f, g = cost.new_zeros(n), cost.new_zeros(m)
    for _ in range(max(1, most // _SCALINGS)):
        f = power * (math.log(m) - torch.logsumexp(g - cost, 1))
        columns = f[:, None] - cost
        most_likely = columns.amax(0)
        plan = (columns - most_likely).exp_()
        g = power * (math.log(n) - most_likely - plan.sum(0).log())
        plan *= torch.exp(most_likely + g) / (n * m)
        wanted = torch.exp((1 - 1 / power) * f) / n  # of the rows: the fixed point of an update of f
        if (plan.sum(1) - wanted).abs().sum() <= tolerance * wanted.sum():
            return columns + (g - math.log(n * m))
        u, v = _scale(plan, f, g, power, tolerance)
        if u.isfinite().all() and v.isfinite().all() and (u > 0).all() and (v > 0).all():
            f, g = f + u.log(), g + v.log()
    warnings.warn(
        f"the marginals of an entropic plan are still off by more than {tolerance:g} after {most} scalings; raise "
        "epsilon, or the number of scalings",
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


def relative(cost: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Return the cost in units of its median, or of its mean where most pairs cost nothing."""
    unit = cost.median()
    return cost / torch.where(unit > 0, unit, cost.mean()).clamp(min=torch.finfo(cost.dtype).tiny)
