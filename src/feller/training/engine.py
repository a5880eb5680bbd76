"""Devices and processes; the only place that knows Accelerate."""

import atexit
import contextlib
import copy
import datetime
import functools
import secrets
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.pytree import State, tree_map

T = TypeVar("T")


class Engine:
    """Where training happens: one process, or one of several that share each batch.

    Started plainly, by `torchrun` or by `accelerate launch`. Every process holds the whole network, unless a training
    is sharded; gradients are averaged once per step, after all micro-batches, so that a private gradient can add its
    noise exactly once.
    """

    def __init__(self) -> None:
        alone = not torch.accelerator.is_available()  # then several processes talk over gloo
        # What the first process does alone, such as counting a table, may take the others longer than half an hour.
        patient = InitProcessGroupKwargs(timeout=datetime.timedelta(days=1))
        self._accelerator = Accelerator(cpu=alone, mixed_precision="no", kwargs_handlers=[patient])
        self.device: torch.device = self._accelerator.device
        """Of this process."""
        self.rank: int = self._accelerator.process_index
        """Number of this process."""
        self.world_size: int = self._accelerator.num_processes
        """Number of processes."""
        self.is_main_process: bool = self.rank == 0
        """Whether this process writes files and speaks."""
        if self.world_size > 1:  # threads that outlive the interpreter abort, now and then, a process that is done
            atexit.register(self._accelerator.state.destroy_process_group)

    def local_slice(self, size: int) -> slice:
        """Return the part of a batch of this size that falls to this process."""
        return slice(size * self.rank // self.world_size, size * (self.rank + 1) // self.world_size)

    def to_device(self, tree: State) -> State:
        """Move tensors to the device."""
        return tree_map(lambda leaf: leaf.to(self.device, non_blocking=True), tree)

    def check_precision(self, precision: str) -> None:
        """Refuse a precision that the device does not have."""
        on_cuda = self.device.type == "cuda"
        if (precision == "tf32" and not on_cuda) or (precision == "bf16" and on_cuda and not _has_bf16()):
            raise UsageError(f"{self.device.type} has no {precision} here", remedy="Take --train.precision fp32")

    def autocast(self, precision: str) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which a network computes in a precision; weights stay as they are."""
        if precision == "auto":
            precision = "bf16" if self.device.type == "cuda" and _has_bf16() else ""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        return contextlib.nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def float32_matmul(self, precision: str) -> contextlib.AbstractContextManager[None]:
        """Multiply float32 numbers on CUDA in TensorFloat32 or whole, where either is asked for."""
        if self.device.type != "cuda" or precision not in ("fp32", "tf32"):
            return contextlib.nullcontext()
        return self._matmul_precision(allow_tf32=precision == "tf32")

    @contextlib.contextmanager
    def _matmul_precision(self, *, allow_tf32: bool) -> Iterator[None]:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32, cudnn.allow_tf32 = allow_tf32, allow_tf32
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before

    def average_gradients(self, network: nn.Module) -> None:
        """Average the gradients of all processes, in one message."""
        if self.world_size == 1:
            return
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        for gradient, part in zip(gradients, self._all_reduce(gradients, "mean"), strict=True):
            gradient.copy_(part)

    def all_reduce_sum(self, values: list[Tensor]) -> list[Tensor]:
        """Add up what all processes have, in one message."""
        return values if self.world_size == 1 else self._all_reduce(values, "sum")

    def _all_reduce(self, values: list[Tensor], op: str) -> list[Tensor]:
        flat = self._accelerator.reduce(torch.cat([value.flatten() for value in values]), op)
        parts = flat.split([value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """Average a number over all processes."""
        return value if self.world_size == 1 else self._accelerator.reduce(value, "mean")

    def broadcast_float(self, value: float) -> float:
        """Return the first process's value everywhere, so that all take the same turn."""
        if self.world_size == 1:
            return value
        mine = torch.tensor(value if self.is_main_process else 0.0, dtype=torch.float64, device=self.device)
        return self._accelerator.reduce(mine, "sum").item()

    def broadcast_str(self, text: str) -> str:
        """Return the first process's text everywhere."""
        return text if self.world_size == 1 else broadcast_object_list([text])[0]

    def shared_secret(self) -> bytes | None:
        """Return a new key of 32 bytes from the system, the same in all processes; None where there is only one."""
        return bytes.fromhex(self.broadcast_str(secrets.token_hex(32))) if self.world_size > 1 else None

    def check_identical(self, what: str, value: str) -> None:
        """Refuse to go on where not all processes have the same.

        Raises:
            InputError: Then, in all of them.
        """
        if self.world_size > 1:
            differs = torch.tensor(float(self.broadcast_str(value) != value), device=self.device)
            if self._accelerator.reduce(differs, "sum").item():
                raise InputError(f"the processes do not have the same {what}", remedy="Give all of them the same files")

    def barrier(self) -> None:
        """Let the other processes catch up."""
        self._accelerator.wait_for_everyone()

    def gather(self, part: T) -> list[T]:
        """Return what each process made, everywhere, in the order of the processes; tensors come to the processor."""
        if self.world_size == 1:
            return [part]
        return gather_object([_to_cpu(part)])

    def single_process(self) -> "Engine":
        """Return the same for what each process does whole, and all alike."""
        one = copy.copy(self)
        one.rank, one.world_size, one.is_main_process = 0, 1, True
        return one


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _to_cpu(part: Any) -> Any:
    """Bring the tensors of a tree, or of a list of trees, to the processor, where every process can hold them."""
    if isinstance(part, list):
        return [_to_cpu(one) for one in part]
    return tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, part)


@functools.cache
def get_engine() -> Engine:
    """Return the engine of this process."""
    return Engine()
