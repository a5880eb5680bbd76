"""Clipped sums of the gradients of all examples from one pass forward and one backward.

The backward pass goes to the outputs of layers alone. From what went in and the slopes of what came out, a rule for
each kind of layer tells norms and sums, so no example's gradient is ever laid out.
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
    """One call of a layer, as it happened."""

    name: str
    layer: nn.Module
    inputs: Any
    versions: list[int]
    """Of the tensors among the inputs, so that a change in place is seen."""
    input_nodes: list[Node]
    """Where its arguments came from."""
    output_edge: GradientEdge
    """What it returned, before anything changes that in place."""
    output_shape: torch.Size
    """Of what it returned."""

    @property
    def trainable_params(self) -> dict[str, nn.Parameter]:
        """Trained weights of the layer itself, under its own names."""
        found = self.layer.named_parameters(recurse=False)
        return {name: weight for name, weight in found if weight.requires_grad}


@dataclass
class CallRecorder:
    """All calls of one pass forward."""

    batch_size: int
    calls: list[LayerCall] = field(default_factory=list)
    reason: str = ""
    """Why the book cannot be trusted, if so."""

    def record(self, name: str, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Write down a call, if its weights are to be trained through it."""
        if not isinstance(output, Tensor):
            self.reason = f"{name} returns something else than one tensor"
            return
        if not output.requires_grad:
            return
        inputs = [x for x in tree_leaves(args) if isinstance(x, Tensor)]
        if kwargs or not inputs:
            self.reason = f"{name} is called with names of its arguments, or none"
        elif any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in (*inputs, output)):
            self.reason = f"{name} is called inside a transform of functions"
        elif any(len(x) != self.batch_size for x in (*inputs, output) if x.ndim) or not all(
            x.ndim for x in (*inputs, output)
        ):
            self.reason = f"the first axis of what {name} sees or returns does not count examples"
        else:
            stored_inputs = args[0].detach() if len(args) == 1 else tuple(x.detach() for x in args)
            before = [get_gradient_edge(x).node for x in inputs if x.requires_grad]
            versions = [x._version for x in inputs]
            self.calls.append(
                LayerCall(name, layer, stored_inputs, versions, before, _output_edge(output), output.shape)
            )


def clipped_by_ghost(loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float) -> ClippedSum:
    """Return the clipped sum over the examples.

    Raises:
        UnsupportedError: If a trained weight is used otherwise than in the call of a layer that has a rule.
    """
    check_no_batch_mixing(network)
    weights, book = trainable_params(network), CallRecorder(num_examples(example))
    with forbid_row_state(loss, network, example), record_calls(network, book), torch.enable_grad():
        check_supported_layers(network)
        losses = check_losses(loss(network, example), book.batch_size)
    if book.reason:
        raise UnsupportedError(book.reason)
    _check_reach(losses, book, weights)
    if not losses.requires_grad or not book.calls:
        return ClippedSum({}, torch.zeros_like(losses))
    slopes = torch.autograd.grad(losses.sum(), [visit.output_edge for visit in book.calls], allow_unused=True)
    with torch.no_grad():
        return _clipped_sum(book.calls, list(slopes), weights, clip, torch.zeros_like(losses))


def check_supported_layers(network: nn.Module) -> None:
    """Refuse networks of which a trained weight belongs to no layer that has a rule.

    Raises:
        UnsupportedError: Naming the layer.
    """
    for name, layer in network.named_modules():
        if grad_sampler_of(layer) is None:
            own = [key for key, weight in layer.named_parameters(recurse=False) if weight.requires_grad]
            if own:
                raise UnsupportedError(
                    f"no rule for the weight {own[0]} of {name or 'the network'}, {type(layer).__name__}"
                )


@contextmanager
def record_calls(network: nn.Module, recorder: CallRecorder) -> Iterator[None]:
    """Write all calls of layers with trained weights into a book."""
    with ExitStack() as stack:
        for name, layer in network.named_modules():
            if any(weight.requires_grad for weight in layer.parameters(recurse=False)):
                stack.enter_context(layer.register_forward_hook(partial(recorder.record, name), with_kwargs=True))
        yield


def _output_edge(output: Tensor) -> GradientEdge:
    """Return where slopes come in: of the whole, where a result is a view, which a change in place goes round."""
    base = output._base
    if base is None or not base.requires_grad or base.numel() != output.numel():
        return get_gradient_edge(output)
    return get_gradient_edge(base if base.is_contiguous() and output.is_contiguous() else output)


def _as_weights(call: LayerCall, backprops: Tensor) -> Tensor:
    """Return slopes in the shape of what the layer returned and the precision of its weights."""
    return backprops.reshape(call.output_shape).to(next(iter(call.trainable_params.values())).dtype)


def _check_reach(losses: Tensor, recorder: CallRecorder, weights: dict[str, nn.Parameter]) -> None:
    """Walk from the losses to the outputs of recorded calls: no trained weight may be met on the way."""
    names = {id(weight): name for name, weight in weights.items()}
    stops = {visit.output_edge.node for visit in recorder.calls}
    ahead: list[Node | None] = [losses.grad_fn]
    for visit in recorder.calls:
        ahead += visit.input_nodes
    visited: set[Node] = set()
    while ahead:
        node = ahead.pop()
        if node is None or node in visited or node in stops:
            continue
        visited.add(node)
        if (weight_name := names.get(id(getattr(node, "variable", None)))) is not None:
            raise UnsupportedError(f"the weight {weight_name} is used outside of the call of its layer")
        ahead += [after for after, _ in node.next_functions]


def _clipped_sum(
    layer_calls: list[LayerCall],
    backprops: list[Tensor | None],
    weights: dict[str, nn.Parameter],
    clip: float,
    squares: Tensor,
) -> ClippedSum:
    """Return the clipped sum of what the calls tell; squares [b] is zero."""
    calls: list[tuple[LayerCall, LayerTensors]] = []
    for visit, slope in zip(layer_calls, backprops, strict=True):
        if slope is not None:
            if [x._version for x in tree_leaves(visit.inputs)] != visit.versions:
                raise UnsupportedError(f"what {visit.name} saw was changed in place afterwards")
            calls.append((visit, LayerTensors(visit.inputs, _as_weights(visit, slope))))
    backprops.clear()
    by_layer: dict[nn.Module, list[tuple[LayerCall, LayerTensors]]] = defaultdict(list)
    users: dict[int, set[nn.Module]] = defaultdict(set)
    for visit, call in calls:
        by_layer[visit.layer].append((visit, call))
        for weight in visit.trainable_params.values():
            users[id(weight)].add(visit.layer)
    tied = {layer for layers in users.values() if len(layers) > 1 for layer in layers}
    for layer, its in by_layer.items():
        if layer not in tied:
            found = _require_grad_sampler(layer).norm_sq(layer, [call for _, call in its])
            squares = squares + (_norm_sq_by_row(its, len(squares)) if found is None else found)
    if tied:
        squares = squares + _norm_sq_by_row([pair for layer in tied for pair in by_layer[layer]], len(squares))
    norms = squares.sqrt()
    by, names = clip_factors(norms, clip), {id(weight): name for name, weight in weights.items()}
    sums: dict[str, Tensor] = {}
    while calls:
        visit, call = calls.pop()
        for weight, gradient in _weighted_gradients(visit, call, by.to(call.backprops.dtype)):
            name = names[id(weight)]
            sums[name] = sums[name] + gradient if name in sums else gradient
    return ClippedSum(sums, norms)


def _require_grad_sampler(layer: nn.Module) -> GradSampler:
    rule = grad_sampler_of(layer)
    if rule is None:
        raise UnsupportedError(f"no rule for {type(layer).__name__}")
    return rule


def _norm_sq_by_row(calls: list[tuple[LayerCall, LayerTensors]], b: int) -> Float[Tensor, " b"]:
    """Return squared norms where a weight serves several layers: example after example."""
    squares = []
    for row in range(b):
        sums: dict[int, Tensor] = {}
        for visit, call in calls:
            one = call.rows(slice(row, row + 1))
            for weight, gradient in _weighted_gradients(visit, one, torch.ones_like(one.backprops.flatten()[:1])):
                sums[id(weight)] = sums[id(weight)] + gradient if id(weight) in sums else gradient
        squares.append(torch.stack([gradient.square().sum() for gradient in sums.values()]).sum())
    return torch.stack(squares)


def _weighted_gradients(
    layer_call: LayerCall, call: LayerTensors, by: Float[Tensor, " b"]
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Yield each trained weight of a layer, and the weighted sum of its gradients."""
    gradients, own = (
        _require_grad_sampler(layer_call.layer).weighted_sum(layer_call.layer, call, by),
        layer_call.trainable_params,
    )
    if own.keys() - gradients.keys():
        raise UnsupportedError(
            f"{layer_call.name} tells nothing of its {', '.join(sorted(own.keys() - gradients.keys()))}"
        )
    for name, weight in own.items():
        yield weight, gradients[name]
