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
from feller.privacy.dp_sgd.per_example_clipping import trainable_params
from feller.privacy.dp_sgd.per_example_gradients import ExampleLoss, check_no_batch_mixing, name_failing_layer
from feller.privacy.dp_sgd.stateful_modules import forbid_row_state

CHUNK_SIZE = 2**25
"""Numbers of gradients and their changes that are laid out beside each other."""

ExampleBuilder = Callable[[Tensor], Any]
"""From rows z [b, *d] to the examples that a loss takes, each from its own row alone; smooth."""


@dataclass(frozen=True)
class TangentBatch:
    """Examples, and how their numbers change as their rows go in some direction."""

    example: Any
    floats: list[Tensor]
    """Leaves of the examples that are no whole numbers."""
    tangents: list[Tensor]

    @staticmethod
    def from_rows(build: ExampleBuilder, z: Tensor, vectors: Tensor) -> "TangentBatch":
        """Build examples of rows that go in a direction each."""

        def numbers(z: Tensor) -> tuple[list[Tensor], Any]:
            example = build(z)
            return [leaf for leaf in leaves(example) if leaf.is_floating_point()], example

        if not z.is_floating_point():
            raise UsageError("rows of float numbers to follow", z.dtype)
        jvp_result: Any = jvp(numbers, (z,), (vectors.to(z.dtype),), has_aux=True)
        found, changes, example = jvp_result
        return TangentBatch(example, found, changes)

    @staticmethod
    def concatenate(batches: "list[TangentBatch]") -> "TangentBatch":
        """Put the rows of several one after the other."""
        numbers, changes = ([each.floats for each in batches], [each.tangents for each in batches])
        return TangentBatch(
            concatenate(*(each.example for each in batches)),
            [torch.cat(each) for each in zip(*numbers, strict=True)],
            [torch.cat(each) for each in zip(*changes, strict=True)],
        )

    def example_at(self, i: int) -> Any:
        """Return the example of one row, without its axis."""
        return tree_map(lambda leaf: leaf[i], self.example)

    def select(self, part: slice) -> "TangentBatch":
        """Return some of the rows."""
        example = tree_map(lambda leaf: leaf[part], self.example)
        return TangentBatch(example, [each[part] for each in self.floats], [each[part] for each in self.tangents])


class RowGradients:
    """Gradients of single rows and how they change."""

    def __init__(self, loss: LossFunction, network: nn.Module) -> None:
        check_no_batch_mixing(network)
        self.network, self.module = network, ExampleLoss(loss, network)
        self.weights = {f"network.{name}": weight.detach() for name, weight in trainable_params(network).items()}
        self.size = sum(value.numel() for value in self.weights.values())

    def __call__(
        self, tangents: TangentBatch, reduce: Callable[[list[Tensor], list[Tensor]], Any], portion: int
    ) -> list[Any]:
        """Return what is kept of a portion of rows: gradients and changes, [b, ...] of each weight, reduced."""

        def one(example: Any, numbers: list[Tensor], changes: list[Tensor]) -> Any:
            def gradient(*numbers: Tensor) -> list[Tensor]:
                row = replace_floats(example, numbers)
                return list(grad(lambda values: functional_call(self.module, values, (row,)))(self.weights).values())

            return jvp(gradient, tuple(numbers), tuple(changes))

        found = []
        for start in range(0, num_examples(tangents.example), portion):
            some = tangents.select(slice(start, start + portion))
            with (
                forbid_row_state(self.module.loss, self.network, some.example),
                name_failing_layer(self.network),
                sdpa_kernel(SDPBackend.MATH),
            ):
                found.append(reduce(*torch.vmap(one)(some.example, some.floats, some.tangents)))
        return found

    def products(self, tangents: TangentBatch) -> Float[Tensor, "3 b"]:
        """Return |g|^2, g . dg and |dg|^2 of each row, for the change dg of its gradient on its way."""

        def reduce(gradients: list[Tensor], changes: list[Tensor]) -> Tensor:
            return torch.stack(
                [batch_dot(gradients, gradients), batch_dot(gradients, changes), batch_dot(changes, changes)]
            )

        return torch.cat(self(tangents, reduce, max(1, CHUNK_SIZE // (2 * self.size))), 1)

    def gram_products(self, tangent_batches: list[TangentBatch], i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return |g|^2 [], g . dg [d] and dg . dg [d, d] of one row, for its changes on several ways."""
        several = TangentBatch.concatenate([way.select(slice(i, i + 1)) for way in tangent_batches])

        def reduce(gradients: list[Tensor], changes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            flat = [each.flatten(1).double() for each in changes]
            gram = torch.stack([each @ each.T for each in flat]).sum(0)
            return batch_dot(gradients, gradients)[0], batch_dot(gradients, changes), gram

        return self(several, reduce, len(tangent_batches))[0]


def batch_dot(some: list[Tensor], others: list[Tensor]) -> Float[Tensor, " b"]:
    """Return the products of vectors that are laid out as several tensors [b, ...]."""
    products = [torch.einsum("bn,bn->b", a.flatten(1), b.flatten(1)) for a, b in zip(some, others, strict=True)]
    return torch.stack(products).double().sum(0)


def replace_floats(example: Any, numbers: Sequence[Tensor]) -> Any:
    """Return an example with other numbers, in the order of its leaves that are no whole numbers."""
    rest = iter(numbers)
    return tree_map(lambda leaf: next(rest) if leaf.is_floating_point() else leaf, example)
