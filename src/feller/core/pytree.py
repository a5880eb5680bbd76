"""Functions on states (a tensor, or nested dicts of tensors): maps, masked means and checks safe under vmap."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

State = Any
"""Tensor whose first axis counts examples, or a dict of states."""
StateT = TypeVar("StateT", bound=Tensor | Mapping[str, object])
"""Type variable of functions that return a state of the same structure as their argument."""
ValidMask = Tensor | Mapping[str, object]
"""Mask of valid entries of a state: a boolean tensor [b, n] for all leaves, or a dict with one mask per leaf."""
Cond = dict[str, State]
"""Conditions, one entry per example; a null value stands for "unconditional".

Two names are reserved: `valid` is True for real entries (not padding), `known` for entries that are held fixed during
sampling. Each is a mask [b, n] for all leaves (tensors of the state), or a dict with one mask per leaf. If a leaf has
no mask, all its entries are valid, and none is held fixed."""

STEP_END = "/end"
"""Key of the end times s of steps from t, [b], an entry of `cond` for networks that predict average velocities."""


def tree_map(function: Callable[..., Any], tree: State, *others: State) -> State:
    """Apply a function to the corresponding leaves of one or more trees, and return the tree of results."""
    if isinstance(tree, dict):
        return {name: tree_map(function, leaf, *(other[name] for other in others)) for name, leaf in tree.items()}
    return function(tree, *others)


def leaves(tree: State) -> Iterator[Any]:
    """Yield the leaves of a tree, depth first."""
    if isinstance(tree, dict):
        for leaf in tree.values():
            yield from leaves(leaf)
    else:
        yield tree


def tree_unflatten(tree: State, new_leaves: Iterable[Any]) -> State:
    """Return a tree of the same structure with new leaves, given in the order in which `leaves` yields them."""
    remaining = iter(new_leaves)
    return tree_map(lambda leaf: next(remaining), tree)


def submask(mask: State | None, name: str) -> State | None:
    """Return the mask of a named leaf: its own mask, or the mask shared by all leaves; None means no mask."""
    return mask.get(name) if isinstance(mask, dict) else mask


def masked_map(function: Callable[..., Any], mask: State | None, tree: State, *others: State) -> State:
    """Apply a function to (mask, leaf, ...) for corresponding leaves of one or more trees; return the result tree."""
    if isinstance(tree, dict):
        return {
            name: masked_map(function, submask(mask, name), leaf, *(other[name] for other in others))
            for name, leaf in tree.items()
        }
    return function(mask, tree, *others)


def num_examples(tree: State) -> int:
    """Return the number of examples in a tree, the length of the first axis of its leaves."""
    return len(next(leaves(tree)))


def broadcast_time(t: State, tree: State) -> State:
    """Return a tree with the time `t` at each leaf; if `t` is a tree of times, it is returned unchanged."""
    if isinstance(tree, dict) and not isinstance(t, dict):
        return {name: broadcast_time(t, leaf) for name, leaf in tree.items()}
    return t


def concatenate(*trees: State) -> State:
    """Concatenate trees of the same structure along the batch axis."""
    return tree_map(lambda *tensors: torch.cat(tensors), *trees)


def append_dims(t: Tensor, x: Tensor) -> Tensor:
    """Append singleton axes to per-example values [b], to broadcast against a state [b, ...]."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def mean_over_entries(entries: Tensor, valid: Tensor | None = None) -> Float[Tensor, " b"]:
    """Return the mean over the entries of each example; padding, where `valid` [b, n] is False, is left out."""
    if valid is None:
        return entries.mean(tuple(range(1, entries.ndim))) if entries.ndim > 1 else entries
    weight = append_dims(valid, entries).expand(entries.shape).to(entries.dtype)
    total = torch.where(weight > 0, entries, torch.zeros_like(entries))[:, None].flatten(1).sum(1)
    return total / weight[:, None].flatten(1).sum(1).clamp(min=1)


def zero_invalid(leaf: Tensor, valid: Tensor) -> Tensor:
    """Set entries to zero where `valid` [b, n] is False; multiplication by the mask would keep NaN in the gradient."""
    return torch.where(append_dims(valid, leaf), leaf, torch.zeros((), dtype=leaf.dtype, device=leaf.device))


def is_concrete(tensor: Tensor) -> bool:
    """Return True if the values of a tensor can be read without synchronization.

    It returns False for tensors on an accelerator, and inside a transformation such as `vmap`, where tensors have no
    values.
    """
    return tensor.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def maybe_any(mask: Tensor) -> bool:
    """Return False if all entries of a mask are known to be False; return True otherwise, or if this is unknown."""
    return not is_concrete(mask) or bool(mask.any())
