"""The least of a smooth function of many rows at once, by what slopes at earlier steps tell of its curvature.

Source: Nocedal 1980, "Updating quasi-Newton matrices with limited storage"; here a curvature is given to begin with.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
        way = _way(slope, moves, root)
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


def _way(slope: Tensor, moves: list[tuple[Tensor, Tensor, Tensor]], root: Tensor) -> Tensor:
    """Return the inverse of the curvature, as it is known by now, times the slope."""
    way, shares = slope, []
    for step, change, weight in reversed(moves):
        share = weight * (step * way).sum(1)
        way = way - share[:, None] * change
        shares.append(share)
    way = torch.cholesky_solve(way.mT, root).mT
    for (step, change, weight), share in zip(moves, reversed(shares), strict=True):
        way = way + (share - weight * (change * way).sum(1))[:, None] * step
    return way
