"""Ghost clipping: clipped gradient sums from one forward and one backward pass.

The backward pass ends at layer outputs. From activations and output gradients, the grad sampler of each layer computes
per-example norms and weighted sums, so per-example gradients are never materialised.
Source: Bu, Wang, Zha and Karypis 2022, arXiv 2210.00038.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.utils._pytree import tree_leaves

from feller.core.gradient import LossFunction
from feller.core.pytree import num_examples
from feller.privacy.dp_sgd.grad_samplers import GradSampler, LayerTensors, grad_sampler_of
from feller.privacy.dp_sgd.per_example_clipping import (
    ClippedSum,
    UnsupportedError,
    check_losses,
    clip_factors,
    trainable_params,
)
from feller.privacy.dp_sgd.per_example_gradients import check_no_batch_mixing
from feller.privacy.dp_sgd.stateful_modules import forbid_row_state


@dataclass
class LayerCall:
    """Record of one call of a layer in the forward pass."""

    name: str
    layer: nn.Module
    inputs: Any
    versions: list[int]
    """Version counters of the input tensors, which detect in-place changes."""
    input_nodes: list[Node]
    """Autograd nodes of the input tensors."""
    output_edge: GradientEdge
    """Edge of the autograd graph at the output, before any in-place change of the output."""
    output_shape: torch.Size

    @property
    def trainable_params(self) -> dict[str, nn.Parameter]:
        """Trainable weights of the layer itself, without submodules."""
        parameters = self.layer.named_parameters(recurse=False)
        return {name: weight for name, weight in parameters if weight.requires_grad}


@dataclass
class CallRecorder:
    """Recorder of all layer calls of one forward pass."""

    batch_size: int
    calls: list[LayerCall] = field(default_factory=list)
    reason: str = ""
    """Reason why the recording is invalid; empty if valid."""

    def record(self, name: str, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Record a call if gradients flow through its output."""
        if not isinstance(output, Tensor):
            self.reason = f"{name} does not return a single tensor"
            return
        if not output.requires_grad:
            return
        inputs = [x for x in tree_leaves(args) if isinstance(x, Tensor)]
        if kwargs or not inputs:
            self.reason = f"{name} is called with keyword arguments, or without arguments"
        elif any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in (*inputs, output)):
            self.reason = f"{name} is called inside a torch.func transform"
        elif any(len(x) != self.batch_size for x in (*inputs, output) if x.ndim) or not all(
            x.ndim for x in (*inputs, output)
        ):
            self.reason = f"the first axis of an input or output of {name} is not the batch axis"
        else:
            stored_inputs = args[0].detach() if len(args) == 1 else tuple(x.detach() for x in args)
            input_nodes = [get_gradient_edge(x).node for x in inputs if x.requires_grad]
            versions = [x._version for x in inputs]
            self.calls.append(
                LayerCall(name, layer, stored_inputs, versions, input_nodes, _output_edge(output), output.shape)
            )


def clipped_by_ghost(loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float) -> ClippedSum:
    """Return the sum of per-example gradients clipped to norm `clip`, by ghost clipping.

    `loss` is a function (network, example) -> loss of each example, [b].

    Raises:
        UnsupportedError: If a trainable weight is used outside a layer call that has a grad sampler.
    """
    check_no_batch_mixing(network)
    weights, recorder = trainable_params(network), CallRecorder(num_examples(example))
    with forbid_row_state(loss, network, example), record_calls(network, recorder), torch.enable_grad():
        check_supported_layers(network)
        losses = check_losses(loss(network, example), recorder.batch_size)
    if recorder.reason:
        raise UnsupportedError(recorder.reason)
    _check_reach(losses, recorder, weights)
    if not losses.requires_grad or not recorder.calls:
        return ClippedSum({}, torch.zeros_like(losses))
    backprops = torch.autograd.grad(losses.sum(), [call.output_edge for call in recorder.calls], allow_unused=True)
    with torch.no_grad():
        return _clipped_sum(recorder.calls, list(backprops), weights, clip, torch.zeros_like(losses))


def check_supported_layers(network: nn.Module) -> None:
    """Check that every layer with trainable weights has a grad sampler.

    Raises:
        UnsupportedError: If a layer has no grad sampler; the message names the layer.
    """
    for name, layer in network.named_modules():
        if grad_sampler_of(layer) is None:
            trainable = [key for key, weight in layer.named_parameters(recurse=False) if weight.requires_grad]
            if trainable:
                raise UnsupportedError(
                    f"no grad sampler for the weight {trainable[0]} of {name or 'the network'} ({type(layer).__name__})"
                )


@contextmanager
def record_calls(network: nn.Module, recorder: CallRecorder) -> Iterator[None]:
    """Context manager that records the calls of all layers with trainable weights."""
    with ExitStack() as stack:
        for name, layer in network.named_modules():
            if any(weight.requires_grad for weight in layer.parameters(recurse=False)):
                stack.enter_context(layer.register_forward_hook(partial(recorder.record, name), with_kwargs=True))
        yield


def _output_edge(output: Tensor) -> GradientEdge:
    """Return the gradient edge of an output, or of its base if it views all of it: in-place changes bypass the view."""
    base = output._base
    if base is None or not base.requires_grad or base.numel() != output.numel():
        return get_gradient_edge(output)
    return get_gradient_edge(base if base.is_contiguous() and output.is_contiguous() else output)


def _as_weights(call: LayerCall, backprops: Tensor) -> Tensor:
    return backprops.reshape(call.output_shape).to(next(iter(call.trainable_params.values())).dtype)


def _check_reach(losses: Tensor, recorder: CallRecorder, weights: dict[str, nn.Parameter]) -> None:
    """Raise an error if the losses depend on a trainable weight in any way other than through a recorded layer call."""
    names = {id(weight): name for name, weight in weights.items()}
    output_nodes = {call.output_edge.node for call in recorder.calls}
    pending: list[Node | None] = [losses.grad_fn]
    for call in recorder.calls:
        pending += call.input_nodes
    visited: set[Node] = set()
    while pending:
        node = pending.pop()
        if node is None or node in visited or node in output_nodes:
            continue
        visited.add(node)
        if (weight_name := names.get(id(getattr(node, "variable", None)))) is not None:
            raise UnsupportedError(f"the weight {weight_name} is used outside its layer's forward call")
        pending += [next_node for next_node, _ in node.next_functions]


def _clipped_sum(
    layer_calls: list[LayerCall],
    backprops: list[Tensor | None],
    weights: dict[str, nn.Parameter],
    clip: float,
    norms_sq: Tensor,
) -> ClippedSum:
    calls: list[tuple[LayerCall, LayerTensors]] = []
    for layer_call, backprop in zip(layer_calls, backprops, strict=True):
        if backprop is not None:
            if [x._version for x in tree_leaves(layer_call.inputs)] != layer_call.versions:
                raise UnsupportedError(f"an input of {layer_call.name} was changed in place after the call")
            calls.append((layer_call, LayerTensors(layer_call.inputs, _as_weights(layer_call, backprop))))
    backprops.clear()
    by_layer: dict[nn.Module, list[tuple[LayerCall, LayerTensors]]] = defaultdict(list)
    layers_by_weight: dict[int, set[nn.Module]] = defaultdict(set)
    for layer_call, tensors in calls:
        by_layer[layer_call.layer].append((layer_call, tensors))
        for weight in layer_call.trainable_params.values():
            layers_by_weight[id(weight)].add(layer_call.layer)
    tied = {layer for layers in layers_by_weight.values() if len(layers) > 1 for layer in layers}
    for layer, pairs in by_layer.items():
        if layer not in tied:
            layer_norms_sq = _require_grad_sampler(layer).norm_sq(layer, [tensors for _, tensors in pairs])
            norms_sq = norms_sq + (_norm_sq_by_row(pairs, len(norms_sq)) if layer_norms_sq is None else layer_norms_sq)
    if tied:
        norms_sq = norms_sq + _norm_sq_by_row([pair for layer in tied for pair in by_layer[layer]], len(norms_sq))
    norms = norms_sq.sqrt()
    factors, names = clip_factors(norms, clip), {id(weight): name for name, weight in weights.items()}
    sums: dict[str, Tensor] = {}
    while calls:
        layer_call, tensors = calls.pop()
        for weight, gradient in _weighted_gradients(layer_call, tensors, factors.to(tensors.backprops.dtype)):
            name = names[id(weight)]
            sums[name] = sums[name] + gradient if name in sums else gradient
    return ClippedSum(sums, norms)


def _require_grad_sampler(layer: nn.Module) -> GradSampler:
    sampler = grad_sampler_of(layer)
    if sampler is None:
        raise UnsupportedError(f"no grad sampler for {type(layer).__name__}")
    return sampler


def _norm_sq_by_row(calls: list[tuple[LayerCall, LayerTensors]], b: int) -> Float[Tensor, " b"]:
    """Return the squared gradient norm of each of b examples, one example at a time.

    This is exact if several layers share a weight, where the norms of the layers cannot be added.
    """
    norms_sq = []
    for row in range(b):
        sums: dict[int, Tensor] = {}
        for layer_call, tensors in calls:
            row_tensors = tensors.rows(slice(row, row + 1))
            factors = torch.ones_like(row_tensors.backprops.flatten()[:1])
            for weight, gradient in _weighted_gradients(layer_call, row_tensors, factors):
                sums[id(weight)] = sums[id(weight)] + gradient if id(weight) in sums else gradient
        norms_sq.append(torch.stack([gradient.square().sum() for gradient in sums.values()]).sum())
    return torch.stack(norms_sq)


def _weighted_gradients(
    layer_call: LayerCall, tensors: LayerTensors, factors: Float[Tensor, " b"]
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    gradients = _require_grad_sampler(layer_call.layer).weighted_sum(layer_call.layer, tensors, factors)
    params = layer_call.trainable_params
    if params.keys() - gradients.keys():
        raise UnsupportedError(
            f"the grad sampler of {layer_call.name} lacks {', '.join(sorted(params.keys() - gradients.keys()))}"
        )
    for name, weight in params.items():
        yield weight, gradients[name]
