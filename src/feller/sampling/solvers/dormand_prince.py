"""Adaptive Runge-Kutta solver of order 5 (Dormand-Prince, dopri5).

Source: Dormand and Prince 1980, "A family of embedded Runge-Kutta formulae", J. Comput. Appl. Math. 6(1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind, check_number
from feller.core.pytree import State, ValidMask, append_dims, leaves, masked_map, tree_map
from feller.core.rng import RandomStream
from feller.paths.processes import Process
from feller.sampling.solvers.solver import Solver, check_continuous, flow_velocity
from feller.spaces import Euclidean, Space
from feller.spaces.product import space_map

_TIMES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class MaxStepsError(RuntimeError):
    """Error for too many steps; holds the state `x` that was reached and the time `t` of each example, [b]."""

    def __init__(self, x: State, t: Tensor, steps: int) -> None:
        self.x, self.t = x, t
        super().__init__(
            f"{steps} steps reached only t = {t.min().item():g}; loosen the tolerances or raise max_steps "
            "(the state is in .x and its time in .t of this error)"
        )


@dataclass(frozen=True)
class DormandPrince(Solver):
    """Adaptive solver of order 5 with an embedded error estimate of order 4; steps end exactly at the grid times."""

    stage_weights: ClassVar[tuple[float, ...]] = ()
    space: Space = field(default_factory=Euclidean)
    """Space of the state; a product has one space per leaf."""
    rtol: float = 1e-5
    atol: float = 1e-5
    per_example: bool = False
    """Separate step sizes for each example, so that the result of an example does not depend on its batch."""
    max_steps: int = 10_000
    """Maximum number of attempted steps per simulation."""
    valid: ValidMask | None = None
    """Mask of the entries of the second axis that count in the error norm, [b, n]; None for all entries."""

    def __post_init__(self) -> None:
        check_kind("space", self.space, Space, "feller.Sphere()")
        check_number("rtol", self.rtol, ge=0, lt=math.inf)
        check_number("atol", self.atol, gt=0, lt=math.inf)
        check_number("max_steps", self.max_steps, ge=1)

    def init_stepper(self) -> Solver:
        return _AdaptiveStepper(self)

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        return self.init_stepper().step(process, x, t, s, rng)


class _AdaptiveStepper(Solver):
    """Stepper of one simulation, which keeps the step size and the last velocity (the first stage of the next step)."""

    def __init__(self, rule: DormandPrince) -> None:
        self.rule = rule
        self.step_size = torch.empty(0)
        self.velocity: State | None = None
        self.attempts = 0

    def _norm(self, x: State) -> Tensor:
        """Return the root mean square over valid entries, per example, [b], or over the whole batch, [1]."""
        totals, counts = [], []

        def add(valid: Tensor | None, leaf: Tensor) -> None:
            squares = leaf.detach().double().square().reshape(len(leaf), -1)
            is_valid = torch.ones_like(squares, dtype=torch.bool)
            if valid is not None and leaf.ndim > 1:
                is_valid = append_dims(valid, leaf).expand(leaf.shape).reshape(squares.shape)
            totals.append(torch.where(is_valid, squares, 0.0).sum(1))
            counts.append(is_valid.sum(1))

        masked_map(add, self.rule.valid, x)
        total, count = torch.stack(totals).sum(0), torch.stack(counts).sum(0)
        if not self.rule.per_example:
            total, count = total.sum(0, keepdim=True), count.sum(0, keepdim=True)
        return (total / count.clamp(min=1)).sqrt()

    def _velocity(self, process: Process, x: State, t: Tensor) -> State:
        check_continuous(x, "DormandPrince")
        time = tree_map(lambda leaf: t.to(leaf.dtype).expand(len(leaf)), x)
        characteristics = process(x, next(leaves(time)) if isinstance(x, dict) else time)
        return tree_map(lambda leaf: flow_velocity(leaf, "DormandPrince"), characteristics)

    def _initial_step_size(self, process: Process, x: State, t: Tensor, direction: float, span: float) -> Tensor:
        """Estimate the first step size from velocity and acceleration (Hairer, Norsett, Wanner, II.4)."""
        rule, velocity = self.rule, self.velocity
        scale = tree_map(lambda x: rule.atol + rule.rtol * x.abs(), x)
        x_norm = self._norm(tree_map(torch.div, x, scale))
        v_norm = self._norm(tree_map(torch.div, velocity, scale))
        guess = torch.where((x_norm < 1e-5) | (v_norm < 1e-5), 1e-6, 0.01 * x_norm / v_norm).clamp(max=span)
        x_next = _follow(rule.space, x, direction * guess, velocity)
        next_velocity = _log_differential(rule.space, x, x_next, self._velocity(process, x_next, t + direction * guess))
        change = tree_map(torch.sub, next_velocity, velocity)
        a_norm = self._norm(tree_map(torch.div, change, scale)) / guess
        max_norm = torch.maximum(v_norm, a_norm)
        refined = torch.where(max_norm <= 1e-15, (guess * 1e-3).clamp(min=1e-6), (0.01 / max_norm) ** 0.2)
        return torch.minimum(100 * guess, refined)

    def _attempt(self, process: Process, x: State, t: Tensor, h: Tensor) -> tuple[State, State, Tensor]:
        """Return the state after a step of size h, its velocity, and its error in units of the tolerance."""
        rule, stages = self.rule, [self.velocity]
        y, velocity = x, self.velocity
        for node, weights in zip(_TIMES[1:], _STAGES[1:], strict=True):
            combined = tree_map(lambda *leaves, weights=weights: _combine(weights, leaves), *stages)
            y = _follow(rule.space, x, h, combined)
            velocity = self._velocity(process, y, t + node * h)
            stages.append(_log_differential(rule.space, x, y, velocity))

        def error(x: Tensor, y: Tensor, *stages: Tensor) -> Tensor:
            scale = rule.atol + rule.rtol * torch.maximum(x.abs(), y.abs())
            return append_dims(h.to(x.dtype), x) * _combine(_ERROR, stages) / scale

        return y, velocity, self._norm(tree_map(error, x, y, *stages))

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        leaf = next(leaves(x))
        direction, span = (1.0 if s > t else -1.0), abs(s - t)
        elapsed = torch.zeros(len(leaf) if self.rule.per_example else 1, dtype=torch.float64, device=leaf.device)
        if self.velocity is None:
            self.velocity = self._velocity(process, x, t + direction * elapsed)
            self.step_size = self._initial_step_size(process, x, t + direction * elapsed, direction, span)
        while bool((elapsed < span).any()):
            if self.attempts >= self.rule.max_steps:
                raise MaxStepsError(x, t + direction * elapsed, self.attempts)
            self.attempts += 1
            if not bool(torch.isfinite(self._norm(self.velocity)).all()):
                raise UsageError(f"the velocity is not finite near t = {t:g}; the network or its input is damaged")
            h = torch.minimum(self.step_size, span - elapsed)
            y, velocity, error = self._attempt(process, x, t + direction * elapsed, direction * h)
            is_accepted = error <= 1
            fallback = torch.where(error == 0, 10.0, 0.2)  # a NaN error shortens the step
            factor = torch.where(error > 0, 0.9 * error ** (-0.2), fallback).clamp(0.2, 10.0)
            is_last = h >= span - elapsed  # the step ends at the grid time
            next_size = torch.where(is_accepted & is_last, torch.maximum(self.step_size, h * factor), h * factor)
            self.step_size = torch.where(elapsed < span, next_size, self.step_size)
            elapsed = torch.where(is_accepted, torch.where(is_last, span, elapsed + h), elapsed)
            x, self.velocity = _choose(is_accepted, y, x), _choose(is_accepted, velocity, self.velocity)
        return x


def _follow(space: Space, x: State, h: Tensor, velocity: State) -> State:
    """Return the states after moving from x along the velocities for a time h, [b] or [1]."""
    return space_map(lambda space, x, v: space.step(x, append_dims(h.to(x.dtype), x) * v), space, x, velocity)


def _log_differential(space: Space, x: State, y: State, velocity: State) -> State:
    """Map velocities at y to the tangent space at x, by the differential of log_x, for each leaf."""
    return space_map(lambda space, x, y, v: space.log_differential(x, y, v), space, x, y, velocity)


def _combine(weights: tuple[float, ...], stages: Sequence[Tensor]) -> Tensor:
    total = weights[0] * stages[0]
    for weight, stage in zip(weights[1:], stages[1:], strict=True):
        if weight:
            total = torch.add(total, stage, alpha=weight)
    return total


def _choose(is_accepted: Tensor, new: State, old: State) -> State:
    if len(is_accepted) == 1:
        return new if bool(is_accepted) else old
    return tree_map(lambda new, old: torch.where(append_dims(is_accepted, new), new, old), new, old)
