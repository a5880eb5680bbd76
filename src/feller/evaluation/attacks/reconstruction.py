"""Reconstruction of rows from DP-SGD gradients, compared with lower bounds on the error.

The attacker with a prior returns the MAP estimate under a normal prior of the rows; the van Trees inequality bounds its
mean error. The unbiased attacker takes one Gauss-Newton step from the true row, which is unbiased to first order; the
Cramer-Rao bound (one over the Fisher information) applies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from feller.control.optimize.lbfgs import two_loop_recursion
from feller.evaluation.attacks.gradient_releases import RowGradientFn, jacobian, misfit_and_gradient, row_vjp
from feller.privacy.leakage.reconstruction_bounds import van_trees_of

HISTORY = 8
"""Number of L-BFGS pairs."""
STEP_SHRINK = 0.3
"""Step size factor after a step that increased the value."""
MIN_CURVATURE = 1e-8
"""Cosine of step and gradient change below which an L-BFGS pair is dropped."""
ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows [b, d] -> value of each row [b], and its gradient [b, d]; row-wise."""


def minimize_lbfgs(
    value_and_grad: ValueAndGrad, start: Float[Tensor, "b d"], curvature: Float[Tensor, "d d"], steps: int
) -> Float[Tensor, "b d"]:
    """Minimize a function row by row with L-BFGS and return the best points, which may be local minima.

    Args:
        value_and_grad: Function to minimize.
        start: Initial points.
        curvature: Approximate Hessian, shared by all rows; symmetric positive definite.
        steps: Number of steps.
    """
    root, here = torch.linalg.cholesky(curvature), start
    value, slope = value_and_grad(here)
    moves: list[tuple[Tensor, Tensor, Tensor]] = []
    reach = torch.ones_like(value)
    for _ in range(steps):
        direction = two_loop_recursion(slope, moves, lambda q: torch.cholesky_solve(q.mT, root).mT)
        there = here - reach[:, None] * direction
        then, tilt = value_and_grad(there)
        better = (then < value) & tilt.isfinite().all(1)
        moves = [*moves, _curvature_pair(there - here, tilt - slope)][-HISTORY:]
        here, slope = (torch.where(better[:, None], new, old) for new, old in ((there, here), (tilt, slope)))
        value, reach = (
            torch.where(better, then, value),
            torch.where(better, torch.ones_like(reach), reach * STEP_SHRINK),
        )
    return here


def _curvature_pair(step: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return step s, gradient change y and 1 / (s y); zeros where s y is too small."""
    product = (step * change).sum(1)
    size = step.norm(dim=1) * change.norm(dim=1)
    fine: Bool[Tensor, " b"] = (product > MIN_CURVATURE * size) & product.isfinite()
    weight = torch.where(fine, 1 / torch.where(fine, product, 1), 0)
    return torch.where(fine[:, None], step, 0), torch.where(fine[:, None], change, 0), weight


NUM_STANDARD_ERRORS = 4.0
"""Number of standard errors by which a mean error may lie below its lower bound."""
MIN_VARIANCE_RATIO = 1e-6
"""Fraction of the largest variance below which a direction is dropped."""
STEPS = 8
"""Number of L-BFGS steps."""


@dataclass(frozen=True, eq=False)
class RowPrior:
    """Normal prior of the rows in their leading principal directions."""

    mean: Float64[Tensor, " d"]
    directions: Float64[Tensor, "r d"]
    """Orthonormal directions."""
    variances: Float64[Tensor, " r"]

    @staticmethod
    def fit(rows: Float[Tensor, "n d"], max_directions: int) -> "RowPrior":
        """Fit mean and principal variances to rows, with at most `max_directions` directions."""
        rows = rows.double()
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh(torch.atleast_2d((rows - mean).T.cov(correction=0)))
        selected = (values > MIN_VARIANCE_RATIO * values[-1]).nonzero()[:, 0][-max_directions:].flip(0)
        return RowPrior(mean, vectors[:, selected].T, values[selected])

    def whiten(self, rows: Float[Tensor, "n d"]) -> Float64[Tensor, "n r"]:
        """Return the coordinates of rows along the directions, in standard deviations."""
        return (rows.double() - self.mean) @ self.directions.T / self.variances.sqrt()

    def replace_coordinates(self, rows: Float[Tensor, "n d"], places: Float64[Tensor, "n r"]) -> Float64[Tensor, "n d"]:
        """Return rows with new whitened coordinates along the directions; the orthogonal part is unchanged."""
        shift = (places - self.whiten(rows)) * self.variances.sqrt()
        return rows.double() + shift @ self.directions


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """Outcome of the attacks on one row; errors are squared and averaged over directions."""

    errors: Float64[Tensor, " b"]
    """Error of the MAP estimate for each draw of the noise."""
    unbiased_error: Float64[Tensor, "b r"]
    """Deviation of the unbiased estimate from the row, along the directions, for each draw of the noise."""
    information: Float64[Tensor, "r r"]
    """Fisher information about the row along the directions, in units of the rows."""
    estimate: Float64[Tensor, " d"]
    """MAP estimate for the first draw of the noise."""

    @property
    def unbiased(self) -> Float64[Tensor, " b"]:
        """Squared errors of the unbiased estimate."""
        return self.unbiased_error.square().mean(1)

    @property
    def normalized_error(self) -> Float64[Tensor, " b"]:
        """Squared unbiased errors relative to the Cramer-Rao bound; at least 1 in expectation."""
        return (self.unbiased_error @ self.information * self.unbiased_error).mean(1)

    @property
    def min_unbiased_error(self) -> float:
        """Lower bound on the unbiased error: r / tr(information), for r directions."""
        return len(self.information) / self.information.trace().item()

    def van_trees_bound(self, prior: RowPrior) -> float:
        """Return the van Trees lower bound on the mean error, if all rows had the Fisher information of this row."""
        return van_trees_of(self.information, torch.diag(1 / prior.variances).to(self.information)).item()


def step_information(
    row_gradient: RowGradientFn, row: Float[Tensor, "1 d"], prior: RowPrior, steps: int
) -> Float64[Tensor, "steps r r"]:
    """Return J^T J of the clipped gradient of a row in each step, with J along the directions of the prior."""
    slopes = (
        jacobian(row_gradient, row, prior.directions.to(row.dtype)).unflatten(1, (steps, -1)).movedim(1, 0).double()
    )
    return slopes @ slopes.mT


def attack_rows(
    row_gradient: RowGradientFn,
    rows: Float[Tensor, "n d"],
    scale: float,
    prior: RowPrior,
    information: Float64[Tensor, "n r r"],
    generator: torch.Generator,
    count: int,
    starts: int = 1,
) -> list[AttackOutcome]:
    """Reconstruct rows from their noisy gradients, for several draws of the noise.

    Args:
        row_gradient: Clipped gradients of rows.
        rows: True rows.
        scale: Standard deviation of the noise.
        prior: Prior of the attacker, who also knows the part of each row orthogonal to the prior's directions.
        information: Fisher information about each row; its mean preconditions the search.
        generator: Generator of the noise.
        count: Number of noise draws.
        starts: Starting points per search: the mean row, then samples of the prior; the best result is kept.
    """
    widths, flat = prior.variances.sqrt(), prior.directions.to(rows.dtype)
    truth = prior.whiten(rows)
    base = (rows.double() - (truth * widths) @ prior.directions).to(rows.dtype)
    clean = row_gradient(rows)
    noise = torch.randn(count, *clean.shape, generator=generator).to(rows.device, rows.dtype) * scale
    look, several = (
        misfit_and_gradient(lambda c: row_gradient(base + c @ flat), clean + noise, scale),
        (count, *truth.shape),
    )

    def likely(u: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = look((u * widths).to(rows.dtype).view(several))
        return value.flatten() + u.square().sum(1) / 2, slope.flatten(0, 1) * widths + u

    one = torch.eye(len(widths), dtype=torch.float64, device=rows.device)
    curvature = one + information.mean(0) * widths[:, None] * widths
    found = torch.zeros_like(truth).repeat(count, 1)
    for start in range(starts):
        start_point = torch.randn(found.shape, generator=generator).to(found) if start else torch.zeros_like(found)
        other = minimize_lbfgs(likely, start_point, curvature, STEPS)
        found = torch.where((likely(other)[0] < likely(found)[0])[:, None], other, found) if start else other
    found = found.view(several)
    steered = row_vjp(lambda c: row_gradient(rows + c @ flat), torch.zeros_like(truth, dtype=rows.dtype), noise)
    away = torch.linalg.solve(information, steered.double()[..., None] / scale**2)[..., 0]
    errors, answers = ((found - truth) * widths).square().mean(2), prior.replace_coordinates(rows, found[0])
    return [AttackOutcome(errors[:, i], away[:, i], information[i], answers[i]) for i in range(len(rows))]


@dataclass(frozen=True)
class ReconstructionScores:
    """Mean reconstruction errors over rows and their lower bounds."""

    error: float
    """Mean squared error of the MAP estimate."""
    bound: float
    """Van Trees lower bound on `error`."""
    standard_error: float
    """Standard error of `error`, from independent rows."""
    unbiased: float
    """Mean squared error of the unbiased estimate."""
    unbiased_bound: float
    """Mean over rows of the lower bounds on the unbiased error."""
    num_violations: int
    """Number of attacks whose error is significantly below its bound; 0 unless something is wrong."""


def reconstruction_scores(several: list[AttackOutcome], prior: RowPrior) -> ReconstructionScores:
    """Compare mean errors with their lower bounds; a mean 4 standard errors below its bound counts as a violation.

    Normalized unbiased errors follow a chi-squared distribution, so their standard error is known.
    """
    information = torch.stack([one.information for one in several]).mean(0)
    score = torch.diag(1 / prior.variances).to(information)
    errors = torch.stack([one.errors.mean() for one in several])
    measured = torch.cat([one.normalized_error for one in several])
    bound, relative_standard_error = (
        van_trees_of(information, score).item(),
        math.sqrt(2 / (len(measured) * len(score))),
    )
    failed = [
        errors.mean().item() + NUM_STANDARD_ERRORS * _standard_error(errors) < bound,
        measured.mean().item() + NUM_STANDARD_ERRORS * relative_standard_error < 1,
    ]
    return ReconstructionScores(
        errors.mean().item(),
        bound,
        _standard_error(errors),
        torch.stack([one.unbiased.mean() for one in several]).mean().item(),
        sum(one.min_unbiased_error for one in several) / len(several),
        sum(failed),
    )


def _standard_error(values: Float64[Tensor, " n"]) -> float:
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.inf
