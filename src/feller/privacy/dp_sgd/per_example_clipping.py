"""Gradients of single examples, clipped and summed: what every way of getting them returns."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.core.gradient import LossFunction


class UnsupportedError(Exception):
    """A way to get gradients does not serve a network or loss; another may."""


@dataclass(frozen=True)
class ClippedSum:
    """What the examples of a micro-batch say together."""

    sums: dict[str, Tensor]
    """Name of each weight that the loss reached -> the sum of the examples' clipped gradients."""
    norms: Float[Tensor, " b"]
    """Length of each example's gradient before it was clipped, over all weights."""


def trainable_params(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that are trained, each once, under the names of the network."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def clip_factors(norms: Float[Tensor, " b"], clip: float) -> Float[Tensor, " b"]:
    """Return what each gradient is multiplied with, so that none is longer than the clip norm."""
    return (
        (clip / norms).clamp(max=1.0).nan_to_num(nan=1.0)
    )  # 0 where the norm is infinite; inf / inf only if unclipped


def global_norm(gradients: Iterable[Tensor]) -> Tensor:
    """Return the length of several tensors as one vector."""
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()


class LossModule(nn.Module):
    """A network with its loss, which is what it answers, so that the weights inside can be exchanged."""

    def __init__(self, loss: LossFunction, network: nn.Module) -> None:
        super().__init__()
        self.loss, self.network = loss, network


def check_losses(value: Any, b: int) -> Float[Tensor, " b"]:
    """Return what a loss returned, if it is one number per example.

    Raises:
        UnsupportedError: If it is not.
    """
    if not isinstance(value, Tensor) or value.shape != (b,):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UnsupportedError(f"the loss returned {shape} for {b} examples, expected one number for each")
    return value
