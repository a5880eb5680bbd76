"""Processes that share the examples of one task, as whoever draws, measures or adds up sees them."""

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@runtime_checkable
class ProcessGroup(Protocol):
    """Some processes, all of which make the same calls; the engine is such."""

    def local_slice(self, size: int) -> slice:
        """Return which of so many pieces fall to this process, in the order of the processes."""
        ...

    def gather(self, part: T) -> list[T]:
        """Return what each process made, everywhere, in the order of the processes."""
        ...


@dataclass(frozen=True)
class SingleProcess:
    """One process."""

    def local_slice(self, size: int) -> slice:
        """Return all."""
        return slice(0, size)

    def gather(self, part: T) -> list[T]:
        """Return what there is."""
        return [part]


SINGLE = SingleProcess()


def local_range(group: ProcessGroup, n: int, size: int) -> slice:
    """Return which of n examples fall to this process: whole batches, so that no batch differs from one process's.

    A network's answer for an example depends on the size of its batch by rounding.
    """
    batches = group.local_slice(-(-n // size))
    return slice(min(batches.start * size, n), min(batches.stop * size, n))


def all_reduce_(value: Tensor) -> Tensor:
    """Add up, in place, what each process has; one process alone has it all."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(value)
    return value
