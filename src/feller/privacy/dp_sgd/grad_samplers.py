"""Rules per layer type for per-example gradient norms and weighted sums (grad samplers).

A kind joins with `register`, or by two methods of its own: `per_example(inputs, slopes)`, squared norms [b] of its
gradients, and `weighted(inputs, slopes, factors)`, their sums under the names of its weights, each example's times its
factor, [b]. There `inputs` is the argument of the call, or the tuple of them where there are several.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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


class OfLinear(Rule):
    """Sums over places of outer products of slopes and inputs."""

    def squares(self, layer: nn.Linear, calls: Sequence[Call]) -> Float[Tensor, " b"]:
        """Compare all pairs of places, or multiply the matrices out: whichever is cheaper."""
        x = joined([places(call.inputs) for call in calls], 1)
        slopes = joined([places(call.slopes) for call in calls], 1)
        found = slopes.new_zeros(len(slopes))
        if trains(layer, "weight"):
            found = found + outer_squares(slopes, x.to(slopes.dtype))
        return found + slopes.sum(1).square().sum(1) if trains(layer, "bias") else found

    def weighted(self, layer: nn.Linear, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Multiply all places of all examples at once."""
        slopes = (places(call.slopes) * factors[:, None, None]).flatten(0, 1)
        x = places(call.inputs).flatten(0, 1).to(slopes.dtype)
        return trained(layer, weight=lambda: slopes.T @ x, bias=lambda: slopes.sum(0))


class OfEmbedding(Rule):
    """Rows of a table, each with the slopes of the places where it was looked up."""

    def takes(self, layer: nn.Embedding) -> bool:
        """Refuse what depends on the whole batch."""
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse

    def squares(self, layer: nn.Embedding, calls: Sequence[Call]) -> Float[Tensor, " b"]:
        """Sum the slopes of the places of an example that hold one symbol, then square."""
        pairs = [self._flat(layer, call) for call in calls]
        which, slopes = joined([ids for ids, _ in pairs], 1), joined([slopes for _, slopes in pairs], 1)
        b, rows = len(which), layer.num_embeddings
        if which.shape[1] == 1:
            return slopes.square().sum((1, 2))
        of = torch.arange(b, device=which.device)[:, None] * rows + which
        found, place = of.unique(return_inverse=True)
        sums = slopes.new_zeros(len(found), slopes.shape[2]).index_add_(0, place.flatten(), slopes.flatten(0, 1))
        return slopes.new_zeros(b).index_add_(0, found // rows, sums.square().sum(1))

    def weighted(self, layer: nn.Embedding, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Add each place's slopes to its row."""
        which, slopes = self._flat(layer, call)
        slopes = (slopes * factors[:, None, None]).flatten(0, 1)
        return {"weight": torch.zeros_like(layer.weight).index_add_(0, which.flatten(), slopes)}

    def _flat(self, layer: nn.Embedding, call: Call) -> tuple[Tensor, Tensor]:
        which = call.inputs.reshape(len(call.inputs), -1)
        slopes = call.slopes.reshape(*which.shape, -1)
        if layer.padding_idx is not None:
            slopes = slopes * (which != layer.padding_idx)[:, :, None]
        return which, slopes


@dataclass(frozen=True)
class OfNorm(Rule):
    """Scales and shifts of normalised features."""

    plain: Callable[[Any, Tensor], Tensor]
    """(layer, inputs) -> what the layer scales."""
    channels: bool = False
    """The weights go along axis 1 rather than the last ones."""

    def squares(self, layer: Any, calls: Sequence[Call]) -> Float[Tensor, " b"]:
        """Lay the gradients out: they are small."""
        ones = torch.ones_like(calls[0].slopes[:, :1].flatten(1)[:, 0])
        each = [self._each(layer, call, ones) for call in calls]
        sums = [torch.stack([part[name] for part in each]).sum(0) for name in each[0]]
        return torch.stack([gradients.flatten(1).square().sum(1) for gradients in sums]).sum(0)

    def weighted(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Sum over all but the axes of the weights."""
        return {name: gradients.sum(0) for name, gradients in self._each(layer, call, factors).items()}

    def _each(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Return each example's gradients, times its factor; [b, *weight]."""
        slopes = call.slopes * factors.reshape(-1, *(1,) * (call.slopes.ndim - 1))

        def overplaces(x: Tensor) -> Tensor:
            if self.channels:
                return x.flatten(2).sum(2) if x.ndim > 2 else x
            return x.reshape(len(x), -1, *layer.weight.shape).sum(1)

        return trained(
            layer,
            weight=lambda: overplaces(slopes * self.plain(layer, call.inputs.to(slopes.dtype))),
            bias=lambda: overplaces(slopes),
        )


class OfConvolution(Rule):
    """A linear layer at every place, on what the kernel sees there."""

    def squares(self, layer: Any, calls: Sequence[Call]) -> Float[Tensor, " b"]:
        """Lay out what the kernel sees, some examples at a time."""
        pictures = [self._flat(layer, call) for call in calls]
        slopes = joined([slopes.flatten(2) for _, slopes in pictures], 2)
        found = slopes.new_zeros(len(slopes))
        if trains(layer, "bias"):
            found = found + slopes.sum(2).square().sum(1)
        if not trains(layer, "weight"):
            return found
        size, groups = layer.weight[0].numel(), layer.groups
        parts = []
        for rows in portions(len(slopes), size * groups * slopes.shape[2]):
            seen = joined([self._seen(layer, x[rows]) for x, _ in pictures], 2)
            x = seen.unflatten(1, (groups, size)).flatten(0, 1).mT
            y = slopes[rows].unflatten(1, (groups, -1)).flatten(0, 1).mT
            parts.append(outer_squares(y, x).view(-1, groups).sum(1))
        return found + torch.cat(parts)

    def weighted(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Let the library make the gradient of the whole batch."""
        x, slopes = self._flat(layer, call)
        slopes = slopes * factors[:, None, None, None]
        stride, dilation = _pair(layer.stride), _pair(layer.dilation)
        shape = (*layer.weight.shape[:2], *_pair(layer.kernel_size))

        def weight() -> Tensor:
            found = nn.grad.conv2d_weight(x, shape, slopes, stride=stride, dilation=dilation, groups=layer.groups)
            return found.view_as(layer.weight)

        return trained(layer, weight=weight, bias=lambda: slopes.sum((0, 2, 3)))

    def _flat(self, layer: Any, call: Call) -> tuple[Tensor, Tensor]:
        """Return inputs with their padding, and slopes, as pictures."""
        slopes = call.slopes
        x = call.inputs.to(slopes.dtype)
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, _margins(layer), mode)
        return (x, slopes) if x.ndim == 4 else (x[:, :, None], slopes[:, :, None])

    def _seen(self, layer: Any, x: Tensor) -> Tensor:
        return F.unfold(x, _pair(layer.kernel_size), _pair(layer.dilation), 0, _pair(layer.stride))


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Give a convolution along one axis a height of one."""
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])


def _margins(layer: Any) -> list[int]:
    """Return the padding of each side, last axis first, as `F.pad` takes it."""
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    margins = []
    for axis in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":
            whole = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            margins += [whole // 2, whole - whole // 2]
        else:
            margins += [layer.padding[axis]] * 2
    return margins


def register(kind: type[nn.Module], rule: Rule) -> None:
    """Let layers of exactly this kind be told by a rule."""
    _RULES[kind] = rule


def rule_of(layer: nn.Module) -> Rule | None:
    """Return the rule of a layer, if there is one that takes it."""
    rule = _RULES.get(type(layer))
    if rule is None and hasattr(layer, "per_example") and hasattr(layer, "weighted"):
        rule = Own()
    return rule if rule is not None and rule.takes(layer) else None


class Own(Rule):
    """A layer that tells by itself.

    Source: Bu, Wang, Zha and Karypis 2022, "Differentially private optimization on large model at small cost", arXiv
    2210.00038; Li et al. 2022, arXiv 2110.05679, for the norms of linear layers.
    """

    def squares(self, layer: Any, calls: Sequence[Call]) -> Float[Tensor, " b"] | None:
        """Ask it, where it was called once."""
        return layer.per_example(calls[0].inputs, calls[0].slopes) if len(calls) == 1 else None

    def weighted(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Ask it."""
        return layer.weighted(call.inputs, call.slopes, factors)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: OfLinear(),
    nn.Embedding: OfEmbedding(),
    nn.LayerNorm: OfNorm(lambda layer, x: F.layer_norm(x, layer.normalized_shape, eps=layer.eps)),
    nn.RMSNorm: OfNorm(lambda layer, x: F.rms_norm(x, layer.normalized_shape, eps=layer.eps)),
    nn.GroupNorm: OfNorm(lambda layer, x: F.group_norm(x, layer.num_groups, eps=layer.eps), channels=True),
    nn.Conv1d: OfConvolution(),
    nn.Conv2d: OfConvolution(),
}
