"""Regularised empirical risk minimisation of linear models: minimise the sum of losses + (n l2 / 2) |theta|^2."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import InputError, UsageError, check_number
from feller.privacy.erm.glm import GLM

STEPS = 200
"""Maximum number of Newton steps."""
FULL_STEP_TOLERANCE = 1e-10
"""Relative decrease of the objective below which Newton steps need no line search, until the decrease stalls."""
ROUNDING = 1e-9
"""Relative tolerance of the row norm check."""


@dataclass(frozen=True)
class RegularizedERM:
    """L2-regularised linear model with public bounds on its rows and labels."""

    glm: GLM
    l2: float
    """L2 regularisation coefficient per row."""
    max_row_norm: float
    """Maximum row norm, including the intercept; public knowledge, or enforced by `clip_rows`."""

    def __post_init__(self) -> None:
        check_number("l2", self.l2, gt=0, lt=math.inf, remedy="The privacy guarantee needs regularisation")
        check_number("max_row_norm", self.max_row_norm, gt=0, lt=math.inf)

    def sensitivity(self, n: int) -> float:
        """Return the L2 sensitivity of the weights to replacing one of n rows: 2 L / (n l2).

        L is the Lipschitz constant of the loss of a row with respect to the weights.

        If a row is added or removed, and n in the regularisation term does not change, the sensitivity is half of this.
        Source: Chaudhuri, Monteleoni, Sarwate 2011, "Differentially private empirical risk minimization", corollary 8.
        """
        return 2 * self.glm.max_slope(self.max_row_norm, self.l2) * self.max_row_norm / (n * self.l2)


@dataclass(frozen=True, eq=False)
class ERMSolution:
    """Minimiser with its training rows. It must not be released, because it contains the private rows."""

    erm: RegularizedERM
    theta: Float[Tensor, " d"]
    x: Float[Tensor, "n d"]
    y: Float[Tensor, " n"]
    n: int
    """Number of rows n in the regularisation term (n l2 / 2) |theta|^2."""
    inverse_hessian: Float[Tensor, "d d"]
    """Inverse Hessian of the objective."""

    @property
    def residuals(self) -> Float[Tensor, " n"]:
        """Predicted mean minus label, per row."""
        return self.erm.glm.mean(self.x @ self.theta) - self.y

    @property
    def curvatures(self) -> Float[Tensor, " n"]:
        """Second derivative of each row's loss with respect to its score."""
        return self.erm.glm.curvature(self.x @ self.theta)

    def row_jacobian(self, i: int) -> Float[Tensor, "d d"]:
        """Return the Jacobian -H^-1 (c x theta^T + r I) of the weights with respect to the features x of row i.

        H is the Hessian of the objective, theta are the weights, c is the curvature and r the residual of the row.
        """
        c, r = self.curvatures[i], self.residuals[i]
        return -self.inverse_hessian @ (
            c * torch.outer(self.x[i], self.theta) + r * torch.eye(len(self.theta)).to(self.theta)
        )

    def label_jacobian(self, i: int) -> Float[Tensor, " d"]:
        """Return the derivative H^-1 x of the weights with respect to the label of row i (H: Hessian, x: features)."""
        return self.inverse_hessian @ self.x[i]


def solve_erm(
    erm: RegularizedERM, x: Float[Tensor, "n d"], y: Float[Tensor, " m"], *, n: int | None = None
) -> ERMSolution:
    """Return the minimiser, found by Newton's method with line search in float64.

    Args:
        erm: Model and its public bounds.
        x: Rows, including the intercept column if there is one.
        y: Labels.
        n: Number n in the regularisation term (n l2 / 2) |theta|^2 (default: the number of rows of x).

    Raises:
        UsageError: If a row or label exceeds the public bounds.
        InputError: If Newton's method does not converge.
    """
    _check(erm, x, y)
    x, y, n = x.double(), y.double(), len(x) if n is None else n
    glm, decay = erm.glm, n * erm.l2
    theta, identity = torch.zeros(x.shape[1]).to(x), torch.eye(x.shape[1]).to(x)

    def objective(theta: Tensor) -> Tensor:
        return glm.loss(x @ theta, y).sum() + decay / 2 * theta.square().sum()

    def gradient(theta: Tensor) -> Tensor:
        return x.mT @ (glm.mean(x @ theta) - y) + decay * theta

    def hessian_cholesky(theta: Tensor) -> Tensor:
        return torch.linalg.cholesky(x.mT @ (glm.curvature(x @ theta)[:, None] * x) + decay * identity)

    last_gain = math.inf
    for _ in range(STEPS):
        grad, current = gradient(theta), objective(theta)
        step = torch.cholesky_solve(grad[:, None], hessian_cholesky(theta))[:, 0]
        gain, step_size = grad @ step, 1.0
        if gain <= FULL_STEP_TOLERANCE * current:  # below the resolution of the objective value
            if gain >= last_gain / 2:
                break
            last_gain = gain
        else:
            while objective(theta - step_size * step) > current - step_size * gain / 1e4:
                step_size /= 2
        theta = theta - step_size * step
    else:
        raise InputError(
            f"Newton's method did not converge in {STEPS} steps", remedy="Standardise the columns, or raise l2"
        )
    return ERMSolution(erm, theta, x, y, n, torch.cholesky_inverse(hessian_cholesky(theta)))


def clip_rows(x: Float[Tensor, "n d"], length: float) -> Float[Tensor, "n d"]:
    """Return the rows; those whose norm exceeds `length` are scaled down to this norm."""
    return x * (length / x.norm(dim=1, keepdim=True).clamp(min=length))


def add_intercept(x: Float[Tensor, "n d"]) -> Float[Tensor, "n more"]:
    """Return the rows with a first column of ones, the intercept column; it increases the norm of each row."""
    return torch.cat([torch.ones_like(x[:, :1]), x], 1)


def _check(erm: RegularizedERM, x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise UsageError(f"one label for each of {len(x):,} rows", f"{len(y):,}")
    if not (x.norm(dim=1) <= erm.max_row_norm * (1 + ROUNDING)).all():
        raise UsageError(
            f"rows of norm at most {erm.max_row_norm:g}, the public bound",
            "a row of larger norm",
            "Clip the rows with `clip_rows`, or set max_row_norm to a bound of every possible row",
        )
    low, high = erm.glm.label_range
    if not ((y >= low) & (y <= high)).all():
        raise UsageError(f"labels from {low:g} to {high:g}", "a label outside this range")
