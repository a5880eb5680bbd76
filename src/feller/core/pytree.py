"""Pytrees: a state is a tensor or a dict of named states; maps, padding left out, and checks that run under vmap."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

State = Any
"""A tensor with one entry per example along its first axis, or a dict of states."""
StateT = TypeVar("StateT", bound=Tensor | Mapping[str, object])
"""A state, where what comes out is of the kind that goes in: a tensor gives a tensor."""
ValidMask = Tensor | Mapping[str, object]
"""Which entries of a state count: truths [b, n] for all leaves, or a dict with some for each."""
Cond = dict[str, State]
"""Conditions, one entry per example; "not given" is a value, not an absence. Two names are the same everywhere: `valid`
marks what is real rather than padding, `known` what is kept: truths [b, n] for all leaves, or some for each under its
name, where a leaf without any is wholly real, and wholly drawn."""


def tree_map(function: Callable[..., Any], tree: State, *others: State) -> State:
    """Apply a function to each leaf, beside the leaves at the same place of other trees."""
    if isinstance(tree, dict):
        return {name: tree_map(function, leaf, *(other[name] for other in others)) for name, leaf in tree.items()}
    return function(tree, *others)


def leaves(tree: State) -> Iterator[Any]:
    """Yield the leaves, depth first."""
    if isinstance(tree, dict):
        for leaf in tree.values():
            yield from leaves(leaf)
    else:
        yield tree


def tree_unflatten(tree: State, new_leaves: Iterable[Any]) -> State:
    """Return a tree of the same form with other leaves, in the order of `leaves`."""
    rest = iter(new_leaves)
    return tree_map(lambda leaf: next(rest), tree)


def submask(mask: State | None, name: str) -> State | None:
    """Return what is marked of a leaf: the marks under its name, or those that serve all leaves; None marks all."""
    return mask.get(name) if isinstance(mask, dict) else mask


def masked_map(function: Callable[..., Any], mask: State | None, tree: State, *others: State) -> State:
    """Apply a function to each leaf and its marks, beside the leaves at the same place of other trees."""
    if isinstance(tree, dict):
        return {
            name: masked_map(function, submask(mask, name), leaf, *(other[name] for other in others))
            for name, leaf in tree.items()
        }
    return function(mask, tree, *others)


def num_examples(tree: State) -> int:
    """Return the number of examples."""
    return len(next(leaves(tree)))


def broadcast_time(t: State, tree: State) -> State:
    """Give each leaf of a tree its time: one time for all, or a tree of times as it is."""
    if isinstance(tree, dict) and not isinstance(t, dict):
        return {name: broadcast_time(t, leaf) for name, leaf in tree.items()}
    return t


def concatenate(*trees: State) -> State:
    """Put trees of the same shape one after the other along the examples."""
    return tree_map(lambda *parts: torch.cat(parts), *trees)


def append_dims(t: Tensor, x: Tensor) -> Tensor:
    """Give numbers per example, [b], as many axes as a state, [b, ...]."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def mean_over_entries(entries: Tensor, valid: Tensor | None = None) -> Float[Tensor, " b"]:
    """Average all entries of an example but padding; `valid` [b, n] marks the second axis."""
    if valid is None:
        return entries.mean(tuple(range(1, entries.ndim))) if entries.ndim > 1 else entries
    weight = append_dims(valid, entries).expand(entries.shape).to(entries.dtype)
    total = torch.where(weight > 0, entries, torch.zeros_like(entries))[:, None].flatten(1).sum(1)
    return total / weight[:, None].flatten(1).sum(1).clamp(min=1)


def zero_invalid(leaf: Tensor, valid: Tensor) -> Tensor:
    """Put zeros where `valid` [b, n] is False: zero times a padded NaN would be NaN in the backward pass."""
    return torch.where(append_dims(valid, leaf), leaf, torch.zeros((), dtype=leaf.dtype, device=leaf.device))


def is_concrete(tensor: Tensor) -> bool:
    """Tell whether a tensor has values that can be looked at without waiting.

    Elsewhere than on the processor they would be waited for; inside a transformation such as `vmap` there are none.
    """
    return tensor.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def maybe_any(mask: Tensor) -> bool:
    """Tell whether a mask may be True somewhere: False is certain, True may be ignorance."""
    return not is_concrete(mask) or bool(mask.any())
