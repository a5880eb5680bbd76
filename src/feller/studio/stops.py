"""Requests of visitors that can be stopped while they are worked on, or wait."""

import contextlib
import threading
from collections.abc import Iterator

from feller.studio.heard import Heard


class Stops:
    """Knows what is worked on, by whose page asked for it and on which tab."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: dict[tuple[str, str], Heard] = {}
        self._stopped: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def working(self, session: str, tab: str, heard: Heard) -> Iterator[None]:
        """Let a request be stopped until the end of the block; one that was stopped while it waited stops at once."""
        who = session, tab
        with self._lock:
            self._works[who] = heard
            if who in self._stopped:
                heard.stop()
        try:
            yield
        finally:
            with self._lock:
                self._works.pop(who, None)
                self._stopped.discard(who)

    def stop(self, session: str, tab: str) -> None:
        """Stop what a page has asked for, now or as soon as its turn comes."""
        with self._lock:
            self._stopped.add((session, tab))
            if (session, tab) in self._works:
                self._works[session, tab].stop()
