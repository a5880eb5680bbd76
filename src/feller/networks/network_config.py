"""Base class of network configurations, seeded initialisation of weights, and a limit on parameter memory."""

import abc
import math
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module

from feller.core.errors import InputError
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes


class NetworkConfig(abc.ABC):
    """Base class of configurations of networks, which are frozen dataclasses of plain values."""

    reads_observed: ClassVar[bool] = False
    """True if the network has an input for the mask `cond["known"]` of observed entries of arrays."""
    takes_any_length: ClassVar[bool] = False
    """True if the network takes texts of any length, also longer than those of the training."""
    max_finetune_lr: ClassVar[float] = math.inf
    """Maximum default learning rate with which training continues; large pretrained networks need a small one."""

    @abc.abstractmethod
    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> nn.Module:
        """Return a network with newly initialised weights.

        The network's forward(x_t, t, cond) returns a prediction with the shape of x_t, which is exactly zero at
        initialisation.

        Args:
            shape: Shape of one example's state: (d,), (channels, height, width), or a dict of its components' shapes.
            conditions: Type of each condition: a number of classes, whose null value is the index after the last class,
                or a `Condition` such as a number or a vector. The network lists the null values in `null_values`.
            rng: Random stream of the weights.

        Raises:
            UsageError: If the network does not support states of this shape.
        """

    def notes(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Return what users should know about the network for arrays of a shape, such as padding; default: nothing."""
        return ()


_DEVICE: ContextVar[str] = ContextVar("device", default="cpu")
"""Device on which networks are built: cpu, so that the weights of a seed are the same everywhere, or meta."""


@contextmanager
def seeded_init(rng: Rng) -> Generator[None]:
    """Context manager in which new modules are initialised from the random stream `rng`.

    The state of torch's global generator is restored at the end.
    """
    seed = rng.stream("weights").shared_generator().initial_seed()
    with torch.device(_DEVICE.get()), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the accelerators
        yield


@contextmanager
def meta_init() -> Generator[None]:
    """Context manager in which networks are built on the device meta: with shapes, but without memory or values."""
    token = _DEVICE.set("meta")
    try:
        yield
    finally:
        _DEVICE.reset(token)


def padding_notes(shape: tuple[int, ...], factor: int) -> tuple[str, ...]:
    """Return a note if a network pads images of shape (channels, height, width) to multiples of a number of pixels."""
    height, width = shape[1:]
    if not height % factor and not width % factor:
        return ()
    padded = f"{width + -width % factor}x{height + -height % factor}"
    return (f"the network pads images of {width}x{height} to {padded} inside, multiples of {factor} pixels",)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


T = TypeVar("T")
DEFAULT_PARAMETER_BYTES = 2**30
"""Default limit on the memory of a network's parameters in bytes, for networks of unknown size."""


def limit_parameter_bytes(max_bytes: int, build: Callable[[], T]) -> T:
    """Call `build` and return its result; raise an error if the created networks exceed a limit on parameter memory.

    Parameters are counted when they are registered, before their memory is filled, so a huge network fails early.
    Networks of the user set their own device, so building on the meta device would not help. Shared weights count once.

    Raises:
        InputError: If the parameters exceed the limit.
    """
    total, thread_id = 0, threading.get_ident()
    counted: dict[int, Tensor] = {}  # keeps the weights, or their ids could be reused

    def on_parameter(owner: nn.Module, name: str, weights: Tensor | None) -> None:
        nonlocal total
        if threading.get_ident() != thread_id:  # the hook is global and fires for networks of other threads too
            return
        if weights is None or id(weights) in counted:
            return
        counted[id(weights)] = weights
        total += weights.numel() * weights.element_size()
        if total > max_bytes:
            raise InputError(
                f"the network's parameters take {total:,} bytes or more",
                expected=f"at most {max_bytes:,} bytes",
                remedy="Copy the whole run folder",
            )

    hook = module.register_module_parameter_registration_hook(on_parameter)
    try:
        return build()
    finally:
        hook.remove()
