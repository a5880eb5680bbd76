"""Grad samplers: rules per layer type for per-example gradient norms and weighted sums.

To add a layer type, use `register_grad_sampler`, or give the layer two methods: `norm_sq(activations, backprops)`
returns squared gradient norms [b]; `weighted_sum(activations, backprops, factors)` returns, for each weight name,
the sum of the per-example gradients multiplied by `factors` [b]. `activations` is the input of the call, or a tuple if
there are several.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK_SIZE = 2**24
"""Maximum number of values that a rule holds in memory per chunk."""


@dataclass(frozen=True)
class LayerTensors:
    """Activations and output gradients of one layer call."""

    activations: Any
    """Input, or tuple of inputs; [b, ...]."""
    backprops: Tensor
    """Gradient of the summed losses with respect to the output, [b, ...]."""

    def rows(self, index: slice) -> "LayerTensors":
        """Return the activations and output gradients of the examples in the slice `index`."""
        is_tuple = isinstance(self.activations, tuple)
        inputs = tuple(x[index] for x in self.activations) if is_tuple else self.activations[index]
        return LayerTensors(inputs, self.backprops[index])


class GradSampler(abc.ABC):
    """Per-example gradient rule of a layer type. Subclasses implement `weighted_sum`, and `norm_sq` to save memory."""

    def supports(self, layer: Any) -> bool:
        """Return True if the rule supports the layer's settings."""
        return True

    def norm_sq(self, layer: Any, calls: Sequence[LayerTensors]) -> Float[Tensor, " b"] | None:
        """Return squared per-example gradient norms over all trainable weights, with gradients summed over the calls.

        Returns None if the rule does not implement `norm_sq`; gradients are then materialised one example at a time.
        """
        return None

    @abc.abstractmethod
    def weighted_sum(self, layer: Any, call: LayerTensors, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Return, for each trainable weight, the sum of per-example gradients multiplied by `factors`."""


def outer_norm_sq(backprops: Float[Tensor, "b t p"], x: Float[Tensor, "b t d"]) -> Float[Tensor, " b"]:
    """Return |sum_t backprops_t x_t^T|^2 of each example (t: position), by the cheaper of two exact formulas."""
    t, p, d = *backprops.shape[1:], x.shape[2]
    if t == 1:
        return backprops.square().sum((1, 2)) * x.square().sum((1, 2))
    if t * (p + d) <= p * d:
        slices = chunk_slices(len(x), t * t)
        return torch.cat(
            [((x[i] @ x[i].mT) * (backprops[i] @ backprops[i].mT)).sum((1, 2)).clamp(min=0) for i in slices]
        )
    return torch.cat([(backprops[i].mT @ x[i]).square().sum((1, 2)) for i in chunk_slices(len(x), p * d)])


def chunk_slices(b: int, each: int) -> Iterator[slice]:
    """Yield slices of b examples, each slice with at most `CHUNK_SIZE` values; an example has `each` values."""
    step = max(1, CHUNK_SIZE // max(each, 1))
    return (slice(start, start + step) for start in range(0, b, step))


def flatten_positions(x: Tensor) -> Float[Tensor, "b t d"]:
    """Flatten the axes between the first and the last into one position axis, or insert a position axis of size 1."""
    return x.reshape(len(x), -1, x.shape[-1])


def is_trainable(layer: Any, name: str) -> bool:
    """Return True if the layer has a trainable weight of this name."""
    weight = getattr(layer, name, None)
    return weight is not None and weight.requires_grad


def trainable_gradients(layer: Any, **gradients: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Return a dict with the gradients of the layer's trainable weights.

    `gradients` has one function per weight name, which returns the gradient of this weight. Only the functions of
    trainable weights are called.
    """
    return {name: make() for name, make in gradients.items() if is_trainable(layer, name)}


def concatenate_if_several(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Concatenate tensors; a single tensor is returned without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)


class LinearGradSampler(GradSampler):
    """Rule of linear layers: the gradient is a sum over positions of the outer products output gradient x input."""

    def norm_sq(self, layer: nn.Linear, calls: Sequence[LayerTensors]) -> Float[Tensor, " b"]:
        x = concatenate_if_several([flatten_positions(call.activations) for call in calls], 1)
        backprops = concatenate_if_several([flatten_positions(call.backprops) for call in calls], 1)
        norms_sq = backprops.new_zeros(len(backprops))
        if is_trainable(layer, "weight"):
            norms_sq = norms_sq + outer_norm_sq(backprops, x.to(backprops.dtype))
        return norms_sq + backprops.sum(1).square().sum(1) if is_trainable(layer, "bias") else norms_sq

    def weighted_sum(self, layer: nn.Linear, call: LayerTensors, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        backprops = (flatten_positions(call.backprops) * factors[:, None, None]).flatten(0, 1)
        x = flatten_positions(call.activations).flatten(0, 1).to(backprops.dtype)
        return trainable_gradients(layer, weight=lambda: backprops.T @ x, bias=lambda: backprops.sum(0))


class EmbeddingGradSampler(GradSampler):
    """Rule of embedding tables: the gradient of a token's row is the sum of the output gradients of this token."""

    def supports(self, layer: nn.Embedding) -> bool:
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse

    def norm_sq(self, layer: nn.Embedding, calls: Sequence[LayerTensors]) -> Float[Tensor, " b"]:
        """Sum the output gradients of each token of an example, and return the squared norm of these sums."""
        pairs = [self._flat(layer, call) for call in calls]
        token_ids = concatenate_if_several([ids for ids, _ in pairs], 1)
        backprops = concatenate_if_several([backprops for _, backprops in pairs], 1)
        b, vocab_size = len(token_ids), layer.num_embeddings
        if token_ids.shape[1] == 1:
            return backprops.square().sum((1, 2))
        flat_ids = torch.arange(b, device=token_ids.device)[:, None] * vocab_size + token_ids
        unique_ids, inverse = flat_ids.unique(return_inverse=True)
        sums = backprops.new_zeros(len(unique_ids), backprops.shape[2]).index_add_(
            0, inverse.flatten(), backprops.flatten(0, 1)
        )
        return backprops.new_zeros(b).index_add_(0, unique_ids // vocab_size, sums.square().sum(1))

    def weighted_sum(self, layer: nn.Embedding, call: LayerTensors, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        token_ids, backprops = self._flat(layer, call)
        backprops = (backprops * factors[:, None, None]).flatten(0, 1)
        return {"weight": torch.zeros_like(layer.weight).index_add_(0, token_ids.flatten(), backprops)}

    def _flat(self, layer: nn.Embedding, call: LayerTensors) -> tuple[Tensor, Tensor]:
        token_ids = call.activations.reshape(len(call.activations), -1)
        backprops = call.backprops.reshape(*token_ids.shape, -1)
        if layer.padding_idx is not None:
            backprops = backprops * (token_ids != layer.padding_idx)[:, :, None]
        return token_ids, backprops


@dataclass(frozen=True)
class NormGradSampler(GradSampler):
    """Rule of normalisation layers, whose weights scale and shift normalised features."""

    normalize: Callable[[Any, Tensor], Tensor]
    """(layer, input) -> normalised input, before scale and shift."""
    channels_first: bool = False
    """True if the weights apply to axis 1, False if they apply to the last axes."""

    def norm_sq(self, layer: Any, calls: Sequence[LayerTensors]) -> Float[Tensor, " b"]:
        ones = torch.ones_like(calls[0].backprops[:, :1].flatten(1)[:, 0])
        per_call = [self._each(layer, call, ones) for call in calls]
        sums = [torch.stack([by_name[name] for by_name in per_call]).sum(0) for name in per_call[0]]
        return torch.stack([gradients.flatten(1).square().sum(1) for gradients in sums]).sum(0)

    def weighted_sum(self, layer: Any, call: LayerTensors, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        return {name: gradients.sum(0) for name, gradients in self._each(layer, call, factors).items()}

    def _each(self, layer: Any, call: LayerTensors, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Return the gradients of each example times its factor, [b, *weight]."""
        backprops = call.backprops * factors.reshape(-1, *(1,) * (call.backprops.ndim - 1))

        def sum_positions(x: Tensor) -> Tensor:
            if self.channels_first:
                return x.flatten(2).sum(2) if x.ndim > 2 else x
            return x.reshape(len(x), -1, *layer.weight.shape).sum(1)

        return trainable_gradients(
            layer,
            weight=lambda: sum_positions(backprops * self.normalize(layer, call.activations.to(backprops.dtype))),
            bias=lambda: sum_positions(backprops),
        )


class ConvGradSampler(GradSampler):
    """Rule of convolutions, which are linear layers on unfolded patches."""

    def norm_sq(self, layer: Any, calls: Sequence[LayerTensors]) -> Float[Tensor, " b"]:
        images = [self._flat(layer, call) for call in calls]
        backprops = concatenate_if_several([backprops.flatten(2) for _, backprops in images], 2)
        norms_sq = backprops.new_zeros(len(backprops))
        if is_trainable(layer, "bias"):
            norms_sq = norms_sq + backprops.sum(2).square().sum(1)
        if not is_trainable(layer, "weight"):
            return norms_sq
        patch_size, groups = layer.weight[0].numel(), layer.groups
        chunks = []
        for rows in chunk_slices(len(backprops), patch_size * groups * backprops.shape[2]):
            patches = concatenate_if_several([self._unfold(layer, x[rows]) for x, _ in images], 2)
            x = patches.unflatten(1, (groups, patch_size)).flatten(0, 1).mT
            y = backprops[rows].unflatten(1, (groups, -1)).flatten(0, 1).mT
            chunks.append(outer_norm_sq(y, x).view(-1, groups).sum(1))
        return norms_sq + torch.cat(chunks)

    def weighted_sum(self, layer: Any, call: LayerTensors, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        x, backprops = self._flat(layer, call)
        backprops = backprops * factors[:, None, None, None]
        stride, dilation = _pair(layer.stride), _pair(layer.dilation)
        shape = (*layer.weight.shape[:2], *_pair(layer.kernel_size))

        def weight() -> Tensor:
            gradient = nn.grad.conv2d_weight(x, shape, backprops, stride=stride, dilation=dilation, groups=layer.groups)
            return gradient.view_as(layer.weight)

        return trainable_gradients(layer, weight=weight, bias=lambda: backprops.sum((0, 2, 3)))

    def _flat(self, layer: Any, call: LayerTensors) -> tuple[Tensor, Tensor]:
        """Return the padded inputs and the output gradients of a layer call; a 1-d convolution gets a height of 1."""
        backprops = call.backprops
        x = call.activations.to(backprops.dtype)
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, _margins(layer), mode)
        return (x, backprops) if x.ndim == 4 else (x[:, :, None], backprops[:, :, None])

    def _unfold(self, layer: Any, x: Tensor) -> Tensor:
        return F.unfold(x, _pair(layer.kernel_size), _pair(layer.dilation), 0, _pair(layer.stride))


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Return 2-d sizes; a 1-d convolution gets height 1."""
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])


def _margins(layer: Any) -> list[int]:
    """Return the padding of each side in the format of `F.pad`, last axis first."""
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    margins = []
    for axis in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            margins += [total // 2, total - total // 2]
        else:
            margins += [layer.padding[axis]] * 2
    return margins


def register_grad_sampler(kind: type[nn.Module], rule: GradSampler) -> None:
    """Register the grad sampler of a layer type (exact type, without subclasses)."""
    _RULES[kind] = rule


def grad_sampler_of(layer: nn.Module) -> GradSampler | None:
    """Return the grad sampler of a layer; None if there is none."""
    rule = _RULES.get(type(layer))
    if rule is None and hasattr(layer, "norm_sq") and hasattr(layer, "weighted_sum"):
        rule = CustomGradSampler()
    return rule if rule is not None and rule.supports(layer) else None


class CustomGradSampler(GradSampler):
    """Rule of layers that define their own `norm_sq` and `weighted_sum` methods.

    Source: Bu, Wang, Zha and Karypis 2022, "Differentially private optimization on large model at small cost", arXiv
    2210.00038; norms of linear layers: Li et al. 2022, arXiv 2110.05679.
    """

    def norm_sq(self, layer: Any, calls: Sequence[LayerTensors]) -> Float[Tensor, " b"] | None:
        return layer.norm_sq(calls[0].activations, calls[0].backprops) if len(calls) == 1 else None

    def weighted_sum(self, layer: Any, call: LayerTensors, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        return layer.weighted_sum(call.activations, call.backprops, factors)


_RULES: dict[type[nn.Module], GradSampler] = {
    nn.Linear: LinearGradSampler(),
    nn.Embedding: EmbeddingGradSampler(),
    nn.LayerNorm: NormGradSampler(lambda layer, x: F.layer_norm(x, layer.normalized_shape, eps=layer.eps)),
    nn.RMSNorm: NormGradSampler(lambda layer, x: F.rms_norm(x, layer.normalized_shape, eps=layer.eps)),
    nn.GroupNorm: NormGradSampler(
        lambda layer, x: F.group_norm(x, layer.num_groups, eps=layer.eps), channels_first=True
    ),
    nn.Conv1d: ConvGradSampler(),
    nn.Conv2d: ConvGradSampler(),
}
