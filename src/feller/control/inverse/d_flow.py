"""D-Flow: the source points from which a flow leads to what is wished for.

Nothing is trained. The gradient through the flow moves an end along directions in which the data vary, and hardly off
them, so that ends stay like data without a penalty.

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
"""(sources of some examples, their numbers [m]) -> their ends."""
EndpointLoss = Callable[[State, Tensor], Tensor]
"""(ends of some examples, their numbers [m]) -> losses, [m]."""


class SourcePrior(abc.ABC):
    """What a source costs by itself, so that it stays like those that the flow knows; asked for each leaf by itself.

    Numbers that mean nothing, such as padding, are zeros there and do not count.
    """

    def project(self, x_0: Float[Tensor, "b d"], start: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return where a source is put that the search moved to x_0; where it is, unless a kind says otherwise."""
        return x_0

    @abc.abstractmethod
    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return nats, of all numbers of each example, of which so many count."""


@dataclass(frozen=True)
class NoPrior(SourcePrior):
    """The flow alone keeps ends like data."""

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return x_0.new_zeros(len(x_0))


@dataclass(frozen=True)
class NormConstraint(SourcePrior):
    """Sources keep the length that they start with, as a draw of the source law has it, and turn only.

    A wish without a bound then cannot lead beyond what the model knows. Sources that are no vectors are free, and so
    are leaves that start at zero.
    """

    def project(self, x_0: Float[Tensor, "b d"], start: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        size, start_norm = (x.norm(dim=1, keepdim=True) for x in (x_0, start))
        return torch.where(start_norm > 0, x_0 * (start_norm / size.clamp(min=1e-12)), x_0)

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return x_0.new_zeros(len(x_0))


@dataclass(frozen=True)
class GaussianPrior(SourcePrior):
    """Minus the log density of a normal law; pulls towards 0, the mean path, where no source of many numbers lies.

    With a quadratic loss on Gaussian data the end is the posterior mean.
    """

    weight: float = 1.0

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.weight / 2 * x_0.square().sum(1)


@dataclass(frozen=True)
class ChiPrior(SourcePrior):
    """Minus the log density of the length of a normal vector, lowest where its square is d - 1."""

    weight: float = 1.0

    def cost(self, x_0: Float[Tensor, "b d"], count: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return `|x|^2 / 2 - (d - 1) log |x|`."""
        square = x_0.square().sum(1)
        return self.weight / 2 * (square - (count - 1).clamp(min=0) * square.clamp(min=1e-30).log())


@dataclass(frozen=True)
class OptimizedSource:
    """Sources that were looked for, and where they lead."""

    source: State
    end: State
    loss: Float[Tensor, " b"]
    """Of the ends, without the prior."""
    initial_loss: Float[Tensor, " b"]
    """Of the ends that the first sources led to."""
    nfe: Int64[Tensor, " b"]
    """Times that the flow was solved for each, with its gradient where the minimiser asks for one."""


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
    on_progress: Callable[[float], None] = lambda share: None,
) -> OptimizedSource:
    """Move sources until the ends that they lead to are as wished.

    Every example has its own search, so that its result does not depend on the batch. The minimiser sees vectors as
    they are; on a manifold a source moves in the tangent space of its start. Leaves that have no geometry, such as
    symbols, stay as they are.

    Args:
        flow: Leads sources to ends, differentiably, and always the same way; see `solve_flow`.
        endpoint_loss: What is wrong with ends, in nats where a prior is to count beside it.
        x_0: Where to start: with no step, the samples of these.
        space: Where sources live.
        minimizer: How to move.
        prior: What sources cost by themselves, and where they may be. By default they keep their length, as the command
            has it, so that a loss without a bound leads nowhere else than data; `NoPrior()` lets them go anywhere.
        target_loss: Loss of an end at which its search is over.
        mask: Marks of the entries that mean something, for all leaves or under their names, as `given["valid"]`; the
            others stay as they are. None for all.
        on_progress: Hears the share of the searches that are over, or of their steps, whichever is larger.

    Raises:
        InputError: If the loss of a start is no number, has another shape, or has no gradient where the minimiser asks
            for one.
    """
    search = _Search(flow, endpoint_loss, x_0, space, prior, minimizer.needs_gradients, mask)
    rows, before, now = torch.arange(num_examples(x_0), device=search.start.device), None, None
    for step, iterate in enumerate(minimizer.run(search.value, search.start)):
        now = iterate
        with torch.no_grad():
            losses = now.value - search.cost(search.sources(now.x, rows), rows)
        if before is None:
            before = losses
            search.check(before, now.gradient)
        now.active.logical_and_(losses > target_loss)
        on_progress(max(1 - now.active.double().mean().item(), step / minimizer.steps))
    if before is None or now is None:
        raise InputError("one source or more", "none")
    with torch.no_grad():
        source = search.sources(now.x, rows)
        end = flow(source, rows)
        loss = endpoint_loss(end, rows)
    return OptimizedSource(source, end, loss, before, now.nfe)


def solve_flow(process: Callable[[Tensor], Process], times: Sequence[float], solver: Solver, rng: Rng) -> Flow:
    """Return a flow that solves a process, keeping one state a step for its gradient and not the network's.

    Args:
        process: Of the examples with some numbers, [m]: each has its own conditions.
        times: From source to data.
        solver: Makes the steps; that of the search and of the sample are one, so that the gradient is exact.
        rng: Nothing random is asked for of a flow.
    """

    def flow(x_0: State, rows: Tensor) -> State:
        return simulate(process(rows), x_0, times, solver, rng, recompute=torch.is_grad_enabled())

    return flow


class _Search:
    """Losses of sources, as a function of one vector for each example."""

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
        self.is_euclidean = [isinstance(one, Euclidean) for one in spaces]
        self.shapes = [leaf.shape[1:] for leaf in leaves(self.moving_leaves)]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        start_leaves = zip(leaves(self.moving_leaves), spaces, strict=True)
        self.start = _flatten(
            leaf if isinstance(one, Euclidean) else torch.zeros_like(leaf) for leaf, one in start_leaves
        )
        self.mask = torch.cat([leaf.flatten(1) for leaf in leaves(_expand_mask(self.moving_leaves, mask))], 1)
        self.differentiable = True

    def sources(self, w: Tensor, rows: Tensor) -> State:
        """Return the sources at vectors, which on manifolds are ways from their starts."""
        start, real = self.start[rows], self.mask[rows]
        w = torch.where(real, w, start)
        pieces = zip(*(part.split(self.sizes, 1) for part in (w, start, real)), self.is_euclidean, strict=True)
        w = torch.cat([self._project(*piece) for piece in pieces], 1)
        flat = zip((w - start).split(self.sizes, 1), self.shapes, strict=True)
        tangents = tree_unflatten(self.moving_leaves, (piece.reshape(len(w), *shape) for piece, shape in flat))
        return _exp_map(self.space, tree_map(lambda leaf: leaf[rows], self.x_0), tangents)

    def _project(self, x: Tensor, start: Tensor, mark: Tensor, straight: bool) -> Tensor:
        """Return one leaf where the prior puts it, if it holds vectors."""
        return torch.where(mark, self.prior.project(x * mark, start * mark), start) if straight else x

    def value(self, w: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses with the prior, and their gradients."""
        with torch.set_grad_enabled(self.gradients):
            w = w.detach().requires_grad_(self.gradients)
            x_0 = self.sources(w, rows)
            losses = self.loss(self.flow(x_0, rows), rows)
            if losses.shape != (len(rows),):
                raise InputError(f"the loss to be one number for each of {len(rows)} ends", list(losses.shape))
            losses = losses.to(w.dtype)  # wishes may see values in float64
            self.differentiable = losses.requires_grad
            total = losses + self.cost(x_0, rows)
            gradient = torch.autograd.grad(total.sum(), w)[0] if total.requires_grad else torch.zeros_like(w)
        return total.detach(), gradient

    def cost(self, x_0: State, rows: Tensor) -> Tensor:
        """Return what sources cost by themselves."""
        flat = _flatten(leaves(_manifold_leaves(x_0, self.space)))
        pieces = zip(*(part.split(self.sizes, 1) for part in (flat, self.mask[rows])), strict=True)
        return torch.stack([self.prior.cost(x * mark, mark.sum(1)) for x, mark in pieces]).sum(0)

    def check(self, losses: Tensor, gradient: Tensor) -> None:
        """Refuse a loss that cannot be followed from the start."""
        wrong = ~torch.isfinite(losses)
        if wrong.any():
            raise InputError(
                f"the loss of {int(wrong.sum())} of {len(losses)} starts is no number, the first is number"
                f" {int(wrong.nonzero()[0, 0]) + 1}",
                remedy="Bound it, or start elsewhere",
            )
        steep = ~torch.isfinite(gradient).all(1)
        if steep.any():
            raise InputError(
                f"the slope of the loss is no number for {int(steep.sum())} of {len(losses)} starts, the first is"
                f" number {int(steep.nonzero()[0, 0]) + 1}; a root of 0 has none, for one: add a small number"
            )
        if self.gradients and not self.differentiable:
            raise InputError(
                "the loss has no gradient at the start: something in it rounds, counts or leaves torch",
                remedy="Write it in differentiable operations, or search with Evolution, which needs none",
            )


def _flatten(tensors: Iterable[Tensor]) -> Float[Tensor, "b d"]:
    """Return the numbers of each example in one row."""
    return torch.cat([leaf.flatten(1) for leaf in tensors], 1)


def _expand_mask(x: State, mask: State | None) -> State:
    """Mark the numbers of a state that mean something."""
    if isinstance(x, dict):
        return {name: _expand_mask(leaf, submask(mask, name)) for name, leaf in x.items()}
    if mask is None:
        return torch.ones_like(x, dtype=torch.bool)
    return append_dims(mask, x).expand(x.shape)


def _manifold_leaves(x: State, space: Space) -> State:
    """Return the leaves that have a geometry."""
    if not isinstance(x, dict):
        as_manifold(space)
        return x
    return {name: leaf for name, leaf in x.items() if _has_geometry(leaf_space(space, name))}


def _spaces(x: State, space: Space) -> State:
    """Return the space of each leaf."""
    return {name: _spaces(leaf, leaf_space(space, name)) for name, leaf in x.items()} if isinstance(x, dict) else space


def _has_geometry(space: Space) -> bool:
    try:
        as_manifold(space)
    except TypeError:
        return False
    return True


def _exp_map(space: Space, start: State, tangents: State) -> State:
    """Follow geodesics from starts; leaves without a way stay."""
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
