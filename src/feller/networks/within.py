"""Networks that a file describes, made only as far as the weights that lie beside it go."""

import threading
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.modules import module

from feller.core.errors import InputError

T = TypeVar("T")
PLENTY = 2**30
"""Bytes of weights that do no harm, where nothing tells how many there must be."""


def within(most: int, make: Callable[[], T]) -> T:
    """Return what is made, if the weights of all networks in it take so many bytes at most.

    Layers tell of their weights when these have a place but no values yet, so that no memory is filled beyond that
    size, and a network of endless depth ends at once. Networks name their device when they are made, so counting on
    torch's meta device would save nothing.

    Raises:
        InputError: If they take more.
    """
    total, mine = 0, threading.get_ident()

    def seen(owner: nn.Module, name: str, weights: Tensor | None) -> None:
        nonlocal total
        if threading.get_ident() != mine:  # torch tells of the networks of all threads
            return
        total += 0 if weights is None else weights.numel() * weights.element_size()
        if total > most:
            raise InputError(f"its weights take {total:,} bytes or more, expected {most:,} at most; copy the whole run")

    hook = module.register_module_parameter_registration_hook(seen)
    try:
        return make()
    finally:
        hook.remove()
