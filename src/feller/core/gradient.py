"""How losses become gradients."""

import abc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

LossFunction = Callable[[Any, dict[str, Any]], Tensor]
"""(network, example) -> [b]."""


class Gradient(abc.ABC):
    """Leaves a gradient in `.grad` of each weight. Implement one method to add one."""

    needs_float32: ClassVar[bool] = True
    """Whether it asks for float32 whole: a clip norm holds for gradients whose lengths are computed exactly."""

    @abc.abstractmethod
    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        """Add up the gradients of the micro-batches, divided by the expected size; return the loss so divided."""


@dataclass(frozen=True)
class MeanGradient(Gradient):
    """The plain mean over the batch."""

    needs_float32: ClassVar[bool] = False

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        total: Tensor | None = None
        for example in micro_batches:
            value = loss(network, example).sum() / expected_size
            value.backward()
            total = value.detach() if total is None else total + value.detach()
        return torch.zeros(()) if total is None else total
