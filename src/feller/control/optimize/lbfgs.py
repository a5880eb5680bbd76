"""Batched L-BFGS with a separate line search per example."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.optimize.minimize import BatchFunction, Minimizer, MinimizerState, initial_state
from feller.core.errors import UsageError


@dataclass(frozen=True)
class LBFGS(Minimizer):
    """L-BFGS with a weak Wolfe line search per example.

    A step to a non-finite value is shortened. If no step decreases the value of an example, its memory is reset; if the
    next step fails too, the example stops. Source: Nocedal and Wright 2006, "Numerical optimization", chapter 7; the
    line search is that of Lewis and Overton 2013, "Nonsmooth optimization via quasi-Newton methods".
    """

    steps: int = 100  # pyrefly: ignore
    history: int = 20
    max_line_search: int = 20
    """Maximum number of function evaluations per line search."""
    tolerance: float = 1e-10
    """Stopping tolerance: ratio of the largest gradient entry to its value at the start."""

    def __post_init__(self) -> None:
        if min(self.steps, self.history, self.max_line_search) < 1 or self.tolerance < 0:
            raise UsageError("at least 1 step, 1 memory pair and 1 line-search evaluation", self)

    def run(self, function: BatchFunction, x: Float[Tensor, "b d"]) -> Iterator[MinimizerState]:
        now = initial_state(function, x)
        steepest = now.gradient.abs().amax(1)
        now.active.logical_and_(steepest > 0)
        yield now
        memory, fresh = _Memory(self.history, len(x)), torch.ones_like(now.active)
        for _ in range(self.steps):
            rows = now.active.nonzero()[:, 0]
            if not len(rows):
                return
            gradient = now.gradient[rows]
            direction = -memory.inverse_hessian_product(gradient, rows)
            uphill = (direction * gradient).sum(1) >= 0
            memory.forget(rows[uphill])
            fresh[rows[uphill]] = True
            direction = torch.where(uphill[:, None], -gradient, direction)
            first = torch.where(fresh[rows], (1 / gradient.abs().sum(1)).clamp(max=1.0), 1.0)
            found = self._search(function, now, rows, direction, first)
            moved = found.value < now.value[rows]
            memory.add(rows, found.x - now.x[rows], found.gradient - gradient, moved)
            stuck = ~moved
            now.active[rows[stuck & fresh[rows]]] = False
            memory.forget(rows[stuck])
            fresh[rows] = stuck
            for stored, new in ((now.x, found.x), (now.gradient, found.gradient), (now.value, found.value)):
                stored[rows[moved]] = new[moved]
            arrived = now.gradient[rows].abs().amax(1) <= self.tolerance * steepest[rows]
            now.active[rows[arrived]] = False
            yield now

    def _search(
        self, function: BatchFunction, now: MinimizerState, rows: Tensor, direction: Tensor, first: Tensor
    ) -> MinimizerState:
        """Return the best points found along the directions; updates the counters of `now`."""
        x, value, gradient = now.x[rows], now.value[rows], now.gradient[rows]
        slope = (direction * gradient).sum(1)
        low, high = torch.zeros_like(first), torch.full_like(first, torch.inf)
        length, searching = first.clone(), torch.ones_like(first, dtype=torch.bool)
        best_x, best_value, best_gradient = x.clone(), value.clone(), gradient.clone()
        for _ in range(self.max_line_search):
            some = searching.nonzero()[:, 0]
            if not len(some):
                break
            here = x[some] + length[some, None] * direction[some]
            there, steep = function(here, rows[some])
            now.nfe[rows[some]] += 1
            finite = torch.isfinite(there) & torch.isfinite(steep).all(1)
            better = finite & (there < best_value[some])
            for stored, new in ((best_x, here), (best_gradient, steep), (best_value, there)):
                stored[some[better]] = new[better]
            far = ~finite | (there > value[some] + 1e-4 * length[some] * slope[some])
            near = ~far & ((steep * direction[some]).sum(1) < 0.9 * slope[some])
            searching[some[~far & ~near]] = False
            high[some[far]], low[some[near]] = length[some[far]], length[some[near]]
            # After a step that is too long: minimum of a parabola, kept well inside the bracket.
            rise = there - value[some] - slope[some] * length[some]
            parabola = -slope[some] * length[some].square() / (2 * rise.clamp(min=1e-300))
            middle = (low[some] + high[some]) / 2
            inside = finite & far & (low[some] == 0)
            shorter = torch.where(inside, parabola.clamp(0.1 * length[some], 0.5 * length[some]), middle)
            length[some] = torch.where(torch.isinf(high[some]), 2 * length[some], shorter)
        return MinimizerState(best_x, best_value, best_gradient, now.nfe[rows], searching)


class _Memory:
    """L-BFGS memory of every example; pairs with negative curvature have weight 0."""

    def __init__(self, max_pairs: int, n: int) -> None:
        self.max_pairs, self.n = max_pairs, n
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, rows: Tensor, step: Tensor, change: Tensor, moved: Tensor) -> None:
        """Add the last pair (step, gradient change) of the selected examples; the others get an empty pair."""
        curve = (step * change).sum(1)
        good = moved & (curve > 1e-10 * (step.norm(dim=1) * change.norm(dim=1)))
        s, y = step.new_zeros(self.n, step.shape[1]), step.new_zeros(self.n, step.shape[1])
        rho = step.new_zeros(self.n)
        s[rows], y[rows] = step, change
        rho[rows] = torch.where(good, 1 / curve.where(good, torch.ones_like(curve)), torch.zeros_like(curve))
        self.pairs = [*self.pairs, (s, y, rho)][-self.max_pairs :]

    def forget(self, rows: Tensor) -> None:
        for _, _, rho in self.pairs:
            rho[rows] = 0

    def inverse_hessian_product(self, gradient: Tensor, rows: Tensor) -> Tensor:
        """Return the inverse Hessian approximation times gradients, by the two-loop recursion."""
        pairs = [(s[rows], y[rows], rho[rows]) for s, y, rho in self.pairs]
        scale = torch.ones(len(rows), dtype=gradient.dtype, device=gradient.device)
        for s, y, rho in pairs:  # scale of the last valid pair
            scale = torch.where(rho > 0, (s * y).sum(1) / y.square().sum(1).clamp(min=1e-300), scale)
        return two_loop_recursion(gradient, pairs, lambda q: scale[:, None] * q)


def two_loop_recursion(
    gradient: Float[Tensor, "b d"], pairs: Sequence[tuple[Tensor, Tensor, Tensor]], start: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b d"]:
    """Return the approximate inverse Hessian times the gradient of each example (two-loop recursion).

    Args:
        gradient: Gradients [b, d].
        pairs: Steps and gradient changes [b, d], oldest first, with the inverses of their inner products [b]; an
            inverse of 0 skips the pair.
        start: Function that multiplies vectors [b, d] by the initial inverse Hessian.
    """
    q, alphas = gradient, []
    for s, y, rho in reversed(pairs):
        alphas.append(rho * (s * q).sum(1))
        q = q - alphas[-1][:, None] * y
    q = start(q)
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + (alpha - rho * (y * q).sum(1))[:, None] * s
    return q
