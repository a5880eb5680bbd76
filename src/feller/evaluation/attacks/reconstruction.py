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
    root, x = torch.linalg.cholesky(curvature), start
    value, gradient = value_and_grad(x)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    step_size = torch.ones_like(value)
    for _ in range(steps):
        direction = two_loop_recursion(gradient, pairs, lambda q: torch.cholesky_solve(q.mT, root).mT)
        candidate = x - step_size[:, None] * direction
        candidate_value, candidate_gradient = value_and_grad(candidate)
        improved = (candidate_value < value) & candidate_gradient.isfinite().all(1)
        pairs = [*pairs, _curvature_pair(candidate - x, candidate_gradient - gradient)][-HISTORY:]
        x, gradient = (
            torch.where(improved[:, None], new, old) for new, old in ((candidate, x), (candidate_gradient, gradient))
        )
        value, step_size = (
            torch.where(improved, candidate_value, value),
            torch.where(improved, torch.ones_like(step_size), step_size * STEP_SHRINK),
        )
    return x


def _curvature_pair(step: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return step s, gradient change y and weight 1 / (s . y) of an L-BFGS update; zeros where s . y is too small."""
    product = (step * change).sum(1)
    norms = step.norm(dim=1) * change.norm(dim=1)
    is_valid: Bool[Tensor, " b"] = (product > MIN_CURVATURE * norms) & product.isfinite()
    weight = torch.where(is_valid, 1 / torch.where(is_valid, product, 1), 0)
    return torch.where(is_valid[:, None], step, 0), torch.where(is_valid[:, None], change, 0), weight


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
        variances, eigenvectors = torch.linalg.eigh(torch.atleast_2d((rows - mean).T.cov(correction=0)))
        selected = (variances > MIN_VARIANCE_RATIO * variances[-1]).nonzero()[:, 0][-max_directions:].flip(0)
        return RowPrior(mean, eigenvectors[:, selected].T, variances[selected])

    def whiten(self, rows: Float[Tensor, "n d"]) -> Float64[Tensor, "n r"]:
        """Return the whitened coordinates of rows: standard deviations from the mean along each principal direction."""
        return (rows.double() - self.mean) @ self.directions.T / self.variances.sqrt()

    def replace_coordinates(self, rows: Float[Tensor, "n d"], places: Float64[Tensor, "n r"]) -> Float64[Tensor, "n d"]:
        """Return rows with the whitened coordinates `places`; their part orthogonal to the directions is unchanged."""
        shift = (places - self.whiten(rows)) * self.variances.sqrt()
        return rows.double() + shift @ self.directions


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """Outcome of the MAP attack and the unbiased attack on one row, for several draws of the noise.

    Errors are squared and averaged over the prior's directions.
    """

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
        """Return the van Trees lower bound on the error, averaged over rows of the prior with this information."""
        return van_trees_of(self.information, torch.diag(1 / prior.variances).to(self.information)).item()


def step_information(
    row_gradient: RowGradientFn, row: Float[Tensor, "1 d"], prior: RowPrior, steps: int
) -> Float64[Tensor, "steps r r"]:
    """Return J^T J for each step, where J is the Jacobian of a row's clipped gradient along the prior's directions.

    This is the Fisher information about the row for Gaussian noise of standard deviation 1.

    Args:
        row_gradient: Function from rows to their clipped gradients, concatenated over the steps.
        row: Row at which the Jacobian is taken.
        prior: Prior of the rows, with r principal directions.
        steps: Number of training steps.
    """
    jacobians = (
        jacobian(row_gradient, row, prior.directions.to(row.dtype)).unflatten(1, (steps, -1)).movedim(1, 0).double()
    )
    return jacobians @ jacobians.mT


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
    scales, directions = prior.variances.sqrt(), prior.directions.to(rows.dtype)
    truth = prior.whiten(rows)
    base = (rows.double() - (truth * scales) @ prior.directions).to(rows.dtype)
    clean = row_gradient(rows)
    noise = torch.randn(count, *clean.shape, generator=generator).to(rows.device, rows.dtype) * scale
    misfit, shape = (
        misfit_and_gradient(lambda c: row_gradient(base + c @ directions), clean + noise, scale),
        (count, *truth.shape),
    )

    def loss(u: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = misfit((u * scales).to(rows.dtype).view(shape))
        return value.flatten() + u.square().sum(1) / 2, gradient.flatten(0, 1) * scales + u

    identity = torch.eye(len(scales), dtype=torch.float64, device=rows.device)
    curvature = identity + information.mean(0) * scales[:, None] * scales
    best = torch.zeros_like(truth).repeat(count, 1)
    for start in range(starts):
        start_point = torch.randn(best.shape, generator=generator).to(best) if start else torch.zeros_like(best)
        trial = minimize_lbfgs(loss, start_point, curvature, STEPS)
        best = torch.where((loss(trial)[0] < loss(best)[0])[:, None], trial, best) if start else trial
    best = best.view(shape)
    projected = row_vjp(lambda c: row_gradient(rows + c @ directions), torch.zeros_like(truth, dtype=rows.dtype), noise)
    deviation = torch.linalg.solve(information, projected.double()[..., None] / scale**2)[..., 0]
    errors, estimates = ((best - truth) * scales).square().mean(2), prior.replace_coordinates(rows, best[0])
    return [AttackOutcome(errors[:, i], deviation[:, i], information[i], estimates[i]) for i in range(len(rows))]


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
    """Average the errors of attacks over the attacked rows, and compare them with their lower bounds.

    A mean error more than `NUM_STANDARD_ERRORS` standard errors below its bound is a violation. Squared errors of the
    unbiased estimate, divided by their bound, follow a scaled chi-squared distribution, so their standard error is
    known.
    """
    information = torch.stack([outcome.information for outcome in several]).mean(0)
    precision = torch.diag(1 / prior.variances).to(information)
    errors = torch.stack([outcome.errors.mean() for outcome in several])
    normalized = torch.cat([outcome.normalized_error for outcome in several])
    bound, relative_standard_error = (
        van_trees_of(information, precision).item(),
        math.sqrt(2 / (len(normalized) * len(precision))),
    )
    violations = [
        errors.mean().item() + NUM_STANDARD_ERRORS * _standard_error(errors) < bound,
        normalized.mean().item() + NUM_STANDARD_ERRORS * relative_standard_error < 1,
    ]
    return ReconstructionScores(
        errors.mean().item(),
        bound,
        _standard_error(errors),
        torch.stack([outcome.unbiased.mean() for outcome in several]).mean().item(),
        sum(outcome.min_unbiased_error for outcome in several) / len(several),
        sum(violations),
    )


def _standard_error(values: Float64[Tensor, " n"]) -> float:
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.inf
