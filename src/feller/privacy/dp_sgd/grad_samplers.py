"""What a kind of layer can tell about the gradients of single examples."""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

AT_ONCE = 2**24
"""Numbers that a rule may lay out beside each other."""


@dataclass(frozen=True)
class Call:
    """One call of a layer."""

    inputs: Any
    """Its argument, or the tuple of them; [b, ...]."""
    slopes: Tensor
    """Gradient of the sum of the losses in what it returned, [b, ...]."""

    def rows(self, which: slice) -> "Call":
        """Return the call for some of the examples."""
        several = isinstance(self.inputs, tuple)
        inputs = tuple(x[which] for x in self.inputs) if several else self.inputs[which]
        return Call(inputs, self.slopes[which])


class Rule(abc.ABC):
    """What a kind of layer can tell. Implement two methods to add one."""

    def takes(self, layer: Any) -> bool:
        """Tell whether the layer's settings are among those that the rule knows."""
        return True

    def squares(self, layer: Any, calls: Sequence[Call]) -> Float[Tensor, " b"] | None:
        """Return squared norms of each example's gradient of all trained weights, summed over the calls before.

        None where the rule cannot: then the gradients are laid out example by example.
        """
        return None

    @abc.abstractmethod
    def weighted(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Return the sum of the examples' gradients, each times its factor, for each trained weight."""


def outer_squares(slopes: Float[Tensor, "b t p"], x: Float[Tensor, "b t d"]) -> Float[Tensor, " b"]:
    """Return the squared norm of the sum over places of outer products, by the cheaper of two exact formulas."""
    t, p, d = *slopes.shape[1:], x.shape[2]
    if t == 1:
        return slopes.square().sum((1, 2)) * x.square().sum((1, 2))
    if t * (p + d) <= p * d:
        parts = portions(len(x), t * t)
        return torch.cat([((x[i] @ x[i].mT) * (slopes[i] @ slopes[i].mT)).sum((1, 2)).clamp(min=0) for i in parts])
    return torch.cat([(slopes[i].mT @ x[i]).square().sum((1, 2)) for i in portions(len(x), p * d)])


def portions(b: int, each: int) -> Iterator[slice]:
    """Yield slices of b examples of which each lays out so many numbers."""
    step = max(1, AT_ONCE // max(each, 1))
    return (slice(start, start + step) for start in range(0, b, step))


def places(x: Tensor) -> Float[Tensor, "b t d"]:
    """Bring all axes between the first and the last together, or put one there."""
    return x.reshape(len(x), -1, x.shape[-1])


def trains(layer: Any, name: str) -> bool:
    """Tell whether a layer has a weight of a name, and it is trained."""
    weight = getattr(layer, name, None)
    return weight is not None and weight.requires_grad


def trained(layer: Any, **gradients: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Make the gradients of those weights that are trained."""
    return {name: make() for name, make in gradients.items() if trains(layer, name)}


def joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Put tensors behind each other, without a copy of a single one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)
