"""Construction of a model's flow that is differentiable in source points and conditions, which are optimised."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.control.inverse.d_flow import Flow, solve_flow
from feller.core.errors import UsageError
from feller.core.precision import Precision
from feller.core.pytree import Cond, State, submask, tree_map
from feller.core.rng import Rng
from feller.models.model import Model
from feller.networks.blocks.conditioning import condition_embeddings
from feller.networks.mixed_precision import at_precision
from feller.paths.processes import Process, freeze_leaves
from feller.paths.product import iter_leaf_paths
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import VELOCITY_SOLVERS, SamplerConfig
from feller.spaces import Euclidean, Product, Space
from feller.spaces.product import leaf_space as part_of

SEARCH_VARIABLES = ("source", "condition", "both")
"""Names of the quantities that can be optimised."""
BATCH_SIZE_DIVISOR = 8
"""Number by which the batch size of sampling is divided: gradients through the whole ODE solve need more memory."""
SOURCE = "source"
"""Key of the source points in a state that also contains condition embeddings."""
CONDITION = "condition "
"""Prefix of the keys of condition embeddings in a state that also contains source points."""


def check_differentiable(model: Model, sampling: SamplerConfig, clamped: dict[str, State]) -> None:
    """Raise an error if the solver is not differentiable, or if a discrete part of the data is not held fixed."""
    if sampling.solver not in VELOCITY_SOLVERS:
        raise UsageError(
            f"the reward search differentiates through the solver; use one of {', '.join(VELOCITY_SOLVERS)}"
        )
    if not model.family.is_process:
        raise UsageError(
            model.family.why_no_samples or f"this model cannot be steered: it {model.family.describe()}",
            remedy="Use a flow or jump model",
        )
    path = model.spec.path
    discrete = [
        name
        for name, leaf_path in getattr(path, "leaf_paths", {}).items()
        if any(subpath.has_jumps for subpath in iter_leaf_paths(leaf_path))
    ]
    unclamped = [name for name in discrete if name not in clamped]
    if unclamped:
        raise UsageError(
            "the reward search needs gradients, but discrete parts of the data have none",
            remedy=f"Hold {', '.join(unclamped)} fixed at a value with --given",
        )
    if not discrete and any(subpath.has_jumps for subpath in iter_leaf_paths(path)):
        raise UsageError(
            "the reward search needs gradients, but this model's data are discrete", remedy="Use --method smc"
        )


def make_process(
    model: Model, cond: Cond, clamped: dict[str, State], guidance: float, precision: Precision = "fp32"
) -> Callable[[Tensor], Process]:
    """Return a function from the indices of m examples, [m], to the flow under the conditions of these examples."""
    model.check_guidance(guidance)
    network = at_precision(model.network.eval().requires_grad_(False), precision)
    network = cfg(network, guidance, droppable=model.droppable())

    def process(rows: Tensor) -> Process:
        process_of_rows = model.spec.path.process(network, tree_map(lambda leaf: leaf[rows], cond))
        return freeze_leaves(process_of_rows, clamped.keys()) if clamped else process_of_rows

    return process


@dataclass(frozen=True)
class SearchProblem:
    """Optimisation problem for source points, condition embeddings or both, on which samples depend differentiably.

    It contains the initial values of these variables, the space in which they move, and the flow that maps them to
    samples.
    """

    flow: Flow
    start: State
    space: Space
    mask: State | None = None
    """Mask of the valid (unpadded) entries of the initial values; None if all entries are valid."""


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
    """Return the optimisation problem for the chosen variables, with the flow from these variables to samples.

    Args:
        model: Model of the flow.
        x_0: Initial source points.
        cond: Conditions.
        clamped: Parts of the state, by name, that are held fixed.
        guidance: Classifier-free guidance scale; 1 is the conditional model.
        sampling: Solver, and number of network calls, of each ODE solve.
        variables: One of `SEARCH_VARIABLES`: source points, condition embeddings, or both.
        rng: Source of random numbers, which a deterministic flow does not use.

    Raises:
        UsageError: If conditions are to be optimised but the model has no conditions, or guidance is used.
    """
    if variables not in SEARCH_VARIABLES:
        raise UsageError(f"one of {', '.join(SEARCH_VARIABLES)}", argument="optimize", found=repr(variables))
    if variables != "source" and guidance != 1:
        raise UsageError("optimising conditions does not support guidance", remedy="Leave out --guidance")
    space = model.spec.space
    _, solver, times = sampling.resolve(model.spec.path, space)
    cond_embeddings = {} if variables == "source" else condition_embeddings(model.network, cond)

    def flow(source: State, embeddings: dict[str, Tensor], rows: Tensor) -> State:
        x = model.spec.path.initial_state(source)
        batch_clamped = tree_map(lambda leaf: leaf[rows], clamped)
        batch_cond = {**tree_map(lambda leaf: leaf[rows], cond), **embeddings}
        process = make_process(model, batch_cond, batch_clamped, guidance, sampling.precision)
        indices = torch.arange(len(rows), device=rows.device)
        return solve_flow(process, times, solver, rng)({**x, **batch_clamped} if batch_clamped else x, indices)

    def source_rows(rows: Tensor) -> State:
        return tree_map(lambda leaf: leaf[rows], x_0)

    embedding_spaces: dict[str, Space] = {
        name: Euclidean(tuple(leaf.shape[1:])) for name, leaf in cond_embeddings.items()
    }
    if variables == "source":
        return SearchProblem(lambda source, rows: flow(source, {}, rows), x_0, space, cond.get("valid"))
    if variables == "condition":
        return SearchProblem(
            lambda embeddings, rows: flow(source_rows(rows), embeddings, rows),
            cond_embeddings,
            Product(embedding_spaces),
        )
    named_embeddings = {f"{CONDITION}{name}": leaf for name, leaf in cond_embeddings.items()}
    is_tensor = not isinstance(x_0, dict)

    def joint_flow(state: State, rows: Tensor) -> State:
        embeddings = {name: state[f"{CONDITION}{name}"] for name in cond_embeddings}
        source_leaves = {name: leaf for name, leaf in state.items() if name not in named_embeddings}
        return flow(source_leaves[SOURCE] if is_tensor else source_leaves, embeddings, rows)

    sources = {SOURCE: x_0} if is_tensor else x_0
    spaces: dict[str, Space] = {name: part_of(space, name) for name in sources} if not is_tensor else {SOURCE: space}
    cond_spaces: dict[str, Space] = {
        f"{CONDITION}{name}": embedding_space for name, embedding_space in embedding_spaces.items()
    }
    mask = {name: submask(cond.get("valid"), name) for name in sources}
    return SearchProblem(joint_flow, {**sources, **named_embeddings}, Product({**spaces, **cond_spaces}), mask)
