"""Time grids fitted to a model: equal errors of the steps, or equal gains of information on the data."""

import functools
from itertools import pairwise

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_integer, check_number
from feller.core.pytree import State, StateT, append_dims, leaves
from feller.core.rng import Rng
from feller.paths.predictions import DataPrediction, VelocityPrediction, convert
from feller.paths.processes import Process
from feller.paths.schedules import Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling.solvers.runge_kutta import Midpoint
from feller.sampling.solvers.solver import expand_time, flow_velocity
from feller.spaces import Euclidean, Space

ERROR_ORDER = 3
"""Order of the error of one step of the midpoint method."""
MIN_DENSITY = 0.05
"""Smallest density of times, relative to the mean density, so that no step is longer than 21 mean steps."""


@torch.no_grad()
def error_grid(
    process: Process,
    x: StateT,
    steps: int,
    *,
    space: Space = Euclidean(),  # noqa: B008 - frozen
    fine_steps: int = 64,
) -> list[float]:
    """Return a grid of steps with about equal errors, for solvers of order 2 and a flow.

    The error of a step of size h is C(t) h^3. C is measured along trajectories from the states x at t = 0, by the
    difference of one midpoint step and two of half the size. The density of times is proportional to C^(1/3), where C
    is the root mean square over the states.

    Args:
        process: Flow.
        x: States at t = 0, [b, ...]; some dozens suffice.
        steps: Number of steps of the grid.
        space: Space of the states.
        fine_steps: Number of steps on which C is measured; each takes 6 network evaluations.

    Raises:
        UsageError: If the process has noise or jumps, or the trajectories are straight, so that any grid will do.
    """
    check_integer("steps", steps, ge=1)
    check_integer("fine_steps", fine_steps, ge=2)
    solver, rng = Midpoint(space), Rng(0).stream("unused")
    for leaf in leaves(process(x, expand_time(x, 0.0))):
        flow_velocity(leaf, "error_grid")
    state: State = x
    times, errors = linear_grid(fine_steps), []
    for t, s in pairwise(times):
        middle = (t + s) / 2
        coarse = solver.step(process, state, t, s, rng)
        state = solver.step(process, solver.step(process, state, t, middle, rng), middle, s, rng)
        squares = [(a - b).double().square().sum() for a, b in zip(leaves(coarse), leaves(state), strict=True)]
        errors.append(functools.reduce(torch.add, squares).sqrt())
    density = torch.stack(errors) ** (1 / ERROR_ORDER)
    if not bool(density.isfinite().all()) or float(density.max()) == 0:
        raise UsageError(
            argument="process",
            expected="trajectories with finite errors above 0",
            found="none",
            remedy="Use linear_grid",
        )
    return equal_grid(times, density, steps)


@torch.no_grad()
def entropy_grid(
    process: Process, schedule: Schedule, x_1: Tensor, steps: int, rng: Rng, *, last: float = 0.99, fine_steps: int = 64
) -> list[float]:
    """Return a grid of steps in which noise loses equal amounts of the entropy of the data given the state.

    The conditional entropy H(x_1 | x_t) falls at the rate E|x_1 - E(x_1 | x_t)|^2 (alpha^2 / sigma^2)' / 2, for a
    normal source independent of the data. It has no limit at t = 1, so the last step goes from `last` to 1. Sources:
    Guo et al. 2005, "Mutual information and minimum mean-square error in Gaussian channels"; Stancevic et al. 2025,
    "Entropic time schedulers for generative diffusion models", arXiv 2504.13612.

    Args:
        process: Flow of the model, whose velocity gives E(x_1 | x_t).
        schedule: Schedule of the path.
        x_1: Data, [b, ...]; some hundreds suffice.
        steps: Number of steps of the grid, at least 2.
        rng: Random numbers of the source.
        last: Time before the last step.
        fine_steps: Number of times at which the error is measured; each takes a network evaluation.
    """
    check_integer("steps", steps, ge=2)
    check_integer("fine_steps", fine_steps, ge=2)
    check_number("last", last, gt=0, lt=1)
    times, rates = linear_grid(fine_steps, 0.0, last), []
    for i, (start, stop) in enumerate(pairwise(times)):
        t = torch.full((len(x_1),), (start + stop) / 2, dtype=x_1.dtype, device=x_1.device)
        x_0 = rng.stream("entropy", i).normal(x_1.shape, x_1.dtype, x_1.device)
        x_t = schedule.interpolate(x_0, x_1, append_dims(t, x_1))
        scales = schedule(t)
        predicted = convert(process(x_t, t).velocity, VelocityPrediction(), DataPrediction(), x_t, scales)
        mse = (predicted - x_1).double().square().flatten(1).sum(1)
        alpha, sigma = (torch.as_tensor(value).double() for value in scales[:2])
        d_snr = 2 * alpha * torch.as_tensor(scales.wronskian).double() / sigma**3
        rates.append((mse * d_snr).mean() / 2)
    return [*equal_grid(times, torch.stack(rates), steps - 1), 1.0]


def equal_grid(times: list[float], density: Tensor, steps: int) -> list[float]:
    """Return a grid from the first to the last of `times` whose steps have equal integrals of a density.

    Args:
        times: Ends of the intervals in which the density is constant.
        density: Density in each interval; it is raised to `MIN_DENSITY` of its mean.
        steps: Number of steps of the grid.
    """
    ends = torch.tensor(times, dtype=torch.float64)
    density = density.detach().double().cpu()
    widths = ends.diff()
    mean = (density * widths).sum() / widths.sum()
    mass = torch.cat([torch.zeros(1, dtype=torch.float64), (density.clamp(min=MIN_DENSITY * mean) * widths).cumsum(0)])
    targets = mass[-1] * torch.arange(1, steps, dtype=torch.float64) / steps
    index = torch.searchsorted(mass, targets).clamp(1, len(widths))
    share = (targets - mass[index - 1]) / (mass[index] - mass[index - 1])
    inner = torch.lerp(ends[index - 1], ends[index], share)
    return [times[0], *inner.tolist(), times[-1]]
