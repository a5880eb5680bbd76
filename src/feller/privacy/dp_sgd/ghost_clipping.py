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
from feller.privacy.dp_sgd.grad_samplers import Call, Rule, rule_of
from feller.privacy.dp_sgd.per_example_clipping import Clipped, NotHereError, factors, losses_of, trained
from feller.privacy.dp_sgd.per_example_gradients import refuse_mixers
from feller.privacy.dp_sgd.stateful_modules import nothing_kept


@dataclass
class Visit:
    """One call of a layer, as it happened."""

    name: str
    layer: nn.Module
    inputs: Any
    versions: list[int]
    """Of the tensors among the inputs, so that a change in place is seen."""
    before: list[Node]
    """Where its arguments came from."""
    edge: GradientEdge
    """What it returned, before anything changes that in place."""
    shape: torch.Size
    """Of what it returned."""

    @property
    def own(self) -> dict[str, nn.Parameter]:
        """Trained weights of the layer itself, under its own names."""
        found = self.layer.named_parameters(recurse=False)
        return {name: weight for name, weight in found if weight.requires_grad}


@dataclass
class Book:
    """All calls of one pass forward."""

    b: int
    visits: list[Visit] = field(default_factory=list)
    reason: str = ""
    """Why the book cannot be trusted, if so."""

    def note(self, name: str, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
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
        elif any(len(x) != self.b for x in (*inputs, output) if x.ndim) or not all(x.ndim for x in (*inputs, output)):
            self.reason = f"the first axis of what {name} sees or returns does not count examples"
        else:
            kept = args[0].detach() if len(args) == 1 else tuple(x.detach() for x in args)
            before = [get_gradient_edge(x).node for x in inputs if x.requires_grad]
            versions = [x._version for x in inputs]
            self.visits.append(Visit(name, layer, kept, versions, before, _edge(output), output.shape))


def clipped_by_book(loss: LossFunction, network: nn.Module, example: dict[str, Any], clip: float) -> Clipped:
    """Return the clipped sum over the examples.

    Raises:
        NotHereError: If a trained weight is used otherwise than in the call of a layer that has a rule.
    """
    refuse_mixers(network)
    weights, book = trained(network), Book(num_examples(example))
    with nothing_kept(loss, network, example), recorded(network, book), torch.enable_grad():
        check_layers(network)
        losses = losses_of(loss(network, example), book.b)
    if book.reason:
        raise NotHereError(book.reason)
    _check_reach(losses, book, weights)
    if not losses.requires_grad or not book.visits:
        return Clipped({}, torch.zeros_like(losses))
    slopes = torch.autograd.grad(losses.sum(), [visit.edge for visit in book.visits], allow_unused=True)
    with torch.no_grad():
        return _summed(book.visits, list(slopes), weights, clip, torch.zeros_like(losses))


def check_layers(network: nn.Module) -> None:
    """Refuse networks of which a trained weight belongs to no layer that has a rule.

    Raises:
        NotHereError: Naming the layer.
    """
    for name, layer in network.named_modules():
        if rule_of(layer) is None:
            own = [key for key, weight in layer.named_parameters(recurse=False) if weight.requires_grad]
            if own:
                raise NotHereError(
                    f"no rule for the weight {own[0]} of {name or 'the network'}, {type(layer).__name__}"
                )


@contextmanager
def recorded(network: nn.Module, book: Book) -> Iterator[None]:
    """Write all calls of layers with trained weights into a book."""
    with ExitStack() as stack:
        for name, layer in network.named_modules():
            if any(weight.requires_grad for weight in layer.parameters(recurse=False)):
                stack.enter_context(layer.register_forward_hook(partial(book.note, name), with_kwargs=True))
        yield


def _edge(output: Tensor) -> GradientEdge:
    """Return where slopes come in: of the whole, where a result is a view, which a change in place goes round."""
    base = output._base
    if base is None or not base.requires_grad or base.numel() != output.numel():
        return get_gradient_edge(output)
    return get_gradient_edge(base if base.is_contiguous() and output.is_contiguous() else output)


def _as_weights(visit: Visit, slopes: Tensor) -> Tensor:
    """Return slopes in the shape of what the layer returned and the precision of its weights."""
    return slopes.reshape(visit.shape).to(next(iter(visit.own.values())).dtype)


def _check_reach(losses: Tensor, book: Book, weights: dict[str, nn.Parameter]) -> None:
    """Walk from the losses to the outputs of recorded calls: no trained weight may be met on the way."""
    names = {id(weight): name for name, weight in weights.items()}
    stops = {visit.edge.node for visit in book.visits}
    ahead: list[Node | None] = [losses.grad_fn]
    for visit in book.visits:
        ahead += visit.before
    seen: set[Node] = set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen or node in stops:
            continue
        seen.add(node)
        if (met := names.get(id(getattr(node, "variable", None)))) is not None:
            raise NotHereError(f"the weight {met} is used outside of the call of its layer")
        ahead += [after for after, _ in node.next_functions]


def _summed(
    visits: list[Visit], slopes: list[Tensor | None], weights: dict[str, nn.Parameter], clip: float, squares: Tensor
) -> Clipped:
    """Return the clipped sum of what the calls tell; squares [b] is zero."""
    calls: list[tuple[Visit, Call]] = []
    for visit, slope in zip(visits, slopes, strict=True):
        if slope is not None:
            if [x._version for x in tree_leaves(visit.inputs)] != visit.versions:
                raise NotHereError(f"what {visit.name} saw was changed in place afterwards")
            calls.append((visit, Call(visit.inputs, _as_weights(visit, slope))))
    slopes.clear()
    by_layer: dict[nn.Module, list[tuple[Visit, Call]]] = defaultdict(list)
    users: dict[int, set[nn.Module]] = defaultdict(set)
    for visit, call in calls:
        by_layer[visit.layer].append((visit, call))
        for weight in visit.own.values():
            users[id(weight)].add(visit.layer)
    tied = {layer for layers in users.values() if len(layers) > 1 for layer in layers}
    for layer, its in by_layer.items():
        if layer not in tied:
            found = _rule(layer).squares(layer, [call for _, call in its])
            squares = squares + (_laid_out(its, len(squares)) if found is None else found)
    if tied:
        squares = squares + _laid_out([pair for layer in tied for pair in by_layer[layer]], len(squares))
    norms = squares.sqrt()
    by, names = factors(norms, clip), {id(weight): name for name, weight in weights.items()}
    sums: dict[str, Tensor] = {}
    while calls:
        visit, call = calls.pop()
        for weight, gradient in _told(visit, call, by.to(call.slopes.dtype)):
            name = names[id(weight)]
            sums[name] = sums[name] + gradient if name in sums else gradient
    return Clipped(sums, norms)


def _rule(layer: nn.Module) -> Rule:
    rule = rule_of(layer)
    if rule is None:
        raise NotHereError(f"no rule for {type(layer).__name__}")
    return rule


def _laid_out(calls: list[tuple[Visit, Call]], b: int) -> Float[Tensor, " b"]:
    """Return squared norms where a weight serves several layers: example after example."""
    squares = []
    for row in range(b):
        sums: dict[int, Tensor] = {}
        for visit, call in calls:
            one = call.rows(slice(row, row + 1))
            for weight, gradient in _told(visit, one, torch.ones_like(one.slopes.flatten()[:1])):
                sums[id(weight)] = sums[id(weight)] + gradient if id(weight) in sums else gradient
        squares.append(torch.stack([gradient.square().sum() for gradient in sums.values()]).sum())
    return torch.stack(squares)


def _told(visit: Visit, call: Call, by: Float[Tensor, " b"]) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Yield each trained weight of a layer, and the weighted sum of its gradients."""
    told, own = _rule(visit.layer).weighted(visit.layer, call, by), visit.own
    if own.keys() - told.keys():
        raise NotHereError(f"{visit.name} tells nothing of its {', '.join(sorted(own.keys() - told.keys()))}")
    for name, weight in own.items():
        yield weight, told[name]
