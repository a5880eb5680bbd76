"""Handling of Ctrl-C and SIGTERM in long computations."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

DEBOUNCE_SECONDS = 1.0
"""Seconds after the first Ctrl-C during which further interrupts are ignored."""


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Within the context, raise KeyboardInterrupt on SIGTERM, as on Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle_signal(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, handle_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


@contextlib.contextmanager
def interrupt_event() -> Iterator[threading.Event]:
    """Yield an event that is set on the first Ctrl-C or SIGTERM; a second Ctrl-C raises KeyboardInterrupt.

    A second Ctrl-C within `DEBOUNCE_SECONDS` is ignored, because multi-process launchers forward the same signal again.
    """
    stop_requested, first_time = threading.Event(), math.inf
    if threading.current_thread() is not threading.main_thread():
        yield stop_requested
        return

    def handle_signal(signum: int, frame: Any) -> None:
        nonlocal first_time
        if signum == signal.SIGINT and time.monotonic() - first_time > DEBOUNCE_SECONDS:
            raise KeyboardInterrupt
        first_time = min(first_time, time.monotonic())
        stop_requested.set()

    previous_handlers = {signum: signal.signal(signum, handle_signal) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_requested
    finally:
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)
