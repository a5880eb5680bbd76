"""Reconstruction of rows from private gradient steps, next to its bounds.

Who knows what rows look like answers with the likeliest row under a normal law of theirs; over rows of that law, van
Trees' inequality bounds the error. Who answers without bias is given the truth and one step of Gauss and Newton from
it, whose answer is right on average to first order: none such errs less than one over the information.
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
"""Steps that are remembered."""
STEP_SHRINK = 0.3
"""Of a step that made things worse, what is tried next."""
MIN_CURVATURE = 1e-8
"""Of the product of a step and the change of slopes, below which a step tells nothing of the curvature."""
ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows [b, d] -> a value of each [b], and its slope [b, d], each by its own row alone."""


def minimize_lbfgs(
    value_and_grad: ValueAndGrad, start: Float[Tensor, "b d"], curvature: Float[Tensor, "d d"], steps: int
) -> Float[Tensor, "b d"]:
    """Return for each row the best point of a walk; it may end in a valley that is not the deepest.

    Args:
        value_and_grad: What is to be least.
        start: Where the walks begin.
        curvature: About what slopes change with a row, for all rows; symmetric, its eigenvalues above 0.
        steps: Of each walk.
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
    """Return a step, the change of slopes and one over their product; zeros where they tell nothing."""
    product = (step * change).sum(1)
    size = step.norm(dim=1) * change.norm(dim=1)
    fine: Bool[Tensor, " b"] = (product > MIN_CURVATURE * size) & product.isfinite()
    weight = torch.where(fine, 1 / torch.where(fine, product, 1), 0)
    return torch.where(fine[:, None], step, 0), torch.where(fine[:, None], change, 0), weight


NUM_STANDARD_ERRORS = 4.0
"""Standard errors by which a mean may lie below its bound."""
MIN_VARIANCE_RATIO = 1e-6
"""Share of the largest variance below which rows do not vary in a direction."""
STEPS = 8
"""Of a search."""


@dataclass(frozen=True, eq=False)
class RowPrior:
    """What an attacker knows of rows: a normal law, in the directions in which they vary most."""

    mean: Float64[Tensor, " d"]
    directions: Float64[Tensor, "r d"]
    """Directions of length 1, across each other."""
    variances: Float64[Tensor, " r"]

    @staticmethod
    def fit(rows: Float[Tensor, "n d"], max_directions: int) -> "RowPrior":
        """Return the law with the moments of rows, in at most so many directions."""
        rows = rows.double()
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh(torch.atleast_2d((rows - mean).T.cov(correction=0)))
        selected = (values > MIN_VARIANCE_RATIO * values[-1]).nonzero()[:, 0][-max_directions:].flip(0)
        return RowPrior(mean, vectors[:, selected].T, values[selected])

    def whiten(self, rows: Float[Tensor, "n d"]) -> Float64[Tensor, "n r"]:
        """Return rows along the directions, in standard deviations."""
        return (rows.double() - self.mean) @ self.directions.T / self.variances.sqrt()

    def replace_coordinates(self, rows: Float[Tensor, "n d"], places: Float64[Tensor, "n r"]) -> Float64[Tensor, "n d"]:
        """Return rows that lie elsewhere along the directions, and as they are across them."""
        shift = (places - self.whiten(rows)) * self.variances.sqrt()
        return rows.double() + shift @ self.directions


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """What attacks on one row came to; errors are squared, means over directions."""

    errors: Float64[Tensor, " b"]
    """Of who knows the law."""
    unbiased_error: Float64[Tensor, "b r"]
    """How far who answers without bias is from the row, along the directions."""
    information: Float64[Tensor, "r r"]
    """About the row along the directions, in units of the rows."""
    estimate: Float64[Tensor, " d"]
    """The first answer of who knows the law."""

    @property
    def unbiased(self) -> Float64[Tensor, " b"]:
        """Errors of who answers without bias."""
        return self.unbiased_error.square().mean(1)

    @property
    def normalized_error(self) -> Float64[Tensor, " b"]:
        """The same in units of what is possible in each direction: 1 on average, at least, by Cramér and Rao."""
        return (self.unbiased_error @ self.information * self.unbiased_error).mean(1)

    @property
    def min_unbiased_error(self) -> float:
        """Least error without bias, one over the information per direction."""
        return len(self.information) / self.information.trace().item()

    def van_trees_bound(self, prior: RowPrior) -> float:
        """Return the least mean error of who knows the law, over rows of which as much is told as of this one."""
        return van_trees_of(self.information, torch.diag(1 / prior.variances).to(self.information)).item()


def step_information(
    row_gradient: RowGradientFn, row: Float[Tensor, "1 d"], prior: RowPrior, steps: int
) -> Float64[Tensor, "steps r r"]:
    """Return J^T J of what one row adds to each of several steps, along the directions of a law."""
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
    """Attack rows over several draws of the noise.

    Args:
        row_gradient: What rows add to what is told.
        rows: The truth.
        scale: Standard deviation of the noise of each number that is told.
        prior: What the attacker knows of rows; all that it leaves open across its directions is given away.
        information: About each row; by its mean, which is no row's own, searches are quick.
        generator: Draws the noise.
        count: Draws of it.
        starts: Of each search: the mean row, and others of the law; the likeliest answer counts.
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
    """Mean errors over rows, beside what bounds them."""

    error: float
    bound: float
    """Least mean error of who knows the law: van Trees' inequality, with all directions."""
    standard_error: float
    """Standard error of the mean error, from rows, which are independent."""
    unbiased: float
    unbiased_bound: float
    """Mean over rows of the least errors without bias."""
    num_violations: int
    """Ways of attack that err less than is possible, by more than chance: 0 unless something is wrong."""


def reconstruction_scores(several: list[AttackOutcome], prior: RowPrior) -> ReconstructionScores:
    """Set errors beside their bounds: a mean that lies four standard errors below is no chance.

    Without bias, errors in units of what is possible have the law of chi squared, whose standard error is known.
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
