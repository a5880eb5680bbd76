"""Clipped sums from materialised per-example gradients: by `vmap`, or in a plain loop as reference."""

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
"""Maximum number of gradient entries held in memory per chunk."""


class ExampleLoss(LossModule):
    """Module that returns the loss of a single example without a batch axis."""

    def forward(self, example: dict[str, Any]) -> Tensor:
        return check_losses(self.loss(self.network, tree_map(lambda leaf: leaf[None], example)), 1)[0]


def clipped_by_vmap(loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float) -> ClippedSum:
    """Return the sum of per-example gradients clipped to norm `clip`, for any network and loss that `vmap` supports.

    `loss` is a function (network, example) -> loss of each example, [b].

    Raises:
        UsageError: If `vmap` fails; the message names the layer.
    """
    check_no_batch_mixing(network)
    weights = trainable_params(network)
    chunk_size = max(1, CHUNK_SIZE // max(1, sum(weight.numel() for weight in weights.values())))
    sums, norms = {name: torch.zeros_like(weight) for name, weight in weights.items()}, []
    for start in range(0, num_examples(example), chunk_size):
        rows = tree_map(lambda leaf, start=start: leaf[start : start + chunk_size], example)
        gradients = _mapped(loss, network, rows)
        norms_sq = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
        norms.append(torch.stack(norms_sq).sum(0).sqrt())
        factors = clip_factors(norms[-1], clip)
        for name in weights:
            sums[name] += torch.einsum("b...,b->...", gradients[name], factors)
    return ClippedSum(sums, torch.cat(norms))


def per_sample_gradients(
    loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float
) -> Float[Tensor, "b p"]:
    """Return each example's gradient clipped to norm `clip`, flattened in the order of `trainable_params`.

    Gradients that are not finite are replaced by zero. `loss` is a function (network, example) -> loss of each example,
    [b].

    Raises:
        UsageError: If `vmap` fails; the message names the layer.
    """
    check_no_batch_mixing(network)
    flat = torch.cat([gradient.flatten(1) for gradient in _mapped(loss, network, example).values()], 1)
    norms = flat.norm(dim=1)
    return torch.where(norms.isfinite()[:, None], flat * clip_factors(norms, clip)[:, None], 0.0)


def clipped_by_loop(loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float) -> ClippedSum:
    """Return the sum of per-example gradients clipped to norm `clip`, by one backward pass per example.

    All other methods are compared with this one. `loss` is a function (network, example) -> loss of each example, [b].
    """
    check_no_batch_mixing(network)
    weights = trainable_params(network)
    sums, norms = {name: torch.zeros_like(weight) for name, weight in weights.items()}, []
    for i in range(num_examples(example)):
        row = tree_map(lambda leaf, i=i: leaf[i : i + 1], example)
        with forbid_row_state(loss, network, row), torch.enable_grad():
            row_loss = check_losses(loss(network, row), 1).sum()
            gradients = torch.autograd.grad(row_loss, list(weights.values()), allow_unused=True, materialize_grads=True)
        norms.append(global_norm(gradients)[None])
        factors = clip_factors(norms[-1], clip)
        for name, gradient in zip(weights, gradients, strict=True):
            sums[name] += factors[0] * gradient
    return ClippedSum(sums, torch.cat(norms))


def _mapped(loss: LossFunction, network: nn.Module, example: dict[str, Any]) -> dict[str, Float[Tensor, "b ..."]]:
    module, names = ExampleLoss(loss, network), trainable_params(network)
    values = {f"network.{name}": weight.detach() for name, weight in names.items()}
    buffers = dict(module.named_buffers())  # torch.func allows in-place changes of explicit inputs only

    def row_loss(values: dict[str, Tensor], buffers: dict[str, Tensor], row: dict[str, Any]) -> Tensor:
        return functional_call(module, {**buffers, **values}, (row,))

    with forbid_row_state(loss, network, example), name_failing_layer(network), sdpa_kernel(SDPBackend.MATH):
        gradients = torch.vmap(grad(row_loss), (None, None, 0))(values, buffers, example)
    return {name: gradients[f"network.{name}"] for name in names}


def check_no_batch_mixing(network: nn.Module) -> None:
    """Check that no layer mixes examples, keeps running statistics or uses dropout.

    `forbid_row_state` detects other layers with state.

    Raises:
        UsageError: If a layer does so; the message names the layer.
    """
    for name, layer in network.named_modules():
        layer_type = type(layer).__name__
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise UsageError(
                f"{name or 'the network'} is a {layer_type}, which mixes the rows of a batch, so that per-example"
                " gradients are undefined",
                remedy="Use GroupNorm or LayerNorm",
            )
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.training and layer.track_running_stats:
            raise UsageError(
                f"{name or 'the network'} is a {layer_type} with running statistics of rows, which are stored without"
                " noise",
                remedy="Set track_running_stats to False, or use GroupNorm",
            )
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training and layer.p:
            raise UsageError(
                f"{name or 'the network'} is a {layer_type}, which is random within the loss",
                remedy="Set the probability p of this layer to 0",
            )


@contextmanager
def name_failing_layer(network: nn.Module) -> Iterator[None]:
    """Turn a `RuntimeError` of `vmap` into an error that names the failing layer."""
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
        location = (path[-1] or "the network itself") if path else "the loss"
        layer_type = type(network.get_submodule(path[-1])).__name__ if path else ""
        raise UsageError(
            f"per-example gradients (torch.vmap) fail at {location}{f' ({layer_type})' if layer_type else ''}: "
            f"{str(error).strip().splitlines()[0]:.200}",
            remedy="Remove branches on tensor values and operations that vmap does not support",
        ) from error
