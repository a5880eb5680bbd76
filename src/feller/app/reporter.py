"""Progress and log output of workflows; silent by default."""

import contextlib
import os

from feller.core.errors import warn

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Reporter:
    """Receiver of the log lines and progress of a workflow; this base class ignores both."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def log(self, text: str) -> None:
        """Log one line."""

    def note(self, text: str) -> None:
        """Log a note about how the data were interpreted."""
        self.log(text)

    def progress(self, fraction: float, text: str = "") -> None:
        """Report the completed fraction of the current task, with a status text."""

    def start(self, name: str) -> None:
        """Begin the task `name`; the task ends at the next call of `start` or `finish`."""

    def finish(self) -> None:
        """End the current task."""

    def spinner(self, what: str) -> contextlib.AbstractContextManager[object]:
        """Return a context manager that shows a spinner with the text `what` during a task of unknown length."""
        return contextlib.nullcontext()


class Warner(Reporter):
    """Reporter without a display: ignores progress, and turns notes about the data into Python warnings."""

    def note(self, text: str) -> None:
        warn(text)


SILENT = Reporter()


def is_main_process() -> bool:
    """Return True in the process with rank 0, which prints messages and writes files."""
    return os.environ.get("RANK", "0") == "0"


def format_duration(seconds: float) -> str:
    """Format a duration with one unit and two significant digits, such as "3.5 minutes"."""
    for unit, size in (("day", DAY), ("hour", HOUR), ("minute", MINUTE), ("second", 1.0)):
        if seconds >= 1.5 * size or unit == "second":
            number = f"{float(f'{max(seconds / size, 1):.2g}'):g}"
            return f"{number} {unit}{'' if number == '1' else 's'}"
    raise AssertionError("unreachable")
