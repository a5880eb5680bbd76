"""Reconstruction of rows from DP-SGD gradients, and comparison of its error with lower bounds.

The attacker with a prior computes the MAP estimate under a normal prior of the rows; the van Trees inequality is a
lower bound on the mean error. The unbiased attacker takes one Gauss-Newton step from the true row, an estimate that is
unbiased to first order; the Cramer-Rao bound, the inverse of the Fisher information, is a lower bound on its error.
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
"""Number of pairs of steps and gradient changes that L-BFGS stores."""
STEP_SHRINK = 0.3
"""Factor by which the step size shrinks after a step that increased the function value."""
MIN_CURVATURE = 1e-8
"""Cosine of the angle between step and gradient change below which L-BFGS drops the pair."""
ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from rows [b, d] to the function value [b] and gradient [b, d] of each row, independent of other rows."""


def minimize_lbfgs(
    value_and_grad: ValueAndGrad, start: Float[Tensor, "b d"], curvature: Float[Tensor, "d d"], steps: int
) -> Float[Tensor, "b d"]:
    """Minimize a function independently for each row with L-BFGS; return the best points, possibly local minima.

    Args:
        value_and_grad: Function to minimize, with its gradient.
        start: Initial point of each row.
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
"""Fraction of the largest principal variance below which a principal direction is dropped."""
STEPS = 8
"""Number of L-BFGS steps of an attack."""


@dataclass(frozen=True, eq=False)
class RowPrior:
    """Normal prior of rows along their leading principal directions."""

    mean: Float64[Tensor, " d"]
    directions: Float64[Tensor, "r d"]
    """Orthonormal principal directions."""
    variances: Float64[Tensor, " r"]

    @staticmethod
    def fit(rows: Float[Tensor, "n d"], max_directions: int) -> "RowPrior":
        """Fit a prior to rows: their mean, and at most `max_directions` principal directions with their variances."""
        rows = rows.double()
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh(torch.atleast_2d((rows - mean).T.cov(correction=0)))
        selected = (values > MIN_VARIANCE_RATIO * values[-1]).nonzero()[:, 0][-max_directions:].flip(0)
        return RowPrior(mean, vectors[:, selected].T, values[selected])

    def whiten(self, rows: Float[Tensor, "n d"]) -> Float64[Tensor, "n r"]:
        """Return the whitened coordinates of rows: standard deviations from the mean along each principal direction."""
        return (rows.double() - self.mean) @ self.directions.T / self.variances.sqrt()

    def replace_coordinates(self, rows: Float[Tensor, "n d"], places: Float64[Tensor, "n r"]) -> Float64[Tensor, "n d"]:
        """Return rows with the whitened coordinates `places`; their part orthogonal to the directions is unchanged."""
        shift = (places - self.whiten(rows)) * self.variances.sqrt()
        return rows.double() + shift @ self.directions


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """Outcome of both attacks on one row; errors are squared and averaged over the prior's directions."""

    errors: Float64[Tensor, " b"]
    """Mean squared error of the MAP estimate for each noise draw."""
    unbiased_error: Float64[Tensor, "b r"]
    """Deviation of the unbiased estimate from the true row along the prior's directions, for each noise draw."""
    information: Float64[Tensor, "r r"]
    """Fisher information about the row along the prior's directions, in units of the rows."""
    estimate: Float64[Tensor, " d"]
    """MAP estimate for the first noise draw."""

    @property
    def unbiased(self) -> Float64[Tensor, " b"]:
        """Squared error of the unbiased estimate for each noise draw."""
        return self.unbiased_error.square().mean(1)

    @property
    def normalized_error(self) -> Float64[Tensor, " b"]:
        """Squared error of the unbiased estimate divided by its Cramer-Rao bound; at least 1 in expectation."""
        return (self.unbiased_error @ self.information * self.unbiased_error).mean(1)

    @property
    def min_unbiased_error(self) -> float:
        """Lower bound on the squared error of the unbiased estimate: r / tr(information), for r directions."""
        return len(self.information) / self.information.trace().item()

    def van_trees_bound(self, prior: RowPrior) -> float:
        """Return the van Trees lower bound on the mean error, as if all rows had this row's Fisher information."""
        return van_trees_of(self.information, torch.diag(1 / prior.variances).to(self.information)).item()


def step_information(
    row_gradient: RowGradientFn, row: Float[Tensor, "1 d"], prior: RowPrior, steps: int
) -> Float64[Tensor, "steps r r"]:
    """Return J^T J for each step, where J is the Jacobian of a row's clipped gradient along the prior's directions."""
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
    """Reconstruct rows from their noisy gradients, for several noise draws per row.

    Args:
        row_gradient: Function that returns the clipped gradients of rows.
        rows: True rows.
        scale: Standard deviation of the noise.
        prior: The attacker's prior; the attacker also knows the part of each row orthogonal to the prior's directions.
        information: Fisher information about each row; its mean over rows preconditions L-BFGS.
        generator: Random generator of the noise.
        count: Number of noise draws per row.
        starts: Number of starting points per search: the mean row, then samples of the prior; the best result is kept.
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
    """Reconstruction errors, averaged over rows, and their lower bounds."""

    error: float
    """Mean squared error of the MAP estimate."""
    bound: float
    """Van Trees lower bound on `error`."""
    standard_error: float
    """Standard error of `error`, for independent rows."""
    unbiased: float
    """Mean squared error of the unbiased estimate."""
    unbiased_bound: float
    """Mean over rows of the lower bound on the squared error of the unbiased estimate."""
    num_violations: int
    """Number of attacks whose mean error is significantly below its lower bound; 0 if the code is correct."""


def reconstruction_scores(several: list[AttackOutcome], prior: RowPrior) -> ReconstructionScores:
    """Compare mean errors with their lower bounds; a mean more than 4 standard errors below its bound is a violation.

    Squared errors of the unbiased estimate, divided by their bound, follow a scaled chi-squared distribution, so their
    standard error is known.
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
