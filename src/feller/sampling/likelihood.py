"""How likely a flow finds data: the log density is one more leaf of the state, so every solver can carry it.

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

from feller.core.errors import UsageError
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
"""States -> log density, [b], with respect to the volume of their space."""


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
    """Return the log density at `times[0]` of states there, in nats.

    It can be differentiated in x and in what the velocity is made of; the graph of the whole solve is then kept. With
    probes it is unbiased for log p, not for p.

    Args:
        process: A velocity, without noise and jumps.
        x: The states at `times[0]`, tensors [b, ...].
        times: From where the states are to where the density is known: by default from the data to the source.
        solver: Makes each step; its space is that of the states. By default an adaptive one of flat space, at 1e-6.
        rng: Source of the probes; an example's does not depend on its batch.
        divergence: How the divergence is found; by default exactly on curved spaces of up to 32 degrees of freedom, and
            with one probe elsewhere.
        source_log_prob: Log density at the last time; by default that of the space's reference law, at t = 0.
        valid: Which entries count, [b, n], or some for each leaf; None for all.

    Raises:
        UsageError: If the process is no flow, the solver moves in no space, or the last time has no known density.
    """
    check_time_grid(times)
    source_log_prob = source_log_prob or _base_density(times[-1], solver, valid)
    divergence = divergence or default_divergence(space_of(solver))
    probes = divergence.probes(x, rng.stream("probe"))
    end, change = integrate_log_density(process, x, times, solver, divergence=divergence, probes=probes, valid=valid)
    return source_log_prob(end) - change


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
    """Return states at `times[-1]` and their log densities there, in one solve.

    Arguments and errors as for `log_prob`, but that the density is known at the first time: x are draws from the
    source and times increase.
    """
    check_time_grid(times)
    initial = (source_log_prob or _base_density(times[0], solver, valid))(x)
    divergence = divergence or default_divergence(space_of(solver))
    probes = divergence.probes(x, rng.stream("probe"))
    end, change = integrate_log_density(process, x, times, solver, divergence=divergence, probes=probes, valid=valid)
    return end, initial + change


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
    """Return the states at the last time, and how much the log density changes on the way.

    For probes that were drawn elsewhere; arguments and errors as for `log_prob`.
    """
    space = space_of(solver)
    product_solver = with_space(solver, Product({"x": space, "log_density": Euclidean()}))

    def velocity(x: State, t: State) -> State:
        now = process(x, t)
        check_solver(now, solver)
        return masked_map(_velocity, valid, x, now)

    stage_weights = itertools.cycle(
        solver.stage_weights or (1.0,)
    )  # of the calls of a step: one that has none needs no divergence

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


def _velocity(valid: Tensor | None, x: Tensor, now: Characteristics) -> Tensor:
    """Return the velocity of a leaf; padding stands still."""
    if now.velocity is None or now.diffusion is not None or now.jumps is not None:
        raise UsageError("log densities need a process with a velocity alone", remedy="Take its noise or jumps away")
    return now.velocity if valid is None else zero_invalid(now.velocity, valid)


def _base_density(time: float, solver: Solver, valid: State | None) -> LogDensity:
    """Return the log density of the reference law, which is that at t = 0."""
    if time != 0:
        remedy = "Go to 0, or give `source_log_prob`"
        raise UsageError(f"the reference is the law at t = 0, not at {time:g}", remedy=remedy)
    return lambda x: base_log_prob(space_of(solver), x, valid)


def base_log_prob(space: Space, x: State, valid: State | None = None) -> Float[Tensor, " b"]:
    """Return the log density of a space's reference law, [b]; of entries that are valid, as for `log_prob`.

    Raises:
        UsageError: If a space has no such density, or none for the entries alone.
    """
    if isinstance(x, dict):
        each = [base_log_prob(leaf_space(space, name), leaf, submask(valid, name)) for name, leaf in x.items()]
        return torch.stack(each).sum(0)
    if not isinstance(space, Manifold):
        raise UsageError("a space with a volume", f"{type(space).__name__}, which has no log density")
    if valid is None:
        return space.base_log_prob(x)
    if not hasattr(space, "shape"):
        raise UsageError(f"a state of {type(space).__name__} has one entry, of which none can be padding")
    alone = replace(cast(Any, space), shape=(1, *space.shape[1:]))
    entries = alone.base_log_prob(x.flatten(0, 1)[:, None]).reshape(valid.shape)
    return torch.where(valid, entries, 0.0).sum(1)


def initial_log_prob(path: Path, space: Space, x: State, valid: State | None = None) -> Float[Tensor, " b"]:
    """Return the log density of where a path starts: the reference law, but where a schedule scales the source.

    Arguments and errors as for `base_log_prob`.
    """
    if isinstance(x, dict):
        each = [
            initial_log_prob(path.leaf_path(k), leaf_space(space, k), leaf, submask(valid, k)) for k, leaf in x.items()
        ]
        return torch.stack(each).sum(0)
    if path.affine_schedule is None:
        return base_log_prob(space, x, valid)
    scale = path.initial_state(torch.ones((), dtype=torch.float64)).item()
    count = x.shape[1:].numel() if valid is None else valid.sum(1).to(x.dtype) * x.shape[2:].numel()
    return base_log_prob(space, x / scale, valid) - count * math.log(scale)


def bits_per_dimension(
    log_density: Float[Tensor, " b"], dimensions: int | Tensor, *, levels: int = 256, span: float = 2.0
) -> Float[Tensor, " b"]:
    """Return -log2 of the probability of whole levels, per dimension: for 8 bits in [-1, 1], -log2 p / D + 7.

    A bound if the levels were filled up with uniform noise, u in [0, 1): y = (level + u) span / levels + constant.

    Args:
        log_density: Of states y, in nats.
        dimensions: Numbers in one example, or in each.
        levels: How many values the data have.
        span: Length of the interval that the levels fill: 2 for [-1, 1], 1 for [0, 1].
    """
    return -log_density / dimensions / math.log(2) + math.log2(levels / span)
