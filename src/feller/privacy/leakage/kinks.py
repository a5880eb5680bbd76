"""Layers at which gradients jump."""

from torch import nn

KINKED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


def kinks(network: nn.Module) -> tuple[str, ...]:
    """Return the layers at which gradients jump: bounds of a network with some are about where it is smooth alone.

    Functions that are called without a layer, such as relu, are not seen.
    """
    return tuple(
        f"{name or 'the network'}, a {type(layer).__name__}"
        for name, layer in network.named_modules()
        if isinstance(layer, (*KINKED, *POOLS))
    )
