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

    A step to a non-finite value is shortened. If no step decreases the value of an example, its stored steps and
    gradient changes are discarded; if the next step fails too, the example stops. Source: Nocedal and Wright 2006,
    "Numerical optimization", chapter 7; the line search is that of Lewis and Overton 2013, "Nonsmooth optimization via
    quasi-Newton methods".
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
        state = initial_state(function, x)
        max_gradient = state.gradient.abs().amax(1)
        state.active.logical_and_(max_gradient > 0)
        yield state
        memory, is_reset = _Memory(self.history, len(x)), torch.ones_like(state.active)
        for _ in range(self.steps):
            rows = state.active.nonzero()[:, 0]
            if not len(rows):
                return
            gradient = state.gradient[rows]
            direction = -memory.inverse_hessian_product(gradient, rows)
            is_uphill = (direction * gradient).sum(1) >= 0
            memory.forget(rows[is_uphill])
            is_reset[rows[is_uphill]] = True
            direction = torch.where(is_uphill[:, None], -gradient, direction)
            initial_step = torch.where(is_reset[rows], (1 / gradient.abs().sum(1)).clamp(max=1.0), 1.0)
            best = self._search(function, state, rows, direction, initial_step)
            has_moved = best.value < state.value[rows]
            memory.add(rows, best.x - state.x[rows], best.gradient - gradient, has_moved)
            is_stuck = ~has_moved
            state.active[rows[is_stuck & is_reset[rows]]] = False
            memory.forget(rows[is_stuck])
            is_reset[rows] = is_stuck
            for stored, new in ((state.x, best.x), (state.gradient, best.gradient), (state.value, best.value)):
                stored[rows[has_moved]] = new[has_moved]
            has_converged = state.gradient[rows].abs().amax(1) <= self.tolerance * max_gradient[rows]
            state.active[rows[has_converged]] = False
            yield state

    def _search(
        self, function: BatchFunction, state: MinimizerState, rows: Tensor, direction: Tensor, initial_step: Tensor
    ) -> MinimizerState:
        """Return the best points found along the directions; updates the counters of `state`."""
        x, value, gradient = state.x[rows], state.value[rows], state.gradient[rows]
        derivative = (direction * gradient).sum(1)
        low, high = torch.zeros_like(initial_step), torch.full_like(initial_step, torch.inf)
        step_size, is_searching = initial_step.clone(), torch.ones_like(initial_step, dtype=torch.bool)
        best_x, best_value, best_gradient = x.clone(), value.clone(), gradient.clone()
        for _ in range(self.max_line_search):
            index = is_searching.nonzero()[:, 0]
            if not len(index):
                break
            x_new = x[index] + step_size[index, None] * direction[index]
            value_new, gradient_new = function(x_new, rows[index])
            state.nfe[rows[index]] += 1
            is_finite = torch.isfinite(value_new) & torch.isfinite(gradient_new).all(1)
            is_better = is_finite & (value_new < best_value[index])
            for stored, new in ((best_x, x_new), (best_gradient, gradient_new), (best_value, value_new)):
                stored[index[is_better]] = new[is_better]
            too_long = ~is_finite | (value_new > value[index] + 1e-4 * step_size[index] * derivative[index])
            too_short = ~too_long & ((gradient_new * direction[index]).sum(1) < 0.9 * derivative[index])
            is_searching[index[~too_long & ~too_short]] = False
            high[index[too_long]], low[index[too_short]] = step_size[index[too_long]], step_size[index[too_short]]
            # After a step that is too long: minimum of a parabola, kept well inside the bracket.
            excess = value_new - value[index] - derivative[index] * step_size[index]
            parabola = -derivative[index] * step_size[index].square() / (2 * excess.clamp(min=1e-300))
            midpoint = (low[index] + high[index]) / 2
            use_parabola = is_finite & too_long & (low[index] == 0)
            reduced = torch.where(
                use_parabola, parabola.clamp(0.1 * step_size[index], 0.5 * step_size[index]), midpoint
            )
            step_size[index] = torch.where(torch.isinf(high[index]), 2 * step_size[index], reduced)
        return MinimizerState(best_x, best_value, best_gradient, state.nfe[rows], is_searching)


class _Memory:
    """L-BFGS memory of every example; pairs with negative curvature have weight 0."""

    def __init__(self, max_pairs: int, n: int) -> None:
        self.max_pairs, self.n = max_pairs, n
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, rows: Tensor, step: Tensor, change: Tensor, moved: Tensor) -> None:
        """Add the last pair (step, gradient change) of the selected examples; the others get an empty pair."""
        curvature = (step * change).sum(1)
        is_valid = moved & (curvature > 1e-10 * (step.norm(dim=1) * change.norm(dim=1)))
        s, y = step.new_zeros(self.n, step.shape[1]), step.new_zeros(self.n, step.shape[1])
        rho = step.new_zeros(self.n)
        s[rows], y[rows] = step, change
        rho[rows] = torch.where(
            is_valid, 1 / curvature.where(is_valid, torch.ones_like(curvature)), torch.zeros_like(curvature)
        )
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
