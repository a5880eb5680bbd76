"""Clipped sums of per-example gradients: shared result type and helpers of all methods."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.core.gradient import LossFunction


class UnsupportedError(Exception):
    """Error of a per-example gradient method that does not support a network or loss; try another method."""


@dataclass(frozen=True)
class ClippedSum:
    """Clipped gradient sum of a micro-batch."""

    sums: dict[str, Tensor]
    """Weight name -> sum of the clipped gradients; contains only weights that the loss depends on."""
    norms: Float[Tensor, " b"]
    """Gradient norm of each example before clipping, over all weights."""


def trainable_params(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable weights by name; a shared weight appears once."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def clip_factors(norms: Float[Tensor, " b"], clip: float) -> Float[Tensor, " b"]:
    """Return min(1, clip / norm), the factor of each gradient; 0 for an infinite norm."""
    return (
        (clip / norms).clamp(max=1.0).nan_to_num(nan=1.0)
    )  # 0 where the norm is infinite; inf / inf only if unclipped


def global_norm(gradients: Iterable[Tensor]) -> Tensor:
    """Return the L2 norm of all tensors together."""
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()


class LossModule(nn.Module):
    """Module that holds a network and its loss, so that `functional_call` can compute the loss with other weights."""

    def __init__(self, loss: LossFunction, network: nn.Module) -> None:
        super().__init__()
        self.loss, self.network = loss, network


def check_losses(value: Any, b: int) -> Float[Tensor, " b"]:
    """Return the losses if they have shape [b]; UnsupportedError if the losses have another shape or type."""
    if not isinstance(value, Tensor) or value.shape != (b,):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UnsupportedError(f"expected a loss of shape ({b},), one value per example; found {shape}")
    return value
