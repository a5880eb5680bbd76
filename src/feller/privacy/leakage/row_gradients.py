"""Gradients of single rows, and how they change as the rows go in some direction: forward over the backward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.core.errors import UsageError
from feller.core.gradient import LossFunction
from feller.core.pytree import concatenate, leaves, num_examples, tree_map
from feller.privacy.dp_sgd.per_example_clipping import trained
from feller.privacy.dp_sgd.per_example_gradients import _Loss, _named, refuse_mixers
from feller.privacy.dp_sgd.stateful_modules import nothing_kept

AT_ONCE = 2**25
"""Numbers of gradients and their changes that are laid out beside each other."""

Build = Callable[[Tensor], Any]
"""From rows z [b, *d] to the examples that a loss takes, each from its own row alone; smooth."""


@dataclass(frozen=True)
class Way:
    """Examples, and how their numbers change as their rows go in some direction."""

    example: Any
    numbers: list[Tensor]
    """Leaves of the examples that are no whole numbers."""
    changes: list[Tensor]

    @staticmethod
    def of(build: Build, z: Tensor, vectors: Tensor) -> "Way":
        """Build examples of rows that go in a direction each."""

        def numbers(z: Tensor) -> tuple[list[Tensor], Any]:
            example = build(z)
            return [leaf for leaf in leaves(example) if leaf.is_floating_point()], example

        if not z.is_floating_point():
            raise UsageError("rows of float numbers to follow", z.dtype)
        told: Any = jvp(numbers, (z,), (vectors.to(z.dtype),), has_aux=True)
        found, changes, example = told
        return Way(example, found, changes)

    @staticmethod
    def joined(ways: "list[Way]") -> "Way":
        """Put the rows of several one after the other."""
        numbers, changes = ([each.numbers for each in ways], [each.changes for each in ways])
        return Way(
            concatenate(*(each.example for each in ways)),
            [torch.cat(each) for each in zip(*numbers, strict=True)],
            [torch.cat(each) for each in zip(*changes, strict=True)],
        )

    def one(self, i: int) -> Any:
        """Return the example of one row, without its axis."""
        return tree_map(lambda leaf: leaf[i], self.example)

    def rows(self, part: slice) -> "Way":
        """Return some of the rows."""
        example = tree_map(lambda leaf: leaf[part], self.example)
        return Way(example, [each[part] for each in self.numbers], [each[part] for each in self.changes])


class RowSlopes:
    """Gradients of single rows and how they change."""

    def __init__(self, loss: LossFunction, network: nn.Module) -> None:
        refuse_mixers(network)
        self.network, self.whole = network, _Loss(loss, network)
        self.values = {f"network.{name}": weight.detach() for name, weight in trained(network).items()}
        self.size = sum(value.numel() for value in self.values.values())

    def __call__(self, way: Way, reduce: Callable[[list[Tensor], list[Tensor]], Any], portion: int) -> list[Any]:
        """Return what is kept of a portion of rows: gradients and changes, [b, ...] of each weight, reduced."""

        def one(example: Any, numbers: list[Tensor], changes: list[Tensor]) -> Any:
            def gradient(*numbers: Tensor) -> list[Tensor]:
                row = refilled(example, numbers)
                return list(grad(lambda values: functional_call(self.whole, values, (row,)))(self.values).values())

            return jvp(gradient, tuple(numbers), tuple(changes))

        found = []
        for start in range(0, num_examples(way.example), portion):
            some = way.rows(slice(start, start + portion))
            with (
                nothing_kept(self.whole.loss, self.network, some.example),
                _named(self.network),
                sdpa_kernel(SDPBackend.MATH),
            ):
                found.append(reduce(*torch.vmap(one)(some.example, some.numbers, some.changes)))
        return found

    def products(self, way: Way) -> Float[Tensor, "3 b"]:
        """Return |g|^2, g . dg and |dg|^2 of each row, for the change dg of its gradient on its way."""

        def reduce(gradients: list[Tensor], changes: list[Tensor]) -> Tensor:
            return torch.stack([dot(gradients, gradients), dot(gradients, changes), dot(changes, changes)])

        return torch.cat(self(way, reduce, max(1, AT_ONCE // (2 * self.size))), 1)

    def all_products(self, ways: list[Way], i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return |g|^2 [], g . dg [d] and dg . dg [d, d] of one row, for its changes on several ways."""
        several = Way.joined([way.rows(slice(i, i + 1)) for way in ways])

        def reduce(gradients: list[Tensor], changes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            flat = [each.flatten(1).double() for each in changes]
            gram = torch.stack([each @ each.T for each in flat]).sum(0)
            return dot(gradients, gradients)[0], dot(gradients, changes), gram

        return self(several, reduce, len(ways))[0]


def dot(some: list[Tensor], others: list[Tensor]) -> Float[Tensor, " b"]:
    """Return the products of vectors that are laid out as several tensors [b, ...]."""
    products = [torch.einsum("bn,bn->b", a.flatten(1), b.flatten(1)) for a, b in zip(some, others, strict=True)]
    return torch.stack(products).double().sum(0)


def refilled(example: Any, numbers: Sequence[Tensor]) -> Any:
    """Return an example with other numbers, in the order of its leaves that are no whole numbers."""
    rest = iter(numbers)
    return tree_map(lambda leaf: next(rest) if leaf.is_floating_point() else leaf, example)
