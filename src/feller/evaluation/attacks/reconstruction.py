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

from feller.control.optimize.lbfgs import two_loops
from feller.evaluation.attacks.gradient_releases import Added, jacobian, misfits, pulled
from feller.privacy.leakage.reconstruction_bounds import van_trees_of

KEPT = 8
"""Steps that are remembered."""
SHORTER = 0.3
"""Of a step that made things worse, what is tried next."""
CURVED = 1e-8
"""Of the product of a step and the change of slopes, below which a step tells nothing of the curvature."""
Look = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows [b, d] -> a value of each [b], and its slope [b, d], each by its own row alone."""


def descended(
    look: Look, start: Float[Tensor, "b d"], curvature: Float[Tensor, "d d"], steps: int
) -> Float[Tensor, "b d"]:
    """Return for each row the best point of a walk; it may end in a valley that is not the deepest.

    Args:
        look: What is to be least.
        start: Where the walks begin.
        curvature: About what slopes change with a row, for all rows; symmetric, its eigenvalues above 0.
        steps: Of each walk.
    """
    root, here = torch.linalg.cholesky(curvature), start
    value, slope = look(here)
    moves: list[tuple[Tensor, Tensor, Tensor]] = []
    reach = torch.ones_like(value)
    for _ in range(steps):
        way = two_loops(slope, moves, lambda q: torch.cholesky_solve(q.mT, root).mT)
        there = here - reach[:, None] * way
        then, tilt = look(there)
        better = (then < value) & tilt.isfinite().all(1)
        moves = [*moves, _told(there - here, tilt - slope)][-KEPT:]
        here, slope = (torch.where(better[:, None], new, old) for new, old in ((there, here), (tilt, slope)))
        value, reach = torch.where(better, then, value), torch.where(better, torch.ones_like(reach), reach * SHORTER)
    return here


def _told(step: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a step, the change of slopes and one over their product; zeros where they tell nothing."""
    product = (step * change).sum(1)
    size = step.norm(dim=1) * change.norm(dim=1)
    fine: Bool[Tensor, " b"] = (product > CURVED * size) & product.isfinite()
    weight = torch.where(fine, 1 / torch.where(fine, product, 1), 0)
    return torch.where(fine[:, None], step, 0), torch.where(fine[:, None], change, 0), weight


ERRORS = 4.0
"""Standard errors by which a mean may lie below its bound."""
FLAT = 1e-6
"""Share of the largest variance below which rows do not vary in a direction."""
STEPS = 8
"""Of a search."""


@dataclass(frozen=True, eq=False)
class Law:
    """What an attacker knows of rows: a normal law, in the directions in which they vary most."""

    mean: Float64[Tensor, " d"]
    ways: Float64[Tensor, "r d"]
    """Directions of length 1, across each other."""
    variances: Float64[Tensor, " r"]

    @staticmethod
    def of(rows: Float[Tensor, "n d"], most: int) -> "Law":
        """Return the law with the moments of rows, in at most so many directions."""
        rows = rows.double()
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh(torch.atleast_2d((rows - mean).T.cov(correction=0)))
        kept = (values > FLAT * values[-1]).nonzero()[:, 0][-most:].flip(0)
        return Law(mean, vectors[:, kept].T, values[kept])

    def places(self, rows: Float[Tensor, "n d"]) -> Float64[Tensor, "n r"]:
        """Return rows along the directions, in standard deviations."""
        return (rows.double() - self.mean) @ self.ways.T / self.variances.sqrt()

    def moved(self, rows: Float[Tensor, "n d"], places: Float64[Tensor, "n r"]) -> Float64[Tensor, "n d"]:
        """Return rows that lie elsewhere along the directions, and as they are across them."""
        shift = (places - self.places(rows)) * self.variances.sqrt()
        return rows.double() + shift @ self.ways


@dataclass(frozen=True, eq=False)
class Tried:
    """What attacks on one row came to; errors are squared, means over directions."""

    errors: Float64[Tensor, " b"]
    """Of who knows the law."""
    away: Float64[Tensor, "b r"]
    """How far who answers without bias is from the row, along the directions."""
    information: Float64[Tensor, "r r"]
    """About the row along the directions, in units of the rows."""
    found: Float64[Tensor, " d"]
    """The first answer of who knows the law."""

    @property
    def unbiased(self) -> Float64[Tensor, " b"]:
        """Errors of who answers without bias."""
        return self.away.square().mean(1)

    @property
    def measured(self) -> Float64[Tensor, " b"]:
        """The same in units of what is possible in each direction: 1 on average, at least, by Cramér and Rao."""
        return (self.away @ self.information * self.away).mean(1)

    @property
    def least(self) -> float:
        """Least error without bias, one over the information per direction."""
        return len(self.information) / self.information.trace().item()

    def likely(self, law: Law) -> float:
        """Return the least mean error of who knows the law, over rows of which as much is told as of this one."""
        return van_trees_of(self.information, torch.diag(1 / law.variances).to(self.information)).item()


def slopes_at(added: Added, row: Float[Tensor, "1 d"], law: Law, steps: int) -> Float64[Tensor, "steps r r"]:
    """Return J^T J of what one row adds to each of several steps, along the directions of a law."""
    slopes = jacobian(added, row, law.ways.to(row.dtype)).unflatten(1, (steps, -1)).movedim(1, 0).double()
    return slopes @ slopes.mT


def tried(
    added: Added,
    rows: Float[Tensor, "n d"],
    scale: float,
    law: Law,
    information: Float64[Tensor, "n r r"],
    generator: torch.Generator,
    count: int,
    starts: int = 1,
) -> list[Tried]:
    """Attack rows over several draws of the noise.

    Args:
        added: What rows add to what is told.
        rows: The truth.
        scale: Standard deviation of the noise of each number that is told.
        law: What the attacker knows of rows; all that it leaves open across its directions is given away.
        information: About each row; by its mean, which is no row's own, searches are quick.
        generator: Draws the noise.
        count: Draws of it.
        starts: Of each search: the mean row, and others of the law; the likeliest answer counts.
    """
    widths, flat = law.variances.sqrt(), law.ways.to(rows.dtype)
    truth = law.places(rows)
    base = (rows.double() - (truth * widths) @ law.ways).to(rows.dtype)
    told = added(rows)
    noise = torch.randn(count, *told.shape, generator=generator).to(rows.device, rows.dtype) * scale
    look, several = misfits(lambda c: added(base + c @ flat), told + noise, scale), (count, *truth.shape)

    def likely(u: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = look((u * widths).to(rows.dtype).view(several))
        return value.flatten() + u.square().sum(1) / 2, slope.flatten(0, 1) * widths + u

    one = torch.eye(len(widths), dtype=torch.float64, device=rows.device)
    curvature = one + information.mean(0) * widths[:, None] * widths
    found = torch.zeros_like(truth).repeat(count, 1)
    for start in range(starts):
        begun = torch.randn(found.shape, generator=generator).to(found) if start else torch.zeros_like(found)
        other = descended(likely, begun, curvature, STEPS)
        found = torch.where((likely(other)[0] < likely(found)[0])[:, None], other, found) if start else other
    found = found.view(several)
    steered = pulled(lambda c: added(rows + c @ flat), torch.zeros_like(truth, dtype=rows.dtype), noise)
    away = torch.linalg.solve(information, steered.double()[..., None] / scale**2)[..., 0]
    errors, answers = ((found - truth) * widths).square().mean(2), law.moved(rows, found[0])
    return [Tried(errors[:, i], away[:, i], information[i], answers[i]) for i in range(len(rows))]


@dataclass(frozen=True)
class Judged:
    """Mean errors over rows, beside what bounds them."""

    error: float
    bound: float
    """Least mean error of who knows the law: van Trees' inequality, with all directions."""
    doubt: float
    """Standard error of the mean error, from rows, which are independent."""
    unbiased: float
    unbiased_bound: float
    """Mean over rows of the least errors without bias."""
    below: int
    """Ways of attack that err less than is possible, by more than chance: 0 unless something is wrong."""


def judged(several: list[Tried], law: Law) -> Judged:
    """Set errors beside their bounds: a mean that lies four standard errors below is no chance.

    Without bias, errors in units of what is possible have the law of chi squared, whose standard error is known.
    """
    information = torch.stack([one.information for one in several]).mean(0)
    score = torch.diag(1 / law.variances).to(information)
    errors = torch.stack([one.errors.mean() for one in several])
    measured = torch.cat([one.measured for one in several])
    bound, chance = van_trees_of(information, score).item(), math.sqrt(2 / (len(measured) * len(score)))
    failed = [errors.mean().item() + ERRORS * _doubt(errors) < bound, measured.mean().item() + ERRORS * chance < 1]
    return Judged(
        errors.mean().item(),
        bound,
        _doubt(errors),
        torch.stack([one.unbiased.mean() for one in several]).mean().item(),
        sum(one.least for one in several) / len(several),
        sum(failed),
    )


def _doubt(values: Float64[Tensor, " n"]) -> float:
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.inf
