"""Clipped sums by laying out each example's gradient: for many at once by `vmap`, or in a loop, slow and plain."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.core.errors import UsageError
from feller.core.gradient import LossFunction
from feller.core.pytree import num_examples, tree_map
from feller.privacy.dp_sgd.per_example_clipping import (
    ClippedSum,
    LossModule,
    check_losses,
    clip_factors,
    global_norm,
    trainable_params,
)
from feller.privacy.dp_sgd.stateful_modules import forbid_row_state

CHUNK_SIZE = 2**26
"""Numbers of gradients that are laid out beside each other."""


class ExampleLoss(LossModule):
    """The loss of one example."""

    def forward(self, example: dict[str, Any]) -> Tensor:
        """Return it."""
        return check_losses(self.loss(self.network, tree_map(lambda leaf: leaf[None], example)), 1)[0]


def clipped_by_vmap(loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float) -> ClippedSum:
    """Return the clipped sum over the examples, of any network and loss that `vmap` can take apart.

    Raises:
        UsageError: If it cannot, naming the layer.
    """
    check_no_batch_mixing(network)
    weights = trainable_params(network)
    portion = max(1, CHUNK_SIZE // max(1, sum(weight.numel() for weight in weights.values())))
    sums, norms = {name: torch.zeros_like(weight) for name, weight in weights.items()}, []
    for start in range(0, num_examples(example), portion):
        rows = tree_map(lambda leaf, start=start: leaf[start : start + portion], example)
        gradients = _mapped(loss, network, rows)
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
        norms.append(torch.stack(squares).sum(0).sqrt())
        by = clip_factors(norms[-1], clip)
        for name in weights:
            sums[name] += torch.einsum("b...,b->...", gradients[name], by)
    return ClippedSum(sums, torch.cat(norms))


def per_sample_gradients(
    loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float
) -> Float[Tensor, "b p"]:
    """Return the clipped gradient of each example as one row, as `trainable_params` are ordered; zeros if not finite.

    Raises:
        UsageError: If `vmap` cannot take the network or the loss apart, naming the layer.
    """
    check_no_batch_mixing(network)
    rows = torch.cat([gradient.flatten(1) for gradient in _mapped(loss, network, example).values()], 1)
    norms = rows.norm(dim=1)
    return torch.where(norms.isfinite()[:, None], rows * clip_factors(norms, clip)[:, None], 0.0)


def clipped_by_loop(loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float) -> ClippedSum:
    """Return the clipped sum over the examples, by one backward pass for each: what the other ways must equal."""
    check_no_batch_mixing(network)
    weights = trainable_params(network)
    sums, norms = {name: torch.zeros_like(weight) for name, weight in weights.items()}, []
    for i in range(num_examples(example)):
        row = tree_map(lambda leaf, i=i: leaf[i : i + 1], example)
        with forbid_row_state(loss, network, row), torch.enable_grad():
            value = check_losses(loss(network, row), 1).sum()
            gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True, materialize_grads=True)
        norms.append(global_norm(gradients)[None])
        by = clip_factors(norms[-1], clip)
        for name, gradient in zip(weights, gradients, strict=True):
            sums[name] += by[0] * gradient
    return ClippedSum(sums, torch.cat(norms))


def _mapped(loss: LossFunction, network: nn.Module, example: dict[str, Any]) -> dict[str, Float[Tensor, "b ..."]]:
    """Return the gradients of each example by `vmap`, under the names of the weights that are trained."""
    whole, names = ExampleLoss(loss, network), trainable_params(network)
    values = {f"network.{name}": weight.detach() for name, weight in names.items()}
    held = dict(whole.named_buffers())  # a transform lets nothing else change, such as a counter

    def one(values: dict[str, Tensor], held: dict[str, Tensor], row: dict[str, Any]) -> Tensor:
        return functional_call(whole, {**held, **values}, (row,))

    with forbid_row_state(loss, network, example), name_failing_layer(network), sdpa_kernel(SDPBackend.MATH):
        found = torch.vmap(grad(one), (None, None, 0))(values, held, example)  # fused kernels would go row by row
    return {name: found[f"network.{name}"] for name in names}


def check_no_batch_mixing(network: nn.Module) -> None:
    """Refuse layers that let examples look at each other, keep statistics of them, or draw random numbers.

    Layers of other kinds that keep something are found by `forbid_row_state`.

    Raises:
        UsageError: Naming the layer.
    """
    for name, layer in network.named_modules():
        kind = type(layer).__name__
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise UsageError(
                f"{name or 'the network'} is a {kind}, in which the rows of a batch look at each other, so one row's"
                " gradient has no bound",
                remedy="Use GroupNorm or LayerNorm",
            )
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.training and layer.track_running_stats:
            raise UsageError(
                f"{name or 'the network'} is a {kind} that keeps running statistics of rows, where no noise hides them",
                remedy="Set track_running_stats to False, or use GroupNorm",
            )
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training and layer.p:
            raise UsageError(
                f"{name or 'the network'} is a {kind}, which draws inside the loss", remedy="Set its chance to 0"
            )


@contextmanager
def name_failing_layer(network: nn.Module) -> Iterator[None]:
    """Say at which layer a network could not be taken apart."""
    path: list[str] = []

    def leave(*call: Any) -> None:
        path.pop()

    try:
        with ExitStack() as stack:
            for name, layer in network.named_modules():
                stack.enter_context(layer.register_forward_pre_hook(lambda layer, args, name=name: path.append(name)))
                stack.enter_context(layer.register_forward_hook(leave))
            yield
    except RuntimeError as error:
        where = (path[-1] or "the network itself") if path else "the loss"
        kind = type(network.get_submodule(path[-1])).__name__ if path else ""
        raise UsageError(
            f"the gradients of single examples cannot be told apart at {where}{f' ({kind})' if kind else ''}: "
            f"{str(error).strip().splitlines()[0]:.200}; it must treat every example alike, without branches on values"
        ) from error
