"""Output perturbation of linear models: release, leakage per row, and the exact reconstruction attack."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.erm.regularized_erm import ERMSolution, RegularizedERM
from feller.privacy.leakage.fisher_information import FisherLeakage
from feller.privacy.noise.grid_noise import Noise


@dataclass(frozen=True)
class ERMLeakage:
    """About all rows.

    Source: Hannun, Guo and van der Maaten 2021, arXiv 2102.11673; Guo, Karrer, Chaudhuri and van der Maaten 2022,
    arXiv 2201.12383, section 4.
    """

    rows: FisherLeakage
    """About the numbers of each."""
    labels: FisherLeakage
    """About the label of each."""


def erm_leakage(solution: ERMSolution, noise: float, column_mask: Bool[Tensor, " d"] | None = None) -> ERMLeakage:
    """Return what is told, from |J|^2 = c^2 |a|^2 |theta|^2 + 2 c r a . H^-1 theta + r^2 |H^-1|^2, with a = H^-1 x.

    Args:
        solution: The weights.
        noise: Standard deviation of the noise that they are told with.
        column_mask: Numbers of a row that it is about, such as all but the constant; all by default.
    """
    chosen = torch.ones_like(solution.theta, dtype=torch.bool) if column_mask is None else column_mask
    c, r, a = solution.curvatures, solution.residuals, solution.x @ solution.inverse_hessian
    theta, inverse = solution.theta[chosen], solution.inverse_hessian[:, chosen]
    sizes = a.square().sum(1)
    whole = c**2 * sizes * theta.square().sum() + 2 * c * r * (a @ (inverse @ theta)) + r**2 * inverse.square().sum()
    return ERMLeakage(
        FisherLeakage(whole / noise**2, int(chosen.sum()), 1),
        FisherLeakage(sizes / noise**2, 1, 1),
    )


def reconstruct_rows(
    erm: RegularizedERM,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    theta: Float[Tensor, "k d"],
    row_index: Int[Tensor, " m"] | None = None,
) -> tuple[Float[Tensor, "k m d"], Float[Tensor, "k m"]]:
    """Return rows and their labels as an attacker finds them who knows all other rows, from weights told k times.

    Args:
        erm: What was made least.
        x: All rows, the first number of which is a constant 1.
        y: Labels.
        theta: Weights as they were told, with noise or without.
        row_index: Rows that are looked for; all by default.

    Raises:
        UsageError: If rows have no constant.
    """
    if not (x[:, 0] == 1).all():
        raise UsageError("this attack needs a constant of 1 as the first number of each row: see `add_intercept`")
    family = erm.glm
    residuals = family.mean(theta @ x.mT) - y  # [k, n]
    whole = residuals @ x + len(x) * erm.l2 * theta
    rows = slice(None) if row_index is None else row_index
    others = whole[:, None] - residuals[:, rows, None] * x[rows]
    found = others / others[..., :1]
    return found, family.mean(torch.einsum("knd,kd->kn", found, theta)) + others[..., 0]


@dataclass(frozen=True, eq=False)
class ReleasedWeights:
    """What is told, and what it costs."""

    theta: Float[Tensor, " d"]
    event: GaussianMechanism


def release_weights(solution: ERMSolution, scale: float, noise: Noise, label: str = "weights") -> ReleasedWeights:
    """Return the weights with normal noise, paid for by a row that comes or goes while the number of rows is public.

    Raises:
        UsageError: If the scale is not above 0.
    """
    check_number("scale", scale, gt=0, lt=math.inf)
    sensitivity = solution.erm.sensitivity(solution.n) / 2
    return ReleasedWeights(noise.add_gaussian(solution.theta, scale), GaussianMechanism(label, scale / sensitivity))
