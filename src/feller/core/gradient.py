"""Gradient estimators: backpropagation of per-example losses."""

import abc
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

LossFunction = Callable[[Any, dict[str, Any]], Tensor]
"""Function (network, batch) -> loss per example, [b]."""


_JOINS_EXAMPLES = ContextVar("joins_examples", default=False)


def may_join_examples() -> bool:
    """Return True if a network may compute the examples of a batch together, such as all rows of all examples.

    False while gradients of single examples are computed, which needs the batch as the first dimension everywhere.
    """
    return (_JOINS_EXAMPLES.get() or not torch.is_grad_enabled()) and not torch.compiler.is_compiling()


class Gradient(abc.ABC):
    """Base class of gradient estimators, which set `.grad` of each weight. Subclasses implement `__call__`."""

    needs_float32: ClassVar[bool] = True
    """True if mixed precision is unsupported, because clipping requires gradient norms in full precision."""
    joins_examples: ClassVar[bool] = False
    """True if the examples of a batch are computed together; otherwise one by one, in groups of similar size."""

    @abc.abstractmethod
    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        """Accumulate the gradient of the summed loss divided by `expected_size`, and return this quotient."""


@dataclass(frozen=True)
class MeanGradient(Gradient):
    """Mean gradient over the batch, without clipping or noise."""

    needs_float32: ClassVar[bool] = False
    joins_examples: ClassVar[bool] = True

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        total: Tensor | None = None
        for batch in micro_batches:
            token = _JOINS_EXAMPLES.set(True)
            try:
                batch_loss = loss(network, batch).sum() / expected_size
            finally:
                _JOINS_EXAMPLES.reset(token)
            batch_loss.backward()
            total = batch_loss.detach() if total is None else total + batch_loss.detach()
        return torch.zeros(()) if total is None else total
