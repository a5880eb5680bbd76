"""How a journey speaks: to nobody by default, to a terminal where a command asks for it."""

import contextlib
import os

from feller.core.errors import warn

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Reporter:
    """Hears what a journey says; this one listens in silence."""

    def __repr__(self) -> str:
        """Say its name in signatures."""
        return f"{type(self).__name__}()"

    def log(self, text: str) -> None:
        """Hear one line."""

    def note(self, text: str) -> None:
        """Hear what was made of data, in one line."""
        self.log(text)

    def progress(self, fraction: float, text: str = "") -> None:
        """Hear that a share of the present task is done, and how it stands."""

    def start(self, name: str) -> None:
        """Hear that a task begins; it ends with the next or with `finish`."""

    def finish(self) -> None:
        """Hear that the present task has ended."""

    def spinner(self, what: str) -> contextlib.AbstractContextManager[object]:
        """Hear that something goes on inside the block of which nobody knows how long it takes."""
        return contextlib.nullcontext()


class Warner(Reporter):
    """Shows no progress, and warns of what was made of data, as Python does: for scripts."""

    def note(self, text: str) -> None:
        warn(text)


SILENT = Reporter()


def is_main_process() -> bool:
    """Tell whether this process speaks to people: of several that a launcher has started, the first."""
    return os.environ.get("RANK", "0") == "0"


def format_duration(seconds: float) -> str:
    """Say a time as people do, with two digits at most."""
    for unit, size in (("day", DAY), ("hour", HOUR), ("minute", MINUTE), ("second", 1.0)):
        if seconds >= 1.5 * size or unit == "second":
            number = f"{float(f'{max(seconds / size, 1):.2g}'):g}"
            return f"{number} {unit}{'' if number == '1' else 's'}"
    raise AssertionError("every time has a unit")
