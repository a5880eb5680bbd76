"""Process groups that split the examples of a task between ranks."""

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@runtime_checkable
class ProcessGroup(Protocol):
    """Group of ranks (processes) that make the same calls in the same order; implemented by the training engine."""

    def local_slice(self, size: int) -> slice:
        """Return this rank's slice of `size` items, which are split into consecutive slices in the order of ranks."""
        ...

    def gather(self, part: T) -> list[T]:
        """Return the values `part` of all ranks, in rank order, on every rank."""
        ...


@dataclass(frozen=True)
class SingleProcess:
    """Process group with a single rank."""

    def local_slice(self, size: int) -> slice:
        return slice(0, size)

    def gather(self, part: T) -> list[T]:
        return [part]


SINGLE = SingleProcess()


def local_range(group: ProcessGroup, n: int, size: int) -> slice:
    """Return this rank's slice of n examples, which starts and ends at multiples of `size`, the batch size, or at n.

    Each batch thus has the same examples as with a single rank. Otherwise results would differ, because the rounding of
    a network's output depends on the batch size.
    """
    batches = group.local_slice(-(-n // size))
    return slice(min(batches.start * size, n), min(batches.stop * size, n))


def all_reduce_(value: Tensor) -> Tensor:
    """Sum a tensor over all ranks in place; a no-op with one rank."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(value)
    return value
