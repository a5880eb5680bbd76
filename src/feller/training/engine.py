"""Management of the device and the processes of a training run; no other module imports Accelerate."""

import atexit
import contextlib
import copy
import datetime
import functools
import secrets
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.precision import Precision, autocast, check_precision, float32_matmul
from feller.core.pytree import State, tree_map

T = TypeVar("T")


class Engine:
    """Device and process group of a training run: a single process, or data-parallel ranks that split each batch.

    Processes may be started directly, by `torchrun`, or by `accelerate launch`. Each rank holds the whole network
    unless FSDP is used. Gradients are averaged once per step, after all micro-batches, so that DP-SGD adds its noise
    exactly once.
    """

    def __init__(self) -> None:
        cpu_only = not torch.accelerator.is_available()  # CPU ranks communicate by gloo
        # Work of the main process alone, such as counting a table, may exceed the default timeout of 30 minutes.
        group_kwargs = InitProcessGroupKwargs(timeout=datetime.timedelta(days=1))
        self._accelerator = Accelerator(cpu=cpu_only, mixed_precision="no", kwargs_handlers=[group_kwargs])
        self.device: torch.device = self._accelerator.device
        """Device of this process."""
        self.rank: int = self._accelerator.process_index
        """Rank of this process."""
        self.world_size: int = self._accelerator.num_processes
        """Number of processes."""
        self.is_main_process: bool = self.rank == 0
        """True if this process writes files and prints."""
        if self.world_size > 1:  # communication threads that outlive the interpreter can abort the process
            atexit.register(self._accelerator.state.destroy_process_group)

    def local_slice(self, size: int) -> slice:
        """Return the slice of a batch of `size` examples that this rank processes."""
        return slice(size * self.rank // self.world_size, size * (self.rank + 1) // self.world_size)

    def to_device(self, tree: State) -> State:
        """Move the tensors of a tree to the device; copies from pinned memory to CUDA overlap with computation."""
        return tree_map(self._to_device, tree)

    def _to_device(self, leaf: Tensor) -> Tensor:
        if self.device.type == "cuda" and leaf.device.type == "cpu":
            leaf = leaf.pin_memory()
        return leaf.to(self.device, non_blocking=True)

    def check_precision(self, precision: Precision) -> None:
        """Validate a training precision for the device.

        Raises:
            UsageError: If the device does not support the precision.
        """
        check_precision(precision, self.device)

    def autocast(self, precision: Precision) -> contextlib.AbstractContextManager[Any]:
        """Return the autocast context of a precision; weights keep their dtype."""
        return autocast(precision, self.device)

    def float32_matmul(self, precision: Precision) -> contextlib.AbstractContextManager[None]:
        """Return a context for the remaining float32 products on CUDA: TensorFloat32 unless the precision is fp32."""
        return float32_matmul(precision, self.device)

    def average_gradients(self, network: nn.Module) -> None:
        """Average the gradients over all ranks, in one all-reduce."""
        if self.world_size == 1:
            return
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        for gradient, mean in zip(gradients, self._all_reduce(gradients, "mean"), strict=True):
            gradient.copy_(mean)

    def all_reduce_sum(self, values: list[Tensor]) -> list[Tensor]:
        """Sum tensors over all ranks, in one all-reduce."""
        return values if self.world_size == 1 else self._all_reduce(values, "sum")

    def _all_reduce(self, values: list[Tensor], op: str) -> list[Tensor]:
        flat = self._accelerator.reduce(torch.cat([value.flatten() for value in values]), op)
        chunks = flat.split([value.numel() for value in values])
        return [chunk.view_as(value) for chunk, value in zip(chunks, values, strict=True)]

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """Average a tensor over all ranks."""
        return value if self.world_size == 1 else self._accelerator.reduce(value, "mean")

    def broadcast_float(self, value: float) -> float:
        """Broadcast a number from the main process, so that all ranks take the same branch."""
        if self.world_size == 1:
            return value
        local = torch.tensor(value if self.is_main_process else 0.0, dtype=torch.float64, device=self.device)
        return self._accelerator.reduce(local, "sum").item()

    def broadcast_bool(self, value: bool) -> bool:
        """Broadcast a decision of the main process."""
        return bool(self.broadcast_float(float(value)))

    def broadcast_str(self, text: str) -> str:
        """Broadcast a string from the main process."""
        return text if self.world_size == 1 else broadcast_object_list([text])[0]

    def shared_secret(self) -> bytes | None:
        """Return a new random key of 32 bytes, the same on all ranks; None for a single process."""
        return bytes.fromhex(self.broadcast_str(secrets.token_hex(32))) if self.world_size > 1 else None

    def check_identical(self, what: str, value: str) -> None:
        """Check that a value is the same on all ranks; `what` names the value in the message.

        Raises:
            InputError: If the value differs between ranks; raised on all ranks.
        """
        if self.world_size > 1:
            differs = torch.tensor(float(self.broadcast_str(value) != value), device=self.device)
            if self._accelerator.reduce(differs, "sum").item():
                raise InputError(
                    f"the processes have different values of {what}", remedy="Use the same files in all processes"
                )

    def barrier(self) -> None:
        """Wait until all ranks have reached this call."""
        self._accelerator.wait_for_everyone()

    def gather(self, part: T) -> list[T]:
        """Gather an object from all ranks, in order of rank; tensors are moved to the CPU."""
        if self.world_size == 1:
            return [part]
        return gather_object([_to_cpu(part)])

    def single_process(self) -> "Engine":
        """Return an engine for a computation that each rank repeats identically, without communication."""
        engine = copy.copy(self)
        engine.rank, engine.world_size, engine.is_main_process = 0, 1, True
        return engine


def _to_cpu(tree: Any) -> Any:
    """Move the tensors of a tree, or of a list of trees, to the CPU."""
    if isinstance(tree, list):
        return [_to_cpu(subtree) for subtree in tree]
    return tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, tree)


@functools.cache
def get_engine() -> Engine:
    """Return the engine of this process."""
    return Engine()
