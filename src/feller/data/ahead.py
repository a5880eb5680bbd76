"""Batches that are read while the one before is learned from."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

Key = tuple[int, tuple[int | None, int | None, int | None]]


class Ahead:
    """Gives what a function gives, and begins with the next step's batch before it is asked for.

    The function depends on its arguments alone, so that what is read early is what would be read late: a guess that
    fails costs time and nothing else.
    """

    def __init__(self, read: Callable[[int, slice], Any]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._waiting: dict[Key, Future[Any]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feller-ahead")
        self._last: int | None = None

    def __call__(self, step: int, rows: slice) -> Any:
        """Return the rows of a step's batch."""
        key = (step, (rows.start, rows.stop, rows.step))
        with self._lock:
            ready = self._waiting.pop(key, None)
            for wrong in self._waiting.values():
                wrong.cancel()
            self._waiting.clear()
            stride = 1 if self._last is None or step <= self._last else step - self._last
            self._last = step
        found = self._read(step, rows) if ready is None else ready.result()
        after = step + stride
        with self._lock:
            self._waiting[(after, key[1])] = self._reader.submit(self._read, after, rows)
        return found
