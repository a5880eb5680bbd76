"""Base class of network configurations: seeded initialisation and a cap on parameter bytes."""

import abc
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module

from feller.core.errors import InputError
from feller.core.pytree import State
from feller.core.rng import Rng


class NetworkConfig(abc.ABC):
    """A kind of network and its size; each kind is a frozen dataclass of plain values."""

    @abc.abstractmethod
    def build(self, shape: State, conditions: dict[str, int], rng: Rng) -> nn.Module:
        """Make a network with new weights.

        Its forward(x_t, t, given) returns a prediction of the shape of x_t. A new network predicts exactly zero.

        Args:
            shape: Shape of one example's state: (d,), (channels, height, width), or a dict of the shapes of its leaves.
            conditions: Number of classes of each condition; the index after the last class stands for "not given"
                and is found in the network's `null_values`.
            rng: Source of the weights.

        Raises:
            UsageError: If the kind cannot take such a state.
        """


@contextmanager
def seeded_init(rng: Rng) -> Generator[None]:
    """Let the modules made inside take their weights from addressed draws, and leave torch's generator as it was."""
    seed = rng.stream("weights").shared_generator().initial_seed()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the accelerators' generators too
        yield


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


T = TypeVar("T")
DEFAULT_PARAMETER_BYTES = 2**30
"""Bytes of weights that do no harm, where nothing tells how many there must be."""


def limit_parameter_bytes(max_bytes: int, build: Callable[[], T]) -> T:
    """Return what is made, if the weights of all networks in it take so many bytes at most.

    Layers tell of their weights when these have a place but no values yet, so that no memory is filled beyond that
    size, and a network of endless depth ends at once. Networks name their device when they are made, so counting on
    torch's meta device would save nothing.

    Raises:
        InputError: If they take more.
    """
    total, mine = 0, threading.get_ident()

    def on_parameter(owner: nn.Module, name: str, weights: Tensor | None) -> None:
        nonlocal total
        if threading.get_ident() != mine:  # torch tells of the networks of all threads
            return
        total += 0 if weights is None else weights.numel() * weights.element_size()
        if total > max_bytes:
            raise InputError(
                f"its weights take {total:,} bytes or more",
                expected=f"{max_bytes:,} at most",
                remedy="Copy the whole run",
            )

    hook = module.register_module_parameter_registration_hook(on_parameter)
    try:
        return build()
    finally:
        hook.remove()
