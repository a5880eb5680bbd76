"""A model's flow, as searches see it: differentiable, of examples by their numbers, each with its own conditions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.control.inverse.d_flow import Flow, solve_flow
from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, submask, tree_map
from feller.core.rng import Rng
from feller.models.model import Model
from feller.networks.blocks.conditioning import condition_embeddings
from feller.paths.processes import Process, freeze_leaves
from feller.paths.product import iter_leaf_paths
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import VELOCITY_SOLVERS, SamplerConfig
from feller.spaces import Euclidean, Product, Space
from feller.spaces.product import leaf_space as part_of

SEARCH_VARIABLES = ("source", "condition", "both")
"""What a search moves."""
BATCH_SIZE_DIVISOR = 8
"""By how much smaller a batch is than for sampling, since a gradient goes through the whole solve."""
SOURCE = "source"
"""Leaf of a source that is one tensor, beside conditions."""
CONDITION = "condition "
"""Begins the names of leaves that stand for conditions."""


def check_differentiable(model: Model, sampling: SamplerConfig, clamped: dict[str, State]) -> None:
    """Refuse a solver that is no velocity solver, and data that jump, unless what jumps is given."""
    if sampling.solver not in VELOCITY_SOLVERS:
        raise UsageError(f"a search goes through the solver, so choose one of {', '.join(VELOCITY_SOLVERS)}")
    symbols = "a search follows gradients, and this model's data are symbols, which have none"
    if not model.family.is_process:
        raise UsageError(model.family.why_no_samples or symbols)
    path = model.spec.path
    jumping = [
        name
        for name, part in getattr(path, "leaf_paths", {}).items()
        if any(one.has_jumps for one in iter_leaf_paths(part))
    ]
    free = [name for name in jumping if name not in clamped]
    if free:
        raise UsageError(
            "a search follows gradients, and symbols have none",
            remedy=f"Give {', '.join(free)} with --given, so that they stand still",
        )
    if not jumping and any(one.has_jumps for one in iter_leaf_paths(path)):
        raise UsageError(symbols)


def make_process(model: Model, cond: Cond, clamped: dict[str, State], guidance: float) -> Callable[[Tensor], Process]:
    """Return the flow of the examples with some numbers, [m]."""
    model.check_guidance(guidance)
    network = cfg(model.network.eval().requires_grad_(False), guidance, droppable=model.droppable())

    def process(rows: Tensor) -> Process:
        driven = model.spec.path.process(network, tree_map(lambda leaf: leaf[rows], cond))
        return freeze_leaves(driven, clamped.keys()) if clamped else driven

    return process


@dataclass(frozen=True)
class SearchProblem:
    """What a search moves, from where, and where it leads."""

    flow: Flow
    start: State
    space: Space
    mask: State | None = None
    """Marks of the entries of the start that mean something; None for all."""


def search_problem(
    model: Model,
    x_0: State,
    cond: Cond,
    clamped: dict[str, State],
    *,
    guidance: float,
    sampling: SamplerConfig,
    variables: str,
    rng: Rng,
) -> SearchProblem:
    """Return the flow from what is searched to ends of examples.

    Args:
        model: Whose flow.
        x_0: Their sources.
        cond: Their conditions.
        clamped: Parts of their states that are given.
        guidance: 1 is the plain conditional.
        sampling: Solver and calls of each solve.
        variables: One of `SEARCH_VARIABLES`: sources move, or the vectors that stand for conditions in the network, or
            both.
        rng: Nothing random is asked for of a flow.

    Raises:
        UsageError: If conditions are to move, and the model has none or is guided.
    """
    if variables not in SEARCH_VARIABLES:
        raise UsageError(f"a search moves {', '.join(SEARCH_VARIABLES)}", argument="optimize", found=repr(variables))
    if variables != "source" and guidance != 1:
        raise UsageError("a search over conditions takes the plain conditional model", remedy="Leave out the guidance")
    space = model.spec.space
    _, solver, times = sampling.resolve(model.spec.path, space)
    vectors = {} if variables == "source" else condition_embeddings(model.network, cond)

    def flow(source: State, moved: dict[str, Tensor], rows: Tensor) -> State:
        x = model.spec.path.initial_state(source)
        held = tree_map(lambda leaf: leaf[rows], clamped)
        batch_cond = {**tree_map(lambda leaf: leaf[rows], cond), **moved}
        driven = make_process(model, batch_cond, held, guidance)
        everyone = torch.arange(len(rows), device=rows.device)
        return solve_flow(driven, times, solver, rng)({**x, **held} if held else x, everyone)

    def part(rows: Tensor) -> State:
        return tree_map(lambda leaf: leaf[rows], x_0)

    flat: dict[str, Space] = {name: Euclidean(tuple(leaf.shape[1:])) for name, leaf in vectors.items()}
    if variables == "source":
        return SearchProblem(lambda source, rows: flow(source, {}, rows), x_0, space, cond.get("valid"))
    if variables == "condition":
        return SearchProblem(lambda moved, rows: flow(part(rows), moved, rows), vectors, Product(flat))
    named = {f"{CONDITION}{name}": leaf for name, leaf in vectors.items()}
    alone = not isinstance(x_0, dict)

    def both(now: State, rows: Tensor) -> State:
        moved = {name: now[f"{CONDITION}{name}"] for name in vectors}
        rest = {name: leaf for name, leaf in now.items() if name not in named}
        return flow(rest[SOURCE] if alone else rest, moved, rows)

    sources = {SOURCE: x_0} if alone else x_0
    spaces: dict[str, Space] = {name: part_of(space, name) for name in sources} if not alone else {SOURCE: space}
    wide: dict[str, Space] = {f"{CONDITION}{name}": one for name, one in flat.items()}
    real = {name: submask(cond.get("valid"), name) for name in sources}
    return SearchProblem(both, {**sources, **named}, Product({**spaces, **wide}), real)
