"""Requests of visitors that can be stopped while they are worked on, or wait."""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

from feller.app.webui.heard import Heard

BEGINS = "begins"
"""Attribute of what a button does: hears the session of whoever asks for it, before it waits for its turn."""
MOST = 1000
"""Sessions whose wish to stop is remembered until the turn of their request comes; the oldest are forgotten."""


class Stops:
    """Knows what is worked on for one tab of a page, and whose page asked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: dict[str, Heard] = {}
        self._stopped: deque[str] = deque(maxlen=MOST)

    def begin(self, session: str) -> None:
        """Hear that a page asks for something new, which what it stopped before has nothing to do with."""
        with self._lock:
            self._forget(session)

    @contextlib.contextmanager
    def working(self, session: str, heard: Heard) -> Iterator[None]:
        """Let a request be stopped until the end of the block; one that was stopped while it waited stops at once."""
        with self._lock:
            self._works[session] = heard
            if session in self._stopped:
                heard.stop()
        try:
            yield
        finally:
            with self._lock:
                self._works.pop(session, None)
                self._forget(session)

    def stop(self, session: str) -> None:
        """Stop what a page has asked for, now or as soon as its turn comes."""
        with self._lock:
            self._forget(session)
            self._stopped.append(session)
            if session in self._works:
                self._works[session].stop()

    def _forget(self, session: str) -> None:
        if session in self._stopped:
            self._stopped.remove(session)
