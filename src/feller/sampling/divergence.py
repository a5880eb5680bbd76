"""Computation of the divergence of a velocity field (trace of its Jacobian), exact or by Hutchinson's estimator.

Source: Grathwohl et al. 2019, "FFJORD", arXiv 1810.01367; Lipman et al. 2024, arXiv 2412.06264, section 3.5.
"""

import abc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import RandomStream
from feller.spaces import Euclidean, Manifold, Product, Space
from feller.spaces.product import leaf_space

VelocityFn = Callable[[State], State]
"""Function from states to velocities of the same shapes; an example's velocity depends only on its own state."""


class Divergence(abc.ABC):
    """Base class of methods to compute the divergence of a velocity field with Jacobian J.

    The divergence is the sum of <w, J^T d> over directions w with duals d. The matrices w d^T sum to the identity,
    exactly or in expectation.
    """

    def probes(self, x: State, rng: RandomStream) -> State:
        """Sample random directions per example of x; all solver steps share them, so that the integrand is smooth."""
        return {}

    @abc.abstractmethod
    def directions(self, x: list[Tensor], probes: list[Tensor]) -> Iterator[list[Tensor]]:
        """Yield chunks of k directions, each a list with one tensor [k, b, ...] per leaf of the state.

        `x` lists the leaves (components) of the state, and `probes` those of the result of the method `probes`.
        """

    def tangent_and_dual(self, space: Any, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Map a direction to a tangent vector w at x, and return w and its dual d."""
        w = space.to_tangent(x, direction)
        return w, w

    def __call__(
        self,
        velocity: VelocityFn,
        x: State,
        probes: State,
        space: Space = Euclidean(),  # noqa: B008 - frozen
    ) -> tuple[State, Float[Tensor, " b"]]:
        """Return velocities and their divergences.

        The result is differentiable if gradients are enabled and x or parameters of the velocity require them.
        Otherwise no second-order graph is built.

        Args:
            velocity: Velocity field.
            x: States, [b, ...].
            probes: Result of `probes` for these examples.
            space: Manifold of the states, or a product with one per leaf.

        Raises:
            UsageError: If the velocity is not differentiable in the state.
        """
        differentiate = _vjp_autograd if torch._C._functorch.peek_interpreter_stack() is None else _vjp_functional
        u, vjp = differentiate(velocity, x)
        spaces, points = list(_spaces(space, x)), list(leaves(x))

        def quadratic_form(direction: list[Tensor]) -> Tensor:
            pairs = [self.tangent_and_dual(s, y, w) for s, y, w in zip(spaces, points, direction, strict=True)]
            vectors, duals = zip(*pairs, strict=True)
            return _total(w * g for w, g in zip(vectors, vjp(list(duals)), strict=True))

        volume_rates = [s.log_volume_rate(y, v) for s, y, v in zip(spaces, points, leaves(u), strict=True)]
        divergence = torch.stack(volume_rates).sum(0)
        for chunk in self.directions(points, list(leaves(probes))):
            if len(chunk[0]) == 1:  # vmap does not support every network
                divergence = divergence + quadratic_form([w[0] for w in chunk])
            else:
                divergence = divergence + torch.vmap(quadratic_form)(chunk).sum(0)
        return u, divergence


@dataclass(frozen=True)
class ExactDivergence(Divergence):
    """Exact divergence, by one backward pass per entry of an example."""

    chunk_size: int = 1
    """Number of directions per batched backward pass; larger chunks need more memory and are faster on accelerators."""

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise UsageError("chunk_size of at least 1", self.chunk_size)

    def directions(self, x: list[Tensor], probes: list[Tensor]) -> Iterator[list[Tensor]]:
        for leaf_index, leaf in enumerate(x):
            size = leaf.shape[1:].numel()
            for start in range(0, size, self.chunk_size):
                identity = leaf.new_zeros(min(self.chunk_size, size - start), size)
                identity.diagonal(start).fill_(1)
                axes = identity.reshape(-1, 1, *leaf.shape[1:]).expand(-1, *leaf.shape)
                zeros = (y.new_zeros(()).expand(len(identity), *y.shape) for y in x)
                yield [axes if i == leaf_index else zero for i, zero in enumerate(zeros)]


class ProbeDistribution(abc.ABC):
    """Distribution of probe vectors with independent entries of mean 0 and variance 1."""

    @abc.abstractmethod
    def __call__(self, shape: Sequence[int], rng: RandomStream, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Sample a tensor whose first axis counts examples."""


@dataclass(frozen=True)
class RademacherProbe(ProbeDistribution):
    """Rademacher probes with entries -1 or 1.

    The variance of the estimate is 2 times the sum of S_ij^2 over i != j, with S the symmetric part of the Jacobian.
    """

    def __call__(self, shape: Sequence[int], rng: RandomStream, dtype: torch.dtype, device: torch.device) -> Tensor:
        return 2 * rng.randint(2, shape, device).to(dtype) - 1


@dataclass(frozen=True)
class GaussianProbe(ProbeDistribution):
    """Gaussian probes with entries from N(0, 1).

    The variance of the estimate is 2 times the sum of all S_ij^2, with S the symmetric part of the Jacobian. This
    variance is at least that of Rademacher probes.
    """

    def __call__(self, shape: Sequence[int], rng: RandomStream, dtype: torch.dtype, device: torch.device) -> Tensor:
        return rng.normal(shape, dtype, device)


@dataclass(frozen=True)
class Hutchinson(Divergence):
    """Hutchinson's unbiased estimator of the divergence: mean over random directions, with one backward pass each.

    Directions are white in the metric, so the variance does not depend on coordinates or on the point of a homogeneous
    space.
    Source: Hutchinson 1990, "A stochastic estimator of the trace of the influence matrix".
    """

    num_probes: int = 1
    """Number of random directions; the variance falls as 1 / num_probes."""
    distribution: ProbeDistribution = field(default_factory=RademacherProbe)
    chunk_size: int = 1
    """Number of directions per batched backward pass; larger chunks need more memory and are faster on accelerators."""

    def __post_init__(self) -> None:
        check_number("num_probes", self.num_probes, ge=1)
        check_number("chunk_size", self.chunk_size, ge=1)

    def probes(self, x: State, rng: RandomStream) -> State:
        """Sample directions [b, num_probes, ...], whose entries have standard deviation 1 / sqrt(num_probes)."""

        def sample_probe(leaf: Tensor) -> Tensor:
            probe = self.distribution((len(leaf), self.num_probes, *leaf.shape[1:]), rng, leaf.dtype, leaf.device)
            return probe / math.sqrt(self.num_probes) if self.num_probes > 1 else probe

        return tree_map(sample_probe, x)

    def directions(self, x: list[Tensor], probes: list[Tensor]) -> Iterator[list[Tensor]]:
        for start in range(0, self.num_probes, self.chunk_size):
            yield [z[:, start : start + self.chunk_size].transpose(0, 1) for z in probes]

    def tangent_and_dual(self, space: Any, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        return space.whiten_probe(x, direction)


MAX_EXACT_DIMENSION = 32
"""Number of degrees of freedom of a curved space up to which `default_divergence` is exact."""


def default_divergence(space: Space) -> Divergence:
    """Return the exact method for curved spaces of low dimension, else Hutchinson's estimator with one probe."""
    is_small = isinstance(space, Manifold | Product) and not space.is_flat and space.dimension <= MAX_EXACT_DIMENSION
    return ExactDivergence() if is_small else Hutchinson()


VJP = Callable[[list[Tensor]], Sequence[Tensor]]
"""Vector-Jacobian product: function from vectors v, one per leaf of the velocity, to J^T v."""


def _vjp_autograd(velocity: VelocityFn, x: State) -> tuple[State, VJP]:
    """Return velocities and their vector-Jacobian product, by torch.autograd."""
    grad_enabled = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf_tensors = tree_map(lambda y: y if grad_enabled and y.requires_grad else y.detach().requires_grad_(), x)
        u = velocity(leaf_tensors)
    inputs, outputs = list(leaves(leaf_tensors)), list(leaves(u))
    if not any(v.requires_grad for v in outputs):
        raise UsageError(
            "the divergence is unknown, because the velocity is constant or computed under no_grad",
            remedy="Remove no_grad from the velocity",
        )
    create_graph = grad_enabled and (any(y.requires_grad for y in leaves(x)) or _depends_on_others(outputs, inputs))

    def vjp(directions: list[Tensor]) -> Sequence[Tensor]:
        differentiable, cotangents = zip(
            *((v, w) for v, w in zip(outputs, directions, strict=True) if v.requires_grad), strict=True
        )
        return torch.autograd.grad(
            differentiable,
            inputs,
            cotangents,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )

    return (u if create_graph else tree_map(torch.Tensor.detach, u)), vjp


def _vjp_functional(velocity: VelocityFn, x: State) -> tuple[State, VJP]:
    """Return velocities and their vector-Jacobian product by torch.func, for transformations such as `vmap`."""
    u, transposed = torch.func.vjp(velocity, x)[:2]

    def vjp(directions: list[Tensor]) -> Sequence[Tensor]:
        remaining = iter(directions)
        return list(leaves(transposed(tree_map(lambda _: next(remaining), u))[0]))

    return u, vjp


def _depends_on_others(outputs: list[Tensor], inputs: list[Tensor]) -> bool:
    """Return True if outputs depend on tensors other than the inputs that require gradients, such as weights."""
    stack, visited = [v.grad_fn for v in outputs], set()
    while stack:
        node: Any = stack.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and all(variable is not y for y in inputs):
            return True
        stack.extend(next_node for next_node, _ in node.next_functions)
    return False


def _spaces(space: Space, x: State) -> Iterator[Any]:
    if isinstance(x, dict):
        for name, leaf in x.items():
            yield from _spaces(leaf_space(space, name), leaf)
    else:
        yield space


def _total(terms: Iterable[Tensor]) -> Float[Tensor, " b"]:
    return torch.stack([term.reshape(len(term), -1).sum(1) for term in terms]).sum(0)
