"""What a journey says, kept for the page."""

from collections.abc import Callable

from feller.journeys.tell import Tell


class Heard(Tell):
    """Keeps lines, and hands on which share of a task is done."""

    def __init__(self, progress: Callable[[float, str], None] = lambda share, text: None) -> None:
        self.lines: list[str] = []
        self._progress, self._task = progress, ""

    def say(self, text: str) -> None:
        """Keep one line."""
        self.lines.append(text)

    def task(self, name: str) -> None:
        """Begin."""
        self._task = name
        self._progress(0.0, name)

    def progress(self, share: float, text: str = "") -> None:
        """Hand it on."""
        self._progress(min(share, 1.0), f"{self._task} {text}".strip())
