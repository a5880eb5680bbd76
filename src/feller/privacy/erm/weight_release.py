"""Output perturbation of linear models: release, Fisher information loss per row, and a reconstruction attack."""

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
    """Fisher information loss of each row through the released weights.

    Source: Hannun, Guo and van der Maaten 2021, arXiv 2102.11673; Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv
    2201.12383, section 4.
    """

    rows: FisherLeakage
    """Fisher information loss of the features of each row."""
    labels: FisherLeakage
    """Fisher information loss of the label of each row."""


def erm_leakage(solution: ERMSolution, noise: float, column_mask: Bool[Tensor, " d"] | None = None) -> ERMLeakage:
    """Return the Fisher information loss of each row, from the squared norms of its Jacobians J.

    For the features x of a row, |J|^2 = c^2 |a|^2 |theta|^2 + 2 c r a . H^-1 theta + r^2 |H^-1|^2 with a = H^-1 x,
    Hessian H, weights theta, curvature c and residual r.

    Args:
        solution: Minimiser with its rows.
        noise: Standard deviation of the noise on the released weights.
        column_mask: Features to measure, for example all but the intercept (default: all).
    """
    mask = torch.ones_like(solution.theta, dtype=torch.bool) if column_mask is None else column_mask
    c, r, a = solution.curvatures, solution.residuals, solution.x @ solution.inverse_hessian
    theta, inverse = solution.theta[mask], solution.inverse_hessian[:, mask]
    label_traces = a.square().sum(1)
    row_traces = (
        c**2 * label_traces * theta.square().sum() + 2 * c * r * (a @ (inverse @ theta)) + r**2 * inverse.square().sum()
    )
    return ERMLeakage(
        FisherLeakage(row_traces / noise**2, int(mask.sum()), 1), FisherLeakage(label_traces / noise**2, 1, 1)
    )


def reconstruct_rows(
    erm: RegularizedERM,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    theta: Float[Tensor, "k d"],
    row_index: Int[Tensor, " m"] | None = None,
) -> tuple[Float[Tensor, "k m d"], Float[Tensor, "k m"]]:
    """Return the rows and labels that an attacker reconstructs from each of k releases of the weights.

    To reconstruct a row, the attacker knows all other rows and their labels.

    Attack of Balle, Cherubin and Hayes 2022, arXiv 2201.04845; exact for weights without noise.

    Args:
        erm: Model and its public bounds.
        x: All rows; the first feature is the constant 1.
        y: Labels.
        theta: Weights of k releases, with or without noise.
        row_index: Rows to reconstruct (default: all).

    Raises:
        UsageError: If the first feature is not 1 in each row.
    """
    if not (x[:, 0] == 1).all():
        raise UsageError("rows with a constant 1 as first feature", "another value", "Use `add_intercept`")
    glm = erm.glm
    residuals = glm.mean(theta @ x.mT) - y  # [k, n]
    gradients = residuals @ x + len(x) * erm.l2 * theta  # zero at the exact minimum (first-order condition)
    index = slice(None) if row_index is None else row_index
    row_gradients = gradients[:, None] - residuals[:, index, None] * x[index]
    rows = row_gradients / row_gradients[..., :1]
    return rows, glm.mean(torch.einsum("knd,kd->kn", rows, theta)) + row_gradients[..., 0]


@dataclass(frozen=True, eq=False)
class ReleasedWeights:
    """Weights with Gaussian noise, and the DP event of their release."""

    theta: Float[Tensor, " d"]
    event: GaussianMechanism


def release_weights(solution: ERMSolution, scale: float, noise: Noise, label: str = "weights") -> ReleasedWeights:
    """Return the weights with Gaussian noise, and the DP event of this release.

    The event is for one row added or removed; the number of rows in the regularisation term is public and does not
    change with the row.

    Args:
        solution: Minimiser with its rows.
        scale: Standard deviation of the noise on each weight.
        noise: Source of the noise.
        label: Label of the DP event, shown in reports.

    Raises:
        UsageError: If the scale is not above 0.
    """
    check_number("scale", scale, gt=0, lt=math.inf)
    sensitivity = solution.erm.sensitivity(solution.n) / 2
    return ReleasedWeights(noise.add_gaussian(solution.theta, scale), GaussianMechanism(label, scale / sensitivity))
