"""The rule of convolutions along one axis or two."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.privacy.dp_sgd.grad_samplers import Call, Rule, joined, outer_squares, portions, trained, trains


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
