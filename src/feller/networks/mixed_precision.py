"""Networks evaluated in mixed precision, with inputs and outputs in float32."""

from typing import Any

import torch
from torch import nn

from feller.core.precision import Precision, autocast, check_precision, float32_matmul, resolve_precision
from feller.core.pytree import State, tree_map


class MixedPrecisionNetwork(nn.Module):
    """Network whose forward pass uses autocast: states, times and outputs keep float32 or higher precision."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, *args: Any, **kwargs: Any) -> State:
        device = next(self.network.parameters()).device
        with autocast(self.precision, device), float32_matmul(self.precision, device):
            return tree_map(_to_float32, self.network(*args, **kwargs))


def at_precision(network: nn.Module, precision: Precision) -> nn.Module:
    """Return a network that evaluates in a precision; the same network if that is float32 on its device."""
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    check_precision(precision, device, option="precision")
    is_plain = resolve_precision(precision, device) == "fp32" and (precision == "auto" or device.type != "cuda")
    return network if is_plain else MixedPrecisionNetwork(network, precision)


def _to_float32(leaf: Any) -> Any:
    is_low = isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bfloat16, torch.float16)
    return leaf.float() if is_low else leaf
