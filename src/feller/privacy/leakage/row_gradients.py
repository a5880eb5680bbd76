"""Computation of per-row weight gradients, and of their derivatives along one direction of the row's values.

The derivatives are computed by forward-over-reverse differentiation.
"""

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
"""Maximum number of gradient and tangent entries held in memory per chunk."""

ExampleBuilder = Callable[[Tensor], Any]
"""Smooth map from rows z [b, *d] to training examples; each example depends on its own row only."""


@dataclass(frozen=True)
class TangentBatch:
    """Batch of training examples, and their derivatives (tangents) along one direction in the values of each row."""

    example: Any
    floats: list[Tensor]
    """Floating-point tensors (leaves) of the examples; only these have tangents."""
    tangents: list[Tensor]

    @staticmethod
    def from_rows(build: ExampleBuilder, z: Tensor, vectors: Tensor) -> "TangentBatch":
        """Build training examples from the rows `z`, and differentiate them with respect to the rows along `vectors`.

        The result holds the examples and these derivatives (tangents), computed in forward mode.

        Raises:
            UsageError: If the rows are not floating-point.
        """

        def float_leaves(z: Tensor) -> tuple[list[Tensor], Any]:
            example = build(z)
            return [leaf for leaf in leaves(example) if leaf.is_floating_point()], example

        if not z.is_floating_point():
            raise UsageError("rows of a floating-point dtype", z.dtype)
        jvp_result: Any = jvp(float_leaves, (z,), (vectors.to(z.dtype),), has_aux=True)
        floats, tangents, example = jvp_result
        return TangentBatch(example, floats, tangents)

    @staticmethod
    def concatenate(batches: "list[TangentBatch]") -> "TangentBatch":
        """Concatenate batches along the row axis."""
        return TangentBatch(
            concatenate(*(batch.example for batch in batches)),
            [torch.cat(leaf) for leaf in zip(*(batch.floats for batch in batches), strict=True)],
            [torch.cat(leaf) for leaf in zip(*(batch.tangents for batch in batches), strict=True)],
        )

    def example_at(self, i: int) -> Any:
        """Return the example of one row, without the batch axis."""
        return tree_map(lambda leaf: leaf[i], self.example)

    def select(self, part: slice) -> "TangentBatch":
        """Return the examples and tangents of the rows in the slice `part`."""
        example = tree_map(lambda leaf: leaf[part], self.example)
        return TangentBatch(example, [leaf[part] for leaf in self.floats], [leaf[part] for leaf in self.tangents])


class RowGradients:
    """Callable that computes per-row gradients of the loss and their tangents, in chunks of rows."""

    def __init__(self, loss: LossFunction, network: nn.Module) -> None:
        check_no_batch_mixing(network)
        self.network, self.module = network, ExampleLoss(loss, network)
        self.weights = {f"network.{name}": weight.detach() for name, weight in trainable_params(network).items()}
        self.size = sum(value.numel() for value in self.weights.values())

    def __call__(
        self, tangents: TangentBatch, reduce: Callable[[list[Tensor], list[Tensor]], Any], portion: int
    ) -> list[Any]:
        """Return `reduce(gradients, tangents)` for each chunk of `portion` rows; both list one [b, ...] per weight."""

        def row_tangents(example: Any, floats: list[Tensor], float_tangents: list[Tensor]) -> Any:
            def gradient(*floats: Tensor) -> list[Tensor]:
                row = replace_floats(example, floats)
                return list(grad(lambda values: functional_call(self.module, values, (row,)))(self.weights).values())

            return jvp(gradient, tuple(floats), tuple(float_tangents))

        reduced = []
        for start in range(0, num_examples(tangents.example), portion):
            chunk = tangents.select(slice(start, start + portion))
            with (
                forbid_row_state(self.module.loss, self.network, chunk.example),
                name_failing_layer(self.network),
                sdpa_kernel(SDPBackend.MATH),
            ):
                reduced.append(reduce(*torch.vmap(row_tangents)(chunk.example, chunk.floats, chunk.tangents)))
        return reduced

    def products(self, tangents: TangentBatch) -> Float[Tensor, "3 b"]:
        """Return |g|^2, g . dg and |dg|^2 of each row, with dg the tangent of the gradient g."""

        def reduce(gradients: list[Tensor], jvps: list[Tensor]) -> Tensor:
            return torch.stack([batch_dot(gradients, gradients), batch_dot(gradients, jvps), batch_dot(jvps, jvps)])

        return torch.cat(self(tangents, reduce, max(1, CHUNK_SIZE // (2 * self.size))), 1)

    def gram_products(self, tangent_batches: list[TangentBatch], i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return |g|^2 [], g . dg [d] and dg . dg [d, d] of row i's gradient g and its d tangents dg, one per batch."""
        row_batch = TangentBatch.concatenate([batch.select(slice(i, i + 1)) for batch in tangent_batches])

        def reduce(gradients: list[Tensor], jvps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            flat = [tangent.flatten(1).double() for tangent in jvps]
            gram = torch.stack([tangent @ tangent.T for tangent in flat]).sum(0)
            return batch_dot(gradients, gradients)[0], batch_dot(gradients, jvps), gram

        return self(row_batch, reduce, len(tangent_batches))[0]


def batch_dot(some: list[Tensor], others: list[Tensor]) -> Float[Tensor, " b"]:
    """Return the inner product of two vectors per row, each stored in parts as a list of tensors [b, ...]."""
    products = [torch.einsum("bn,bn->b", a.flatten(1), b.flatten(1)) for a, b in zip(some, others, strict=True)]
    return torch.stack(products).double().sum(0)


def replace_floats(example: Any, numbers: Sequence[Tensor]) -> Any:
    """Return an example whose floating-point tensors (leaves) are replaced by the tensors `numbers`, in order."""
    replacements = iter(numbers)
    return tree_map(lambda leaf: next(replacements) if leaf.is_floating_point() else leaf, example)
