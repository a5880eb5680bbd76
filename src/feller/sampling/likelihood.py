"""Computation of log densities of flows: a solver integrates the log density along with the state.

Along a flow d/dt log p_t(x_t) = -div u_t(x_t). Source: Lipman et al. 2024, arXiv 2412.06264, section 3.5.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import (
    State,
    StateT,
    ValidMask,
    leaves,
    masked_map,
    num_examples,
    submask,
    tree_map,
    zero_invalid,
)
from feller.core.rng import Rng
from feller.paths import Path
from feller.paths.processes import Characteristics, Process
from feller.sampling.divergence import Divergence, default_divergence
from feller.sampling.simulation import check_time_grid, simulate
from feller.sampling.solvers.dormand_prince import DormandPrince
from feller.sampling.solvers.solver import Solver, check_solver, space_of, with_space
from feller.spaces import Euclidean, Product, Space
from feller.spaces.manifold import Manifold
from feller.spaces.product import leaf_space

LogDensity = Callable[[State], Tensor]
"""Function from states to log densities, [b], with respect to the volume of the state space."""


def log_prob(
    process: Process,
    x: StateT,
    times: Sequence[float] = (1.0, 0.0),
    solver: Solver = DormandPrince(rtol=1e-6, atol=1e-6, per_example=True),  # noqa: B008 - frozen
    rng: Rng = Rng(0),  # noqa: B008 - frozen
    *,
    divergence: Divergence | None = None,
    source_log_prob: Callable[[StateT], Tensor] | None = None,
    valid: ValidMask | None = None,
) -> Float[Tensor, " b"]:
    """Return the log density in nats of states at `times[0]`.

    The result is differentiable in x and in the parameters of the velocity; the autograd graph of all steps is then
    kept. With random probes, the result is an unbiased estimate of log p, but not of p.

    Args:
        process: Flow: a velocity without noise and jumps.
        x: States at `times[0]`, [b, ...].
        times: Time grid from the time of the states to a time with known density, by default from data to source.
        solver: Integrator in the space of the states; default: adaptive, Euclidean, with tolerances 1e-6.
        rng: Random numbers of the probes; an example's numbers do not depend on its batch.
        divergence: Divergence method; default: exact on curved spaces of up to 32 degrees of freedom, else Hutchinson's
            estimator with one probe.
        source_log_prob: Log density at the last time; default: base distribution of the space, at t = 0.
        valid: Mask of valid entries, [b, n], or one per leaf; None for all.

    Raises:
        UsageError: If the process is not a flow, the solver has no space, or the density at the last time is unknown.
    """
    check_time_grid(times)
    source_log_prob = source_log_prob or _base_density(times[-1], solver, valid)
    divergence = divergence or default_divergence(space_of(solver))
    probes = divergence.probes(x, rng.stream("probe"))
    x_end, change = integrate_log_density(process, x, times, solver, divergence=divergence, probes=probes, valid=valid)
    return source_log_prob(x_end) - change


def sample_with_log_prob(
    process: Process,
    x: StateT,
    times: Sequence[float],
    solver: Solver,
    rng: Rng,
    *,
    divergence: Divergence | None = None,
    source_log_prob: Callable[[StateT], Tensor] | None = None,
    valid: ValidMask | None = None,
) -> tuple[StateT, Float[Tensor, " b"]]:
    """Return states at `times[-1]` and their log densities, in one run of the solver.

    Arguments and errors are those of `log_prob`, except that the density is known at the first time: x are source
    samples, and times increase.
    """
    check_time_grid(times)
    initial = (source_log_prob or _base_density(times[0], solver, valid))(x)
    divergence = divergence or default_divergence(space_of(solver))
    probes = divergence.probes(x, rng.stream("probe"))
    x_end, change = integrate_log_density(process, x, times, solver, divergence=divergence, probes=probes, valid=valid)
    return x_end, initial + change


def integrate_log_density(
    process: Process,
    x: State,
    times: Sequence[float],
    solver: Solver,
    *,
    divergence: Divergence,
    probes: State,
    valid: State | None = None,
) -> tuple[State, Float[Tensor, " b"]]:
    """Return the states at the last time, and the log density there minus the log density of x at the first time.

    `probes` is the result of `divergence.probes`; other arguments and errors are those of `log_prob`.
    """
    space = space_of(solver)
    product_solver = with_space(solver, Product({"x": space, "log_density": Euclidean()}))

    def velocity(x: State, t: State) -> State:
        characteristics = process(x, t)
        check_solver(characteristics, solver)
        return masked_map(_velocity, valid, x, characteristics)

    stage_weights = itertools.cycle(solver.stage_weights or (1.0,))  # stages of weight 0 need no divergence

    def rates(state: State, t: State) -> State:
        x = state["x"]
        if next(stage_weights):
            u, rate = divergence(lambda x: velocity(x, t), x, probes, space)
        else:
            u, rate = velocity(x, t), torch.zeros_like(state["log_density"])
        return {"x": tree_map(Characteristics, u), "log_density": Characteristics(-rate)}

    start = {"x": x, "log_density": next(leaves(x)).new_zeros(num_examples(x))}
    end = simulate(rates, start, times, product_solver, Rng(0))
    return end["x"], end["log_density"]


def _velocity(valid: Tensor | None, x: Tensor, leaf: Characteristics) -> Tensor:
    """Return the velocity of a leaf, set to zero at padding."""
    if leaf.velocity is None or leaf.diffusion is not None or leaf.jumps is not None:
        raise UsageError("log densities require a process with only a velocity", remedy="Remove its noise or jumps")
    return leaf.velocity if valid is None else zero_invalid(leaf.velocity, valid)


def _base_density(time: float, solver: Solver, valid: State | None) -> LogDensity:
    """Return the log density of the base distribution at t = 0, in the solver's space.

    UsageError if `time`, at which the density is needed, is not 0.
    """
    if time != 0:
        remedy = "Start or end the grid at 0, or pass `source_log_prob`"
        raise UsageError(f"the base distribution applies at t = 0, not at {time:g}", remedy=remedy)
    return lambda x: base_log_prob(space_of(solver), x, valid)


def base_log_prob(space: Space, x: State, valid: State | None = None) -> Float[Tensor, " b"]:
    """Return the log density of a space's base distribution over valid entries, [b].

    Raises:
        UsageError: If a space has no base density, or `valid` is used for a space of single points.
    """
    if isinstance(x, dict):
        leaf_log_probs = [
            base_log_prob(leaf_space(space, name), leaf, submask(valid, name)) for name, leaf in x.items()
        ]
        return torch.stack(leaf_log_probs).sum(0)
    if not isinstance(space, Manifold):
        raise UsageError("a manifold, because its base distribution has a log density", type(space).__name__)
    if valid is None:
        return space.base_log_prob(x)
    if not hasattr(space, "shape"):
        raise UsageError(
            f"states of {type(space).__name__} have a single entry, so that `valid`, the mask of entries without"
            " padding, does not apply",
            remedy="Leave out `valid`",
        )
    entry_space = replace(cast(Any, space), shape=(1, *space.shape[1:]))
    entries = entry_space.base_log_prob(x.flatten(0, 1)[:, None]).reshape(valid.shape)
    return torch.where(valid, entries, 0.0).sum(1)


def initial_log_prob(path: Path, space: Space, x: State, valid: State | None = None) -> Float[Tensor, " b"]:
    """Return the log density of a path at t = 0, where an affine path starts with sigma_0 times a base sample.

    Arguments and errors are those of `base_log_prob`.
    """
    if isinstance(x, dict):
        leaf_log_probs = [
            initial_log_prob(path.leaf_path(k), leaf_space(space, k), leaf, submask(valid, k)) for k, leaf in x.items()
        ]
        return torch.stack(leaf_log_probs).sum(0)
    if path.affine_schedule is None:
        return base_log_prob(space, x, valid)
    scale = path.initial_state(torch.ones((), dtype=torch.float64)).item()
    num_entries = x.shape[1:].numel() if valid is None else valid.sum(1).to(x.dtype) * x.shape[2:].numel()
    return base_log_prob(space, x / scale, valid) - num_entries * math.log(scale)


def bits_per_dimension(
    log_density: Float[Tensor, " b"], dimensions: int | Tensor, *, levels: int = 256, span: float = 2.0
) -> Float[Tensor, " b"]:
    """Return bits per dimension of quantized data; for 256 levels in [-1, 1], this is -log2 p / D + 7.

    The result is an upper bound if the levels were dequantized with uniform noise u in [0, 1):
    y = (level + u) span / levels + constant.

    Args:
        log_density: Log density of states y, in nats.
        dimensions: Number of entries of an example: one number for all examples, or one per example.
        levels: Number of levels of the data.
        span: Length of the interval of the values: 2 for [-1, 1], 1 for [0, 1].

    Raises:
        UsageError: If dimensions, levels or span are not positive.
    """
    if not isinstance(dimensions, Tensor):
        check_number("dimensions", dimensions, ge=1)
    check_number("levels", levels, ge=1)
    check_number("span", span, gt=0)
    return -log_density / dimensions / math.log(2) + math.log2(levels / span)
