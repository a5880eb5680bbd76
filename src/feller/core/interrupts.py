"""How long work hears that it is to end."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

DEBOUNCE_SECONDS = 1.0
"""After a Ctrl-C, in which another is the same."""


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let a polite request to end act as Ctrl-C does: at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle_signal(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def interrupt_event() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C, or a polite request to end, into a flag; a second Ctrl-C acts at once.

    One that follows within a second is the same: a launcher of several processes passes on what they have heard.
    """
    stop_requested, first = threading.Event(), math.inf
    if threading.current_thread() is not threading.main_thread():
        yield stop_requested
        return

    def handle_signal(number: int, frame: Any) -> None:
        nonlocal first
        if number == signal.SIGINT and time.monotonic() - first > DEBOUNCE_SECONDS:
            raise KeyboardInterrupt
        first = min(first, time.monotonic())
        stop_requested.set()

    before = {number: signal.signal(number, handle_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
