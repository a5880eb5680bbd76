"""What a journey says, kept for the page."""

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator

from feller.app.reporter import Tell

EACH = 1.0
"""Seconds between two words on a task of which no share is known."""


class Stopped(Exception):
    """A visitor wants no more of it."""


class Heard(Tell):
    """Keeps lines, and hands on which share of a task is done; None where it is not known.

    Once it is stopped, whatever a journey says next raises `Stopped`.
    """

    def __init__(self, progress: Callable[[float | None, str], None] = lambda share, text: None) -> None:
        self.lines: list[str] = []
        self._progress, self._task, self._share, self._since = progress, "", 0.0, time.monotonic()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End what is told of here as soon as it tells something; from any thread."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether somebody wants no more of it."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Go on unless it was stopped.

        Raises:
            Stopped: Then.
        """
        if self.is_stopped:
            raise Stopped

    def say(self, text: str) -> None:
        """Keep one line."""
        self.check()
        self.lines.append(text)

    def task(self, name: str) -> None:
        """Begin."""
        self.check()
        self._task, self._share, self._since = name, 0.0, time.monotonic()
        self._progress(None, f"{name} ...")

    def progress(self, share: float, text: str = "") -> None:
        """Hand it on."""
        self.check()
        self._share = min(share, 1.0)
        if self._share > 0:
            self._progress(self._share, f"{self._task} {text}".strip())

    def wait(self) -> None:
        """Tell how long a task has taken, as long as no share of it is known."""
        if self._task and self._share == 0:
            self._progress(None, f"{self._task}, {time.monotonic() - self._since:.0f} s")


@contextlib.contextmanager
def passing(heard: Heard) -> Iterator[None]:
    """Let the seconds that pass be told until the end of the block."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(EACH):
            heard.wait()

    around = contextvars.copy_context()  # by which Gradio knows whose request it is
    thread = threading.Thread(target=around.run, args=(tick,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
