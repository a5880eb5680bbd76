"""D-Flow: optimise the source point of a flow so that its endpoint minimises a loss.

Nothing is trained. The gradient through the flow moves the endpoint mainly along directions in which the data vary, so
endpoints stay close to the data without a penalty.

Source: Ben-Hamu et al. 2024, "D-Flow: Differentiating through Flows for Controlled Generation", arXiv 2402.14017.
"""

import abc
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.control.optimize.lbfgs import LBFGS
from feller.control.optimize.minimize import Minimizer
from feller.core.errors import InputError
from feller.core.pytree import State, append_dims, leaves, num_examples, submask, tree_map, tree_unflatten
from feller.core.rng import Rng
from feller.paths.processes import Process
from feller.sampling import Solver, simulate
from feller.spaces import Euclidean, Space, as_manifold
from feller.spaces.product import leaf_space

Flow = Callable[[State, Tensor], State]
"""Function (sources of m examples, indices of these examples [m]) -> endpoints of the flow."""
EndpointLoss = Callable[[State, Tensor], Tensor]
"""Function (endpoints of m examples, indices of these examples [m]) -> losses [m]."""


class SourcePrior(abc.ABC):
    """Base class of priors on the source points that are optimised: a penalty, a constraint, or both.

    A prior is applied separately to each component (leaf) of the state.

    Entries that are not optimised, such as padding, are zero and do not count.
    """

    def project(self, x_0: Float[Tensor, "b d"], start: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Project an updated source x_0 onto the constraint, given the initial source `start`; identity by default."""
        return x_0

    @abc.abstractmethod
    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the penalty for the source x_0 of each example, in nats; it is added to the loss.

        `count` is the number of optimised entries of each example.
        """


@dataclass(frozen=True)
class NoPrior(SourcePrior):
    """No prior: only the flow keeps endpoints close to the data."""

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return x_0.new_zeros(len(x_0))


@dataclass(frozen=True)
class NormConstraint(SourcePrior):
    """Constraint that each source keeps its initial norm, so that only its direction changes.

    With an unbounded reward it keeps the endpoints within the data distribution. Components of the state that are not
    Euclidean, or that start at zero, are not constrained.
    """

    def project(self, x_0: Float[Tensor, "b d"], start: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        norm, start_norm = (x.norm(dim=1, keepdim=True) for x in (x_0, start))
        return torch.where(start_norm > 0, x_0 * (start_norm / norm.clamp(min=1e-12)), x_0)

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return x_0.new_zeros(len(x_0))


@dataclass(frozen=True)
class GaussianPrior(SourcePrior):
    """Negative log density of a standard normal; it pulls sources to the mean 0, which is atypical in high dimensions.

    With a quadratic loss and Gaussian data the optimal endpoint is the posterior mean.
    """

    weight: float = 1.0

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.weight / 2 * x_0.square().sum(1)


@dataclass(frozen=True)
class ChiPrior(SourcePrior):
    """Negative log density of the norm of a standard normal vector, minimal at squared norm d - 1."""

    weight: float = 1.0

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return `weight` * (|x_0|^2 / 2 - (d - 1) log |x_0|) per example, where d is `count`."""
        norm_sq = x_0.square().sum(1)  # gradient (1 - (d - 1) / |x|^2) x; some implementations invert its sign
        return self.weight / 2 * (norm_sq - (count - 1).clamp(min=0) * norm_sq.clamp(min=1e-30).log())


@dataclass(frozen=True)
class OptimizedSource:
    """Result of a search: optimised source points, their endpoints under the flow, and the losses of these."""

    source: State
    end: State
    loss: Float[Tensor, " b"]
    """Loss of the endpoints, without the prior."""
    initial_loss: Float[Tensor, " b"]
    """Loss of the endpoints of the initial sources."""
    nfe: Int64[Tensor, " b"]
    """Number of times the flow was solved per example; a solve includes its gradient if the minimiser uses
    gradients."""


def optimize_source(
    flow: Flow,
    endpoint_loss: EndpointLoss,
    x_0: State,
    space: Space,
    *,
    minimizer: Minimizer = LBFGS(),  # noqa: B008 - frozen
    prior: SourcePrior = NormConstraint(),
    target_loss: Float[Tensor, " b"] | float = -math.inf,
    mask: State | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> OptimizedSource:
    """Optimise sources so that their endpoints minimise a loss.

    Each example is optimised separately, so the result does not depend on the other examples of the batch. Euclidean
    components of the state are optimised directly. On manifolds the source moves in the tangent space of its start.
    Components without geometry, such as tokens, stay fixed.

    Args:
        flow: Differentiable, deterministic function (sources of m examples, indices of these examples [m]) ->
            endpoints; `solve_flow` returns such a function.
        endpoint_loss: Function (endpoints of m examples, indices of these examples [m]) -> losses [m], in nats if
            combined with a prior.
        x_0: Initial sources.
        space: Space of the sources.
        minimizer: Optimiser.
        prior: Prior on the sources. By default their norm is fixed, so that an unbounded loss does not drive endpoints
            off the data; `NoPrior()` removes the constraint.
        target_loss: Loss at which the optimisation of an example stops.
        mask: True for entries to optimise: one mask for all components of the state, or a dict with a mask for each
            component, as in `given["valid"]`. The other entries stay fixed. None optimises all entries.
        on_progress: Callback with the fraction of finished examples or of steps, whichever is larger.

    Raises:
        InputError: If the initial loss is not finite, has the wrong shape, or has no gradient although the minimiser
            needs one.
    """
    search = _Search(flow, endpoint_loss, x_0, space, prior, minimizer.needs_gradients, mask)
    rows, initial_losses, state = torch.arange(num_examples(x_0), device=search.start.device), None, None
    for step, iterate in enumerate(minimizer.run(search.value, search.start)):
        state = iterate
        with torch.no_grad():
            losses = state.value - search.cost(search.sources(state.x, rows), rows)
        if initial_losses is None:
            initial_losses = losses
            search.check(initial_losses, state.gradient)
        state.active.logical_and_(losses > target_loss)
        on_progress(max(1 - state.active.double().mean().item(), step / minimizer.steps))
    if initial_losses is None or state is None:
        raise InputError("at least one source", "none")
    with torch.no_grad():
        source = search.sources(state.x, rows)
        end = flow(source, rows)
        loss = endpoint_loss(end, rows)
    return OptimizedSource(source, end, loss, initial_losses, state.nfe)


def solve_flow(process: Callable[[Tensor], Process], times: Sequence[float], solver: Solver, rng: Rng) -> Flow:
    """Return a function (sources of m examples, indices of these examples [m]) -> endpoints, which solves a process.

    Gradients through the function use gradient checkpointing per step.

    Args:
        process: Function from the indices of examples, [m], to the process of these examples; their conditions can
            differ.
        times: Time grid from source to data.
        solver: Solver of the steps. The search and the final sample use the same solver, so the gradient is exact.
        rng: Random streams, which solvers of flows do not use.
    """

    def flow(x_0: State, rows: Tensor) -> State:
        return simulate(process(rows), x_0, times, solver, rng, recompute=torch.is_grad_enabled())

    return flow


class _Search:
    """Function that the search minimises: source points, flattened to one vector per example -> loss and gradient."""

    def __init__(
        self,
        flow: Flow,
        loss: EndpointLoss,
        x_0: State,
        space: Space,
        prior: SourcePrior,
        gradients: bool,
        mask: State | None,
    ) -> None:
        self.flow, self.loss, self.x_0, self.space, self.prior = flow, loss, x_0, space, prior
        self.gradients = gradients
        self.moving_leaves = _manifold_leaves(x_0, space)
        spaces = list(leaves(_spaces(self.moving_leaves, space)))
        self.is_euclidean = [isinstance(manifold, Euclidean) for manifold in spaces]
        self.shapes = [leaf.shape[1:] for leaf in leaves(self.moving_leaves)]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        start_leaves = zip(leaves(self.moving_leaves), spaces, strict=True)
        self.start = _flatten(
            leaf if isinstance(manifold, Euclidean) else torch.zeros_like(leaf) for leaf, manifold in start_leaves
        )
        self.mask = torch.cat([leaf.flatten(1) for leaf in leaves(_expand_mask(self.moving_leaves, mask))], 1)
        self.differentiable = True

    def sources(self, w: Tensor, rows: Tensor) -> State:
        """Return the sources of flat vectors; on manifolds these are tangent vectors at the start."""
        start, mask = self.start[rows], self.mask[rows]
        w = torch.where(mask, w, start)
        pieces = zip(*(tensor.split(self.sizes, 1) for tensor in (w, start, mask)), self.is_euclidean, strict=True)
        w = torch.cat([self._project(*piece) for piece in pieces], 1)
        flat = zip((w - start).split(self.sizes, 1), self.shapes, strict=True)
        tangents = tree_unflatten(self.moving_leaves, (piece.reshape(len(w), *shape) for piece, shape in flat))
        return _exp_map(self.space, tree_map(lambda leaf: leaf[rows], self.x_0), tangents)

    def _project(self, x: Tensor, start: Tensor, mask: Tensor, is_euclidean: bool) -> Tensor:
        """Project one leaf of the source points onto the prior's set, if the leaf is Euclidean.

        Entries outside `mask` keep their value at the start.
        """
        return torch.where(mask, self.prior.project(x * mask, start * mask), start) if is_euclidean else x

    def value(self, w: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses including the prior, and their gradients."""
        with torch.set_grad_enabled(self.gradients):
            w = w.detach().requires_grad_(self.gradients)
            x_0 = self.sources(w, rows)
            losses = self.loss(self.flow(x_0, rows), rows)
            if losses.shape != (len(rows),):
                raise InputError(f"one loss per endpoint, shape [{len(rows)}]", list(losses.shape))
            losses = losses.to(w.dtype)  # rewards may compute in float64
            self.differentiable = losses.requires_grad
            total = losses + self.cost(x_0, rows)
            gradient = torch.autograd.grad(total.sum(), w)[0] if total.requires_grad else torch.zeros_like(w)
        return total.detach(), gradient

    def cost(self, x_0: State, rows: Tensor) -> Tensor:
        """Return the penalty of the prior."""
        flat = _flatten(leaves(_manifold_leaves(x_0, self.space)))
        pieces = zip(*(tensor.split(self.sizes, 1) for tensor in (flat, self.mask[rows])), strict=True)
        return torch.stack([self.prior.cost(x * mask, mask.sum(1)) for x, mask in pieces]).sum(0)

    def check(self, losses: Tensor, gradient: Tensor) -> None:
        """Check that initial losses and gradients are finite; InputError otherwise."""
        invalid = ~torch.isfinite(losses)
        if invalid.any():
            raise InputError(
                f"the loss is not finite for {int(invalid.sum())} of {len(losses)} initial sources, first for source"
                f" {int(invalid.nonzero()[0, 0]) + 1}",
                remedy="Bound the loss, or use another start",
            )
        invalid_grad = ~torch.isfinite(gradient).all(1)
        if invalid_grad.any():
            raise InputError(
                f"the gradient of the loss is not finite for {int(invalid_grad.sum())} of {len(losses)} initial"
                f" sources, first for source {int(invalid_grad.nonzero()[0, 0]) + 1}",
                remedy="Add a small constant under square roots, whose gradient at 0 is infinite",
            )
        if self.gradients and not self.differentiable:
            raise InputError(
                "the loss has no gradient: it rounds, counts or uses functions outside torch",
                remedy="Use differentiable operations, or the Evolution minimizer, which needs no gradient",
            )


def _flatten(tensors: Iterable[Tensor]) -> Float[Tensor, "b d"]:
    """Flatten and concatenate the entries of each example, [b, d]."""
    return torch.cat([leaf.flatten(1) for leaf in tensors], 1)


def _expand_mask(x: State, mask: State | None) -> State:
    """Return a mask in the shape of the state x; all True if `mask` is None."""
    if isinstance(x, dict):
        return {name: _expand_mask(leaf, submask(mask, name)) for name, leaf in x.items()}
    if mask is None:
        return torch.ones_like(x, dtype=torch.bool)
    return append_dims(mask, x).expand(x.shape)


def _manifold_leaves(x: State, space: Space) -> State:
    """Return the leaves whose space is a manifold."""
    if not isinstance(x, dict):
        as_manifold(space)
        return x
    return {name: leaf for name, leaf in x.items() if _has_geometry(leaf_space(space, name))}


def _spaces(x: State, space: Space) -> State:
    return {name: _spaces(leaf, leaf_space(space, name)) for name, leaf in x.items()} if isinstance(x, dict) else space


def _has_geometry(space: Space) -> bool:
    try:
        as_manifold(space)
    except TypeError:
        return False
    return True


def _exp_map(space: Space, start: State, tangents: State) -> State:
    """Return the points reached from `start` along `tangents`; leaves without tangents (tokens) are unchanged."""
    if isinstance(start, dict):
        return {
            name: _exp_map(leaf_space(space, name), leaf, tangents[name]) if name in tangents else leaf
            for name, leaf in start.items()
        }
    manifold = as_manifold(space)
    return (
        start + tangents
        if isinstance(manifold, Euclidean)
        else manifold.exp(start, manifold.to_tangent(start, tangents))
    )
