"""The weights of a linear model with a decay: where the sum of losses and (n decay / 2) |theta|^2 is least."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import InputError, UsageError, check_number
from feller.privacy.erm.glm import GLM

STEPS = 200
"""Of Newton, at most."""
FULL_STEP_TOLERANCE = 1e-10
"""Share of the value that a full step may still win, from where on it is taken as it is, until it wins no more."""
ROUNDING = 1e-9
"""Of a length that is just allowed."""


@dataclass(frozen=True)
class RegularizedERM:
    """What is made least, with all that must be public about it."""

    glm: GLM
    l2: float
    """Of the weights, for each row."""
    max_row_norm: float
    """Of a row, at most, with its constant: known without the rows, or cut to by `clip_rows`."""

    def __post_init__(self) -> None:
        check_number("l2", self.l2, gt=0, lt=math.inf, remedy="It is what hides rows")
        check_number("max_row_norm", self.max_row_norm, gt=0, lt=math.inf)

    def sensitivity(self, n: int) -> float:
        """Return how far weights move if one of n rows is replaced: 2 L / (n decay), L the steepest loss.

        Half as far if a row comes or goes while n stays. Source: Chaudhuri, Monteleoni, Sarwate 2011, "Differentially
        private empirical risk minimization", corollary 8.
        """
        return 2 * self.glm.max_slope(self.max_row_norm, self.l2) * self.max_row_norm / (n * self.l2)


@dataclass(frozen=True, eq=False)
class ERMSolution:
    """Weights at the minimum, and what they stand on. Holds the rows: not to be told."""

    erm: RegularizedERM
    theta: Float[Tensor, " d"]
    x: Float[Tensor, "n d"]
    y: Float[Tensor, " n"]
    n: int
    """Rows that the decay counts."""
    inverse_hessian: Float[Tensor, "d d"]
    """Of the curvature of what is made least."""

    @property
    def residuals(self) -> Float[Tensor, " n"]:
        """Mean less label."""
        return self.erm.glm.mean(self.x @ self.theta) - self.y

    @property
    def curvatures(self) -> Float[Tensor, " n"]:
        """Of each row's loss by its score."""
        return self.erm.glm.curvature(self.x @ self.theta)

    def row_jacobian(self, i: int) -> Float[Tensor, "d d"]:
        """Return the Jacobian of the weights by a row's numbers: -H^-1 (c x theta^T + r I)."""
        c, r = self.curvatures[i], self.residuals[i]
        return -self.inverse_hessian @ (
            c * torch.outer(self.x[i], self.theta) + r * torch.eye(len(self.theta)).to(self.theta)
        )

    def label_jacobian(self, i: int) -> Float[Tensor, " d"]:
        """Return the derivative of the weights by a row's label: H^-1 x."""
        return self.inverse_hessian @ self.x[i]


def solve_erm(
    erm: RegularizedERM, x: Float[Tensor, "n d"], y: Float[Tensor, " m"], *, n: int | None = None
) -> ERMSolution:
    """Return the minimum, by Newton's method with shorter steps where a full one does not help; in float64.

    Args:
        erm: What is made least.
        x: Rows, with a constant where one is wanted.
        y: Labels.
        n: Rows that the decay counts, where not all are there.

    Raises:
        UsageError: If rows or labels are not within what it says of them.
        InputError: If no minimum is found.
    """
    _check(erm, x, y)
    x, y, n = x.double(), y.double(), len(x) if n is None else n
    family, decay = erm.glm, n * erm.l2
    theta, identity = torch.zeros(x.shape[1]).to(x), torch.eye(x.shape[1]).to(x)

    def value(theta: Tensor) -> Tensor:
        return family.loss(x @ theta, y).sum() + decay / 2 * theta.square().sum()

    def slopes(theta: Tensor) -> Tensor:
        return x.mT @ (family.mean(x @ theta) - y) + decay * theta

    def curvature(theta: Tensor) -> Tensor:
        return torch.linalg.cholesky(x.mT @ (family.curvature(x @ theta)[:, None] * x) + decay * identity)

    before = math.inf
    for _ in range(STEPS):
        pull, here = slopes(theta), value(theta)
        step = torch.cholesky_solve(pull[:, None], curvature(theta))[:, 0]
        gain, step_size = pull @ step, 1.0
        if gain <= FULL_STEP_TOLERANCE * here:  # the value shows no more of it
            if gain >= before / 2:
                break
            before = gain
        else:
            while value(theta - step_size * step) > here - step_size * gain / 1e4:
                step_size /= 2
        theta = theta - step_size * step
    else:
        raise InputError(f"no minimum was found in {STEPS} steps", remedy="Scale the columns alike, or raise the decay")
    return ERMSolution(erm, theta, x, y, n, torch.cholesky_inverse(curvature(theta)))


def clip_rows(x: Float[Tensor, "n d"], length: float) -> Float[Tensor, "n d"]:
    """Return rows of which those that are longer are cut to a length, in their direction."""
    return x * (length / x.norm(dim=1, keepdim=True).clamp(min=length))


def add_intercept(x: Float[Tensor, "n d"]) -> Float[Tensor, "n more"]:
    """Return rows after a number 1, so that the first weight is an intercept; that makes them longer."""
    return torch.cat([torch.ones_like(x[:, :1]), x], 1)


def _check(erm: RegularizedERM, x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise UsageError(f"one label for each of {len(x):,} rows", f"{len(y):,}")
    if not (x.norm(dim=1) <= erm.max_row_norm * (1 + ROUNDING)).all():
        raise UsageError(
            f"a row is longer than {erm.max_row_norm:g}, which is said to be public",
            remedy="Cut rows to it by `clip_rows`, or name a length that holds for every row there could be",
        )
    low, high = erm.glm.label_range
    if not ((y >= low) & (y <= high)).all():
        raise UsageError(f"labels from {low:g} to {high:g}", "one outside")
